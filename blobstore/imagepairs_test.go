package blobstore

import (
	"strings"
	"testing"
)

// TestEveryInterleavingOfAnImage runs two clients of one repository, in every state. The
// collector runs beside them and after them.
func TestEveryInterleavingOfAnImage(t *testing.T) {
	cfg := imageConfig()
	actors := imageActors()
	for _, state := range imageStates() {
		for i, a := range actors {
			for _, b := range actors[i:] {
				name := state.name + "/" + a.name + " and " + b.name
				if !long() && drawn(name+" pair").IntN(12) != 0 {
					continue // a bounded share of many pairs
				}
				everyInterleaving(t, scenario{
					name:   name,
					images: &cfg,
					setup:  func(run *simRun) error { return state.leave(run.clients[0]) },
					actors: []actor{{"A " + a.name, a.run}, {"B " + b.name, b.run}},
					after:  aftermath,

					// The collector makes dozens of calls.
					endless: strings.HasPrefix(a.name, "collect") || strings.HasPrefix(b.name, "collect"),
				})
			}
		}
	}
}
