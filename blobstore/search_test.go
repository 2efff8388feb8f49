package blobstore

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/berthhq/berth/drivers/memory"
)

// Three to five clients, of one session and of the blob that it becomes, in
// schedules drawn at random, often with one write that comes late. The seed of a
// schedule that fails is printed; BERTH_TEST_SEED runs that schedule alone.
func TestSearch(t *testing.T) {
	if s := os.Getenv("BERTH_TEST_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if violation := search(t, seed); violation != nil {
			t.Error(violation)
		}
		return
	}
	schedules := 1500
	if soak() {
		schedules = 100_000
	}
	for range schedules {
		seed := rand.Uint64()
		if violation := search(t, seed); violation != nil {
			t.Fatalf("BERTH_TEST_SEED=%d: %v", seed, violation)
		}
	}
}

// search runs the schedule of this seed.
func search(t *testing.T, seed uint64) (violation error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 0))
		e := newExplorer(t, draw(rng))
		err := e.run(t, 0, func(_ int, waiting []*step) *step { return waiting[rng.IntN(len(waiting))] })
		if err != nil {
			violation = e.report(err)
		}
	})
	return violation
}

// draw draws a scenario.
func draw(rng *rand.Rand) scenario {
	all := contests()
	s := all[rng.IntN(len(all))]
	var actors []actor
	for _, a := range s.actors {
		actors = append(actors, a.actor)
	}
	actors = append(actors, blobActors(s.x)...)
	rng.Shuffle(len(actors), func(i, j int) { actors[i], actors[j] = actors[j], actors[i] })
	states := slices.DeleteFunc(recordStates(), func(r recordState) bool {
		return r.lost || r.data && len(s.x) <= tinyInline
	})
	state := states[rng.IntN(len(states))]
	habits := []memory.Habits{tinyS3(), memory.GCS(), memory.Azure(), streaming()}
	sc := scenario{
		habits: habits[rng.IntN(len(habits))],
		setup: func(w *stage) error {
			return errors.Join(state.leave(w.clients[0], repoB, s.x), s.setup(w))
		},
		rivals: true,
		actors: actors[:3+rng.IntN(3)],
	}
	if rng.IntN(2) == 0 {
		sc.late = lateWrite{rng.IntN(len(sc.actors)), 1 + rng.IntN(10)}
	}
	return sc
}
