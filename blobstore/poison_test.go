package blobstore

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// No interleaving of requests may publish bytes under a digest that they do not
// have. Here two clients use one session, with bytes of one size and one CRC-32C,
// in every interleaving, on every driver that needs no server. The invariants hash
// all stored bytes at every step.

// onEachStore explores a scenario on each kind of store.
func onEachStore(t *testing.T, sc scenario) {
	t.Helper()
	name := sc.name
	for store, h := range tinyStores() {
		sc.name, sc.habits = name+"/"+store, h
		everyInterleaving(t, sc)
	}
	sc.name, sc.open = name+"/filesystem", inFiles(t)
	everyInterleaving(t, sc)
}

// TestAttack9OverlappingPatches overlaps PATCHes with different bytes. At most one
// of the contents commits, and it is whole.
func TestAttack9OverlappingPatches(t *testing.T) {
	for name, before := range map[string]int{"fresh": 0, "tail": 100, "part and tail": 300} {
		s := sharedSession{sent: before, rest: 600 - before}
		s.x, s.y = twins(1, 600, s.rest)
		onEachStore(t, scenario{
			name:   name,
			setup:  patchedBy(s.x[:before]),
			rivals: true,
			actors: []actor{{"A", s.patchAndPut(s.x)}, {"B", s.patchAndPut(s.y)}},
		})
	}
}

// TestAttack4TwoContentsOneCRC continues from one record with two PUTs of different
// bytes, and loses the response of each Complete.
func TestAttack4TwoContentsOneCRC(t *testing.T) {
	s := sharedSession{sent: 300, rest: 300}
	s.x, s.y = twins(1, 600, s.rest)
	onEachStore(t, scenario{
		name:   "lost responses of Complete",
		setup:  patchedBy(s.x[:300]),
		rivals: true,
		actors: []actor{{"A", s.put(s.x)}, {"B", s.put(s.y)}},
		tamper: loseResponses,
	})
}

// loseResponses returns a bucket that loses the response of the first Complete of
// each key.
func loseResponses(b drivers.Bucket) drivers.Bucket {
	var mu sync.Mutex
	seen := map[string]bool{}
	return drivertest.Wrap(b, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		err := do(ctx)
		if err != nil || c.Method != "Complete" {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if seen[c.Key] {
			return nil
		}
		seen[c.Key] = true
		return drivertest.ErrInjected
	})
}

// TestGetIsACopy checks that a caller who changes the bytes of a manifest does not change
// what other callers get.
func TestGetIsACopy(t *testing.T) {
	p := newPushes(t, Config{})
	put := imageOf(p.blob("config"))
	must(t, p.put(put))
	for range 2 {
		got, err := p.Manifests().Get(t.Context(), put.Digest)
		must(t, err)
		if !bytes.Equal(got.Content, put.Content) {
			t.Fatalf("Get = %q, want %q", got.Content, put.Content)
		}
		clear(got.Content)
	}
}
