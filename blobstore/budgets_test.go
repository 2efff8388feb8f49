package blobstore_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
)

var update = flag.Bool("update", false, "rewrite the traces in testdata/trace")

// protocol is an operation of the HTTP API. Its trace, which is the file of that
// name in testdata/trace, documents the calls to the store that it makes.
type protocol struct {
	name string // of the file
	text string // the heading of the file
	rows []operation
}

// operation is a protocol with certain bytes, in a certain situation.
type operation struct {
	name string

	// budget is the largest number of requests to the store. If another
	// operation's cost is included, the budget is a sum.
	budget int

	// before prepares the bucket. Its calls are not counted.
	before func(c *httpClient)

	// run makes the requests that are counted.
	run func(c *httpClient)

	// on opens the bucket. If it is nil, the bucket has the habits of S3 and
	// discards the bytes of blobs.
	on func(t *testing.T) drivers.Bucket
}

// TestBudgets compares the calls of each operation, at the boundary of the
// driver, with its trace in testdata/trace, and their number with its budget.
// The README's table has the number in the trace. Retries inside a store's own
// SDK are not counted. The caches of a replica are cold unless the operation is
// called warm.
//
// Run the test with -update after a change of the protocol, and review the
// differences.
func TestBudgets(t *testing.T) {
	for _, p := range protocols() {
		file := filepath.Join("testdata", "trace", p.name+".txt")
		t.Run(p.name, func(t *testing.T) {
			want := readTraces(t, file)
			got := traces{text: p.text}
			for _, op := range p.rows {
				passed := t.Run(op.name, func(t *testing.T) {
					trace := op.trace(t)
					got.sections = append(got.sections, section{op.name, trace})
					if want := want.of(op.name); !*update && trace != want {
						t.Errorf("trace differs from %s (-want +got):\n%s", file, cmp.Diff(want, trace))
					}
				})
				if !passed && *update {
					return
				}
			}
			if *update {
				if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if len(got.sections) == len(p.rows) && got.names() != want.names() {
				t.Errorf("%s has\n%s\nwant\n%s", file, want.names(), got.names())
			}
		})
	}
}

// trace runs the operation, compares the number of calls with the budget and
// returns the trace.
func (op operation) trace(t *testing.T) (trace string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		open := op.on
		if open == nil {
			open = discarding
		}
		c := openTraced(t, open(t))
		if op.before != nil {
			op.before(c)
		}
		c.trace.Reset()
		op.run(c)
		trace = c.trace.String()
		if n := c.trace.Calls(); n > op.budget {
			t.Errorf("%d requests, want at most %d:\n%s", n, op.budget, trace)
		} else if n < op.budget {
			t.Logf("%d requests, %d under the budget", n, op.budget-n)
		}
	})
	return trace
}

func discarding(t *testing.T) drivers.Bucket { t.Helper(); return openS3(t, true) }

// keeping opens a bucket with the habits of S3 that keeps the bytes of blobs.
func keeping(t *testing.T) drivers.Bucket { t.Helper(); return openS3(t, false) }

// onGCS, onAzure and onDirectory open buckets with other habits.
func onGCS(t *testing.T) drivers.Bucket {
	t.Helper()
	return openMemory(t, &memory.Store{Habits: memory.GCS(), Discard: true})
}

func onAzure(t *testing.T) drivers.Bucket {
	t.Helper()
	return openMemory(t, &memory.Store{Habits: memory.Azure(), Discard: true})
}

func onDirectory(t *testing.T) drivers.Bucket {
	t.Helper()
	return openMemory(t, &memory.Store{Discard: true})
}

// traces is the content of a file of traces.
type traces struct {
	text     string
	sections []section
}

type section struct {
	name, trace string
}

const sectionMark = "\n== "

func (f traces) String() string {
	var b strings.Builder
	for line := range strings.Lines(f.text) {
		b.WriteString(strings.TrimRight("# "+strings.TrimSuffix(line, "\n"), " ") + "\n")
	}
	for _, s := range f.sections {
		b.WriteString(sectionMark + s.name + "\n" + s.trace)
	}
	return b.String()
}

// of returns the trace of an operation.
func (f traces) of(name string) string {
	for _, s := range f.sections {
		if s.name == name {
			return s.trace
		}
	}
	return ""
}

// names returns the heading and the names of all operations, a line each.
func (f traces) names() string {
	lines := []string{f.text}
	for _, s := range f.sections {
		lines = append(lines, s.name)
	}
	return strings.Join(lines, "\n")
}

func readTraces(t *testing.T, file string) (f traces) {
	t.Helper()
	p, err := os.ReadFile(file)
	if err != nil && !*update {
		t.Fatalf("%v (run the test with -update to write it)", err)
	}
	text, rest, _ := strings.Cut(string(p), sectionMark)
	for line := range strings.Lines(text) {
		f.text += strings.TrimPrefix(strings.TrimPrefix(line, "#"), " ")
	}
	f.text = strings.TrimSuffix(f.text, "\n")
	for s := range strings.SplitSeq(rest, sectionMark) {
		name, trace, _ := strings.Cut(s, "\n")
		f.sections = append(f.sections, section{name, strings.TrimRight(trace, "\n") + "\n"})
	}
	return f
}
