package adopt

import (
	"fmt"
	"sync"
)

// Report is what a run has done, or would do.
type Report struct {
	DryRun       bool  `json:"dryRun,omitempty"`
	Repositories int64 `json:"repositories"`
	Links        int64 `json:"links"`     // to blobs
	Blobs        int64 `json:"blobs"`     // with a new record
	BlobBytes    int64 `json:"blobBytes"` // of these blobs
	Manifests    int64 `json:"manifests"`
	Referrers    int64 `json:"referrers"` // manifests with a subject
	Tags         int64 `json:"tags"`
	Older        int64 `json:"older"` // links that an earlier run has taken, or could have
	Kept         int64 `json:"kept"`  // tags and manifests that were changed here since

	// Skipped are the things that were not taken over, at most MaxSkipped. MoreSkipped is
	// the number of the others.
	Skipped     []Skip `json:"skipped"`
	MoreSkipped int64  `json:"moreSkipped,omitempty"`
}

// MaxSkipped is the largest number of entries in Report.Skipped.
const MaxSkipped = 10_000

// Skip is something that was not taken over.
type Skip struct {
	Repository string `json:"repository"`
	Kind       string `json:"kind"` // "blob", "manifest", "tag" or "repository"
	Name       string `json:"name"` // digest or tag
	Reason     string `json:"reason"`
}

// String returns the entry in one line.
func (s Skip) String() string {
	return fmt.Sprintf("%s: %s %s: %s", s.Repository, s.Kind, s.Name, s.Reason)
}

// ledger is the report of a run in progress.
type ledger struct {
	mu     sync.Mutex
	report Report
	skip   func(Skip)
}

// add changes the report.
func (l *ledger) add(change func(*Report)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.report)
}

func (l *ledger) skipped(s Skip) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.report.Skipped) < MaxSkipped {
		l.report.Skipped = append(l.report.Skipped, s)
	} else {
		l.report.MoreSkipped++
	}
	if l.skip != nil {
		l.skip(s)
	}
}

// counts returns the report without the list of what was skipped.
func (l *ledger) counts() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.report
	r.MoreSkipped += int64(len(r.Skipped))
	r.Skipped = nil
	return r
}
