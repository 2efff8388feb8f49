package trace

import (
	"fmt"
	"regexp"
	"strings"
)

// names are the names that replace ids and digests, by the id or digest.
type names map[string]string

// drawn matches ids and digests in keys and URLs. Its groups are the part of the
// key that shows the kind of the id, the two digits that some ids are filed under,
// and the id.
var drawn = regexp.MustCompile(`(data/|uploads/|meta/dead/|)(\b[0-9a-f]{2}/|)\b([0-9a-f]{128}|[0-9a-f]{64}|[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b`)

// replace returns the text with names.
func (n names) replace(text string) string {
	return drawn.ReplaceAllStringFunc(text, func(s string) string {
		f := drawn.FindStringSubmatch(s)
		area, filed, id := f[1], f[2], f[3]
		if filed != "" {
			filed = "<xx>/"
		}
		return area + filed + n.of(id, area)
	})
}

// of returns the name of an id in this area of the bucket.
func (n names) of(id, area string) string {
	kind := "data"
	switch {
	case len(id) == 64:
		kind = "sha256"
	case len(id) == 128:
		kind = "sha512"
	case area == "uploads/":
		kind = "upload"
	case area == "meta/dead/":
		kind = "entry"
	}
	if name, ok := n[id]; ok {
		return name
	}
	count := 1
	for _, name := range n {
		if strings.HasPrefix(name, "<"+kind) {
			count++
		}
	}
	n[id] = "<" + kind + ">"
	if count > 1 {
		n[id] = fmt.Sprintf("<%s %d>", kind, count)
	}
	return n[id]
}

var digits = regexp.MustCompile(`\d+`)

// shorten replaces long runs of requests that differ in numbers only by the
// first, the last, and a line that counts those between them.
func shorten(blocks []string) []string {
	var short []string
	for len(blocks) > 0 {
		n := 1
		for n < len(blocks) && digits.ReplaceAllString(blocks[n], "0") == digits.ReplaceAllString(blocks[0], "0") {
			n++
		}
		if n > 3 {
			short = append(short, blocks[0], fmt.Sprintf("... %d more such requests\n", n-2), blocks[n-1])
		} else {
			short = append(short, blocks[:n]...)
		}
		blocks = blocks[n:]
	}
	return short
}
