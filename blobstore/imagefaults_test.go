package blobstore

import (
	"math/rand/v2"
	"testing"

	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// TestFaultsOfImages plays every actor in every state of a repository, with every call
// failing in every way. If its process dies, the client repeats its request at another
// one.
func TestFaultsOfImages(t *testing.T) {
	cfg := imageConfig()
	for _, state := range imageStates() {
		for _, a := range imageActors() {
			t.Run(state.name+"/"+a.name, func(t *testing.T) {
				faults := everyFault()
				if rng := drawn(t.Name()); !long() {
					if rng.IntN(8) != 0 {
						t.SkipNow() // a bounded share
					}
					faults = faults[rng.IntN(len(faults)):][:1]
				}
				t.Parallel()
				plays := sim.EveryFault(t, scenario{
					images: &cfg,
					setup:  func(run *simRun) error { return state.leave(run.clients[0]) },
					actors: []actor{a},
					after:  aftermath,
				}.simulated(), faults...)
				t.Logf("%d plays", plays)
			})
		}
	}
}

// TestSearchOfImages runs three or four clients of one repository, and the collector, in
// schedules that are drawn, on stores of all kinds, often with a fault.
func TestSearchOfImages(t *testing.T) { searchSchedules(t, 100, 2000, drawImages) }

// drawImages returns a scenario.
func drawImages(rng *rand.Rand) scenario {
	cfg := imageConfig()
	if rng.IntN(2) == 0 {
		cfg = withoutCache(cfg)
	}
	opens := []opener{
		inMemory(tinyS3()), inMemory(memory.GCS()), inMemory(memory.Azure()), inMemory(streaming()),
		inEmptied, atTime(day), atTime(-day),
	}
	actors := imageActors()
	rng.Shuffle(len(actors), func(i, j int) { actors[i], actors[j] = actors[j], actors[i] })
	states := imageStates()
	state := states[rng.IntN(len(states))]
	sc := scenario{
		images: &cfg,
		open:   opens[rng.IntN(len(opens))],
		setup:  func(run *simRun) error { return state.leave(run.clients[0]) },
		actors: actors[:3+rng.IntN(2)],
		after:  aftermath,
	}
	if rng.IntN(2) == 0 {
		sc.fault = sim.Fault{
			Actor: rng.IntN(len(sc.actors)),
			Nth:   1 + rng.IntN(10),
			Mode:  []drivertest.Mode{drivertest.Lost, drivertest.Unanswered, drivertest.Late}[rng.IntN(3)],
			Dead:  rng.IntN(3) == 0,
		}
	}
	return sc
}
