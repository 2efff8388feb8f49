package blobstore

import (
	"context"
	"sync"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// No interleaving of requests may publish bytes under a digest that they don't
// have. Here two clients fight over one session with bytes of one size and one
// CRC-32C, in every interleaving, on every driver that needs no server; the
// checker hashes all that is stored, at every step.

// onEachStore explores a scenario on each of them.
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

// Attack 9: overlapping PATCHes with different bytes. Either one's bytes commit,
// whole, or nobody's.
func TestAttack9OverlappingPatches(t *testing.T) {
	for name, before := range map[string]int{"fresh": 0, "tail": 100, "part and tail": 300} {
		x, y := twins(1, 600, 600-before)
		patchAndPut := func(p []byte) func(c *client) error {
			return func(c *client) error {
				u, err := c.patch(repoA, c.run.session, p[before:])
				if err == nil {
					err = c.put(repoA, u, nil, p)
				}
				return c.contest(err)
			}
		}
		onEachStore(t, scenario{
			name:   name,
			setup:  patchedBy(x[:before]),
			rivals: true,
			actors: []actor{{"A", patchAndPut(x)}, {"B", patchAndPut(y)}},
		})
	}
}

// Attack 4: two PUTs of different bytes go on from one record, and the answer
// of each Complete is lost.
func TestAttack4TwoContentsOneCRC(t *testing.T) {
	x, y := twins(1, 600, 300)
	put := func(p []byte) func(c *client) error {
		return func(c *client) error { return c.contest(c.put(repoA, c.run.session, p[300:], p)) }
	}
	onEachStore(t, scenario{
		name:   "answers of Complete lost",
		setup:  patchedBy(x[:300]),
		rivals: true,
		actors: []actor{{"A", put(x)}, {"B", put(y)}},
		tamper: loseAnswers,
	})
}

// loseAnswers loses the answer of the first Complete of each key.
func loseAnswers(b drivers.Bucket) drivers.Bucket {
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
