package sim_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/internal/sim"
)

// responses is a ledger with requests for one repository, and what clients read in the end.
type responses struct {
	sim.Ledger
	now map[string]sim.Image // by tag and digest
}

var imageA, imageB = sim.Image{Name: "a"}, sim.Image{Name: "b"}

func (l *responses) put(i sim.Image, tags ...string) func(sim.Outcome) {
	return l.Putting(sim.Put{Repository: library, Digest: i.Digest(), Content: i.Bytes(), Tags: tags})
}

// has sets what clients read in the end.
func (l *responses) has(now map[string]sim.Image) {
	l.now = map[string]sim.Image{}
	for ref, i := range now {
		l.now[ref] = i
		l.now[i.Digest().String()] = i
	}
}

func (l *responses) read(_ context.Context, _, ref string) (digest.Digest, []byte, error) {
	i, ok := l.now[ref]
	if !ok {
		return "", nil, nil
	}
	return i.Digest(), i.Bytes(), nil
}

// historyCase is requests and whether their responses fit an order.
type historyCase struct {
	name string
	do   func(l *responses)
	ok   bool
}

type images = map[string]sim.Image

// collect starts a run of the collector after some time.
func (l *responses) collect(later time.Duration) {
	time.Sleep(later)
	l.Collecting()
}

func checkHistories(t *testing.T, cases []historyCase) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &responses{Ledger: sim.Ledger{Grace: time.Hour}}
				tc.do(l)
				if err := l.Settle(t.Context(), l.read); (err == nil) != tc.ok {
					t.Errorf("Settle = %v, want ok = %v", err, tc.ok)
				}
			})
		})
	}
}

func TestHistoryOfTags(t *testing.T) {
	checkHistories(t, []historyCase{
		{"a tag that moves", func(l *responses) {
			l.put(imageA, "t")(sim.Done)
			l.put(imageB, "t")(sim.Done)
			l.has(images{"t": imageB, "a": imageA})
		}, true},
		{"a tag that does not move", func(l *responses) {
			l.put(imageA, "t")(sim.Done)
			l.put(imageB, "t")(sim.Done)
			l.has(images{"t": imageA, "b": imageB})
		}, false},
		{"requests that overlap", func(l *responses) {
			a, b := l.put(imageA, "t"), l.put(imageB, "t")
			b(sim.Done)
			a(sim.Done)
			l.has(images{"t": imageB, "a": imageA})
		}, true},
		{"a tag that is lost", func(l *responses) {
			l.put(imageA, "t")(sim.Done)
			l.has(images{"a": imageA})
		}, false},
		{"a read that sees the future", func(l *responses) {
			read := l.Reading(library, "t")
			read(imageA.Digest())
			l.put(imageA, "t")(sim.Done)
			l.has(images{"t": imageA})
		}, false},
	})
}

func TestHistoryOfDeletions(t *testing.T) {
	checkHistories(t, []historyCase{
		{"a deletion", func(l *responses) {
			l.put(imageA, "t")(sim.Done)
			l.DeletingManifest(library, imageA.Digest())(sim.Done)
			l.has(nil)
		}, true},
		{"a deletion that took no effect", func(l *responses) {
			l.put(imageA, "t")(sim.Done)
			l.DeletingManifest(library, imageA.Digest())(sim.Done)
			l.has(images{"t": imageA})
		}, false},
		{"a deletion that failed, and took effect", func(l *responses) {
			l.put(imageA, "t")(sim.Done)
			l.DeletingManifest(library, imageA.Digest())(sim.Failed)
			l.has(nil)
		}, true},
		{"a 404 for what is there", func(l *responses) {
			l.put(imageA, "t")(sim.Done)
			l.DeletingManifest(library, imageA.Digest())(sim.Absent)
			l.has(images{"t": imageA})
		}, false},
		{"a tag that comes back after its deletion, by a late write", func(l *responses) {
			l.put(imageA, "t")(sim.Failed)
			l.put(imageA, "t")(sim.Done)
			l.Untagging(library, "t", false)(sim.Done)
			l.has(images{"t": imageA})
		}, true},
		{"a tag that comes back after its deletion", func(l *responses) {
			l.put(imageA, "t")(sim.Done)
			l.Untagging(library, "t", false)(sim.Done)
			l.has(images{"t": imageA})
		}, false},
		{"two deletions that overlap", func(l *responses) {
			l.put(imageA, "t")(sim.Done)
			first := l.DeletingManifest(library, imageA.Digest())
			l.DeletingManifest(library, imageA.Digest())(sim.Done)
			first(sim.Done)
			l.has(nil)
		}, true},
		{"two deletions, one after the other", func(l *responses) {
			l.put(imageA, "t")(sim.Done)
			l.DeletingManifest(library, imageA.Digest())(sim.Done)
			l.DeletingManifest(library, imageA.Digest())(sim.Done)
			l.has(nil)
		}, false},
		{"a read between a deletion and a PUT that overlaps it", func(l *responses) {
			l.put(imageB, "t")(sim.Done)
			put := l.put(imageA, "t")
			l.DeletingManifest(library, imageA.Digest())(sim.Done)
			l.Reading(library, "t")(imageB.Digest())
			put(sim.Done)
			l.has(images{"b": imageB})
		}, true},
	})
}

func TestHistoryOfConditions(t *testing.T) {
	checkHistories(t, []historyCase{
		{"two that create the tag", func(l *responses) {
			for _, i := range []sim.Image{imageA, imageB} {
				l.Putting(sim.Put{Repository: library, Digest: i.Digest(), Tags: []string{"t"}, IfAbsent: true})(sim.Done)
			}
			l.has(images{"t": imageB, "a": imageA})
		}, false},
		{"a condition that is refused without reason", func(l *responses) {
			l.Putting(sim.Put{Repository: library, Digest: imageA.Digest(), Tags: []string{"t"}, IfAbsent: true})(sim.Refused)
			l.has(nil)
		}, false},
		{"a condition that is refused", func(l *responses) {
			l.put(imageA, "t")(sim.Done)
			l.Putting(sim.Put{Repository: library, Digest: imageB.Digest(), Tags: []string{"t"}, IfAbsent: true})(sim.Refused)
			l.has(images{"t": imageA})
		}, true},
		{"an immutable tag that moves", func(l *responses) {
			l.Immutable = func(string, string) bool { return true }
			l.put(imageA, "t")(sim.Done)
			l.put(imageB, "t")(sim.Done)
			l.has(images{"t": imageB, "a": imageA})
		}, false},
		{"a manifest of an immutable tag that is deleted", func(l *responses) {
			l.Immutable = func(string, string) bool { return true }
			l.put(imageA, "t")(sim.Done)
			l.DeletingManifest(library, imageA.Digest())(sim.Done)
			l.has(nil)
		}, false},
	})
}

func TestHistoryOfCollections(t *testing.T) {
	checkHistories(t, []historyCase{
		{"a collected manifest", func(l *responses) {
			l.put(imageA)(sim.Done)
			l.collect(2 * time.Hour)
			l.has(nil)
		}, true},
		{"a manifest that was collected early", func(l *responses) {
			l.put(imageA)(sim.Done)
			l.collect(30 * time.Minute)
			l.has(nil)
		}, false},
		{"a manifest that was collected with its tag", func(l *responses) {
			l.put(imageA, "t")(sim.Done)
			l.collect(2 * time.Hour)
			l.has(nil)
		}, false},
		{"a manifest that was collected although its subject is there", func(l *responses) {
			l.put(imageA, "t")(sim.Done)
			l.put(sim.Image{Name: "c", Subject: imageA.Digest()})(sim.Done)
			l.collect(2 * time.Hour)
			l.has(images{"t": imageA})
		}, false},
	})
}
