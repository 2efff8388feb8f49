package blobstore

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// TestSearch runs three to five clients of one session, and of the blob that it
// becomes, in schedules that are drawn, often with one late write. A failure
// prints the seed of its schedule. BERTH_TEST_SEED runs that schedule only.
func TestSearch(t *testing.T) {
	if os.Getenv("BERTH_TEST_SEED") != "" {
		if violation := search(t, testSeed()); violation != nil {
			t.Error(violation)
		}
		return
	}
	schedules := 200
	if long() {
		schedules = 1500
	}
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

// search runs the schedule of a seed.
func search(t *testing.T, seed uint64) (violation error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 0))
		violation = draw(rng).simulated().Draw(t.Context(), rng)
	})
	return violation
}

// draw returns a scenario.
func draw(rng *rand.Rand) scenario {
	sessions := sharedSessions()
	s := sessions[rng.IntN(len(sessions))]
	var actors []actor
	for _, a := range s.actors() {
		actors = append(actors, a.actor)
	}
	actors = append(actors, blobActors(s.x)...)
	rng.Shuffle(len(actors), func(i, j int) { actors[i], actors[j] = actors[j], actors[i] })
	states := slices.DeleteFunc(recordStates(), func(r recordState) bool {
		return r.lost || r.hasData && len(s.x) <= tinyInline
	})
	state := states[rng.IntN(len(states))]
	habits := []memory.Habits{tinyS3(), memory.GCS(), memory.Azure(), streaming()}
	sc := scenario{
		habits: habits[rng.IntN(len(habits))],
		setup: func(run *simRun) error {
			return errors.Join(state.leave(run.clients[0], repoB, s.x), s.setup(run))
		},
		rivals: true,
		actors: actors[:3+rng.IntN(3)],
	}
	if rng.IntN(2) == 0 {
		sc.fault = sim.Fault{Actor: rng.IntN(len(sc.actors)), Nth: 1 + rng.IntN(10), Mode: drivertest.Late}
	}
	return sc
}
