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
// becomes, in schedules that are drawn, often with one late write.
func TestSearch(t *testing.T) { searchSchedules(t, 200, 1500, draw) }

// searchSchedules runs scenarios that are drawn, each in one schedule that is drawn: some
// schedules, or more of them with BERTH_TEST_LONG. A failure prints the seed of its
// scenario and schedule. BERTH_TEST_SEED runs these only.
func searchSchedules(t *testing.T, some, more int, draw func(rng *rand.Rand) scenario) {
	t.Helper()
	search := func(seed uint64) (violation error) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			violation = draw(rng).simulated().Draw(t.Context(), rng)
		})
		return violation
	}
	if os.Getenv("BERTH_TEST_SEED") != "" {
		if violation := search(testSeed()); violation != nil {
			t.Error(violation)
		}
		return
	}
	schedules := some
	if long() {
		schedules = more
	}
	if soak() {
		schedules = 100_000
	}
	for range schedules {
		seed := rand.Uint64()
		if violation := search(seed); violation != nil {
			t.Fatalf("BERTH_TEST_SEED=%d: %v", seed, violation)
		}
	}
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
