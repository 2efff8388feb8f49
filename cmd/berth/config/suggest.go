package config

import (
	"fmt"
	"strings"
)

// suggest returns "; did you mean X?" for the name that is most similar to name. It
// returns "" if none is similar.
func suggest(name string, names []string) string {
	best, least := "", 1+max(2, len(name)/6)
	for _, n := range names {
		if strings.HasSuffix(n, "."+name) || strings.HasSuffix(n, "_"+strings.TrimPrefix(name, envPrefix)) {
			return fmt.Sprintf("; did you mean %s?", n)
		}
		if d := distance(name, n); d < least {
			best, least = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// distance returns the Levenshtein distance of a and b: the number of bytes to
// insert, delete or change.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := diagonal
			if a[i] != b[j] {
				changed++
			}
			diagonal = row[j+1]
			row[j+1] = min(changed, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
