package scrub

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
)

// Problem is what is wrong with a blob or a manifest.
type Problem string

// Problems.
const (
	Damaged    Problem = "damaged"    // its bytes do not have its digest
	Missing    Problem = "missing"    // its bytes, or the link or manifest itself, are not there
	Unreadable Problem = "unreadable" // the store returns an error
)

// Finding is a blob or a manifest that is not as it should be.
type Finding struct {
	Problem Problem       `json:"problem"`
	Kind    string        `json:"kind"` // "blob" or "manifest"
	Digest  digest.Digest `json:"digest"`
	Reason  string        `json:"reason"`

	// Repositories have the blob or manifest, or refer to it. Tags, as name:tag, name an
	// image that it breaks. Each list has at most MaxNames, and More reports whether there
	// are more.
	Repositories []string `json:"repositories"`
	Tags         []string `json:"tags"`
	More         bool     `json:"more,omitempty"`

	// Quarantined reports whether the blob is marked as damaged, so that a push heals it.
	Quarantined bool `json:"quarantined,omitempty"`
}

// Limits of a report.
const (
	MaxNames    = 100
	MaxFindings = 1000
)

// String returns the finding in one line.
func (f Finding) String() string {
	s := fmt.Sprintf("%s %s %s: %s", f.Problem, f.Kind, f.Digest, f.Reason)
	if len(f.Repositories) > 0 {
		s += "; in " + strings.Join(f.Repositories, ", ")
	}
	if len(f.Tags) > 0 {
		s += "; breaks " + strings.Join(f.Tags, ", ")
	}
	if f.More {
		s += " and more"
	}
	return s
}

// Report is what a run has found. The counts are those of this run. The findings are also
// those of interrupted runs that it has continued.
type Report struct {
	Cheap     bool    `json:"cheap,omitempty"`
	Resumed   bool    `json:"resumed,omitempty"`
	Complete  bool    `json:"complete"` // the end of the bucket was reached
	Done      float64 `json:"done"`     // share of all blobs, 0 to 1
	Blobs     int64   `json:"blobs"`
	Bytes     int64   `json:"bytes"` // that were read and hashed
	Manifests int64   `json:"manifests"`
	Verified  int64   `json:"verified"` // adopted blobs that have become live
	Restored  int64   `json:"restored"` // damaged blobs that are whole after all
	Links     int64   `json:"links"`    // that were replaced
	Slow      int64   `json:"slow"`     // blobs that took longer than the request limit, and were not changed

	Findings     []Finding `json:"findings"`
	MoreFindings int64     `json:"moreFindings,omitempty"`
}

// ledger is the report of a run in progress.
type ledger struct {
	mu     sync.Mutex
	report Report
	byKey  map[string]int // indices into report.Findings
	notify func(Finding)
}

func (l *ledger) add(change func(*Report)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.report)
}

func key(kind string, d digest.Digest) string { return kind + " " + d.String() }

// found adds a finding, or its repositories to the one of the same blob or manifest.
func (l *ledger) found(f Finding) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, known := l.byKey[key(f.Kind, f.Digest)]
	switch {
	case known:
		old := &l.report.Findings[at]
		old.Repositories = addNames(old, old.Repositories, f.Repositories...)
		old.Quarantined = old.Quarantined || f.Quarantined
		return
	case len(l.report.Findings) >= MaxFindings:
		l.report.MoreFindings++
	default:
		names := f.Repositories
		f.Repositories, f.Tags = []string{}, []string{}
		f.Repositories = addNames(&f, f.Repositories, names...)
		l.byKey[key(f.Kind, f.Digest)] = len(l.report.Findings)
		l.report.Findings = append(l.report.Findings, f)
	}
	if l.notify != nil {
		l.notify(f)
	}
}

// isBad reports whether there is a finding about the blob or manifest.
func (l *ledger) isBad(kind string, d digest.Digest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, bad := l.byKey[key(kind, d)]
	return bad
}

// breaks adds a tag to a finding.
func (l *ledger) breaks(key, tag string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.byKey[key]; ok {
		f := &l.report.Findings[at]
		f.Tags = addNames(f, f.Tags, tag)
	}
}

// addNames adds names to a list of a finding, each once.
func addNames(f *Finding, to []string, names ...string) []string {
	for _, name := range names {
		switch {
		case slices.Contains(to, name):
		case len(to) < MaxNames:
			to = append(to, name)
		default:
			f.More = true
		}
	}
	return to
}

// snapshot returns a copy of the report.
func (l *ledger) snapshot() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.report
	r.Findings = slices.Clone(r.Findings)
	return r
}
