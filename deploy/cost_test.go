package deploy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// List prices in US dollars. They are those of standard storage in US regions; on all
// three clouds writes and lists cost ten times and more what reads cost, and deletes are
// free.
const (
	writesPerMillion = 5.00 // also lists
	readsPerMillion  = 0.40
)

// calls are the requests to the store of an operation, by their price.
type calls struct{ writes, reads, free int }

func (c calls) plus(n int, more calls) calls {
	return calls{c.writes + n*more.writes, c.reads + n*more.reads, c.free + n*more.free}
}

// dollars returns the price of a million such operations.
func (c calls) dollars() float64 {
	return float64(c.writes)*writesPerMillion + float64(c.reads)*readsPerMillion
}

// traced returns the requests of a section of a trace in blobstore/testdata.
func traced(t *testing.T, file, section string) calls {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "blobstore", "testdata", "trace", file+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(data), "\n== "+section+"\n")
	if !ok {
		t.Fatalf("%s.txt has no section %q", file, section)
	}
	text, _, _ = strings.Cut(text+"\n== ", "\n== ")
	var c calls
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "    ") && !strings.HasPrefix(line, "  | ") {
			if sum := 0; strings.Contains(line, "to the store") {
				if _, err := fmt.Sscanf(line, "%d request", &sum); err != nil || sum != c.writes+c.reads+c.free {
					t.Fatalf("%s, %s: counted %d calls, %v, want %s", file, section, c.writes+c.reads+c.free, err, line)
				}
			}
			continue
		}
		words := strings.Fields(strings.TrimPrefix(line, "  |"))
		n := repeats(t, line)
		switch words[0] {
		case "Create", "Replace", "StartUpload", "PutPart", "StreamPart", "Complete", "List", "Uploads":
			c.writes += n
		case "Open", "Stat":
			c.reads += n
		case "SignGet": // by the key, without a request
		case "Delete", "DeleteIf", "Abort":
			c.free += n
		default:
			t.Fatalf("%s: no price for %q", file, line)
		}
	}
	return c
}

// repeats returns the number of calls that a line of a trace stands for.
func repeats(t *testing.T, line string) int {
	t.Helper()
	_, numbers, several := strings.Cut(line, " parts ")
	if !several {
		return 1
	}
	var first, last int
	if _, err := fmt.Sscanf(numbers, "%d to %d,", &first, &last); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return last - first + 1
}

// TestCosts computes the table of costs in the README from the traces.
func TestCosts(t *testing.T) {
	t.Parallel()
	const layers = 5
	unknown := traced(t, "pull", "HEAD of an unknown blob")
	push := calls{}.plus(layers+1, unknown). // clients ask first
							plus(layers, traced(t, "push-by-patch", "102.4 MB")).
							plus(1, traced(t, "push-by-patch", "10 KB")).
							plus(1, traced(t, "push-manifest", "new tag"))
	shared := calls{}.plus(1, unknown).
		plus(1, traced(t, "push-by-patch", "10 KB")).
		plus(layers, traced(t, "mount", "1 MB")).
		plus(1, traced(t, "push-manifest", "new tag"))
	cold := calls{}.plus(1, traced(t, "pull-manifest", "GET by tag, cold")).
		plus(layers, traced(t, "pull", "GET of 1 MB, cold")).
		plus(1, traced(t, "pull", "GET of 10 KB, cold"))
	warm := calls{}.plus(1, traced(t, "pull-manifest", "GET by tag, cached"))
	var want strings.Builder
	want.WriteString("| operation | writes | reads | per million |\n|---|--:|--:|--:|\n")
	for _, row := range []struct {
		name string
		calls
	}{
		{"push of an image with 5 new layers of 102.4 MB", push},
		{"push of an image with 5 mounted layers", shared},
		{"pull at a replica that has read nothing yet", cold},
		{"pull at a replica that has read the image", warm},
		{"fetches by clients of the 5 layers, by redirect to the store", calls{reads: layers}},
	} {
		fmt.Fprintf(&want, "| %s | %d | %d | $%.2f |\n", row.name, row.writes, row.reads, row.dollars())
	}
	const begin, end = "<!-- costs -->\n", "<!-- end of costs -->\n"
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(readme), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("README.md has no %q and %q", begin, end)
	}
	if *update {
		if err := os.WriteFile("README.md", []byte(before+begin+want.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want.String(), got); diff != "" {
		t.Errorf("README.md has other costs; run go test ./deploy -run Costs -update (-want +got):\n%s", diff)
	}
}
