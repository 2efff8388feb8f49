package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/berthhq/berth/drivers/drivertest"
)

// Explored is the result of [Explore].
type Explored struct {
	Schedules int   // that were run
	Hit       bool  // the fault struck in one of them
	Violation error // the first one, with its schedule
}

// Explore runs the scenario in every schedule, up to most of them if most is not
// zero. It leaves out schedules that differ from another one only in the order of
// calls that are independent of each other. For that it keeps sleep sets (P.
// Godefroid, Partial-Order Methods for the Verification of Concurrent Systems,
// 1996, chapter 5), which leave out schedules but no state of the bucket.
func Explore(t *testing.T, s Scenario, most int) Explored {
	t.Helper()
	var done Explored
	synctest.Test(t, func(t *testing.T) {
		e := &explorer{scenario: &s}
		for more := true; more && done.Violation == nil && (most == 0 || done.Schedules < most); {
			r, err := e.run(t.Context())
			done.Schedules++
			if r != nil {
				_, hit := r.fault.Hit()
				done.Hit = done.Hit || hit
			}
			if err != nil && !errors.Is(err, errPruned) {
				done.Violation = err
			}
			more = e.next()
		}
	})
	return done
}

// explorer searches the tree of schedules, depth first.
type explorer struct {
	scenario *Scenario
	path     []*node

	// Of the schedule that is run.
	asleep  map[string]bool // at the next depth
	strayed string
}

// node is a position in a schedule: what could be chosen there, what was chosen,
// and what need not be.
type node struct {
	waiting []string
	asleep  map[string]bool
	picked  string
}

// pick picks the next step that was not tried. It returns false if there is none.
func (n *node) pick() bool {
	for _, id := range n.waiting {
		if !n.asleep[id] {
			n.picked = id
			return true
		}
	}
	return false
}

// run runs the schedule of the path, and extends the path to its end.
func (e *explorer) run(ctx context.Context) (*Run, error) {
	r, err := e.scenario.start(ctx, &schedule{limit: e.scenario.RequestLimit})
	if err != nil {
		return nil, err
	}
	defer r.Bucket.Close()
	e.asleep, e.strayed = map[string]bool{}, ""
	err = r.follow(len(e.path)-1, e.choose)
	if e.strayed != "" {
		err = fmt.Errorf("the schedule differs when it is repeated: no %s", e.strayed)
	}
	if err != nil && !errors.Is(err, errPruned) {
		err = r.report(err)
	}
	return r, err
}

// choose is the chooser of the explorer.
func (e *explorer) choose(depth int, waiting []*step) *step {
	if depth == len(e.path) {
		n := &node{asleep: e.asleep}
		for _, s := range waiting {
			n.waiting = append(n.waiting, s.id)
		}
		if !n.pick() {
			return nil
		}
		e.path = append(e.path, n)
	}
	n := e.path[depth]
	picked := named(waiting, n.picked)
	if picked == nil {
		e.strayed = n.picked
		return nil
	}
	e.asleep = map[string]bool{}
	for _, s := range waiting {
		if n.asleep[s.id] && s.independent(picked) {
			e.asleep[s.id] = true
		}
	}
	return picked
}

func named(steps []*step, id string) *step {
	for _, s := range steps {
		if s.id == id {
			return s
		}
	}
	return nil
}

// next moves the path to the next schedule. It returns false if there is none.
func (e *explorer) next() bool {
	for len(e.path) > 0 {
		n := e.path[len(e.path)-1]
		n.asleep[n.picked] = true
		if n.pick() {
			return true
		}
		e.path = e.path[:len(e.path)-1]
	}
	return false
}

// Draw runs the scenario in a schedule that rng draws. It belongs in a bubble of
// package testing/synctest.
func (s Scenario) Draw(ctx context.Context, rng *rand.Rand) error {
	r, err := s.start(ctx, &schedule{limit: s.RequestLimit})
	if err != nil {
		return err
	}
	defer r.Bucket.Close()
	if err := r.follow(0, func(_ int, waiting []*step) *step { return waiting[rng.IntN(len(waiting))] }); err != nil {
		return r.report(err)
	}
	return nil
}

// EveryFault plays the scenario once for each of the faults and each call of
// their actor that it can strike. The fault's Nth is ignored. EveryFault returns
// the number of plays.
func EveryFault(t *testing.T, s Scenario, faults ...Fault) (plays int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		for _, f := range faults {
			for hit := true; hit; plays++ {
				f.Nth++
				s.Fault = f
				var call drivertest.Call
				var err error
				if call, hit, err = s.Play(t.Context()); err != nil {
					t.Fatalf("call %d, %s, is %s: %v", f.Nth, call, f, err)
				}
			}
		}
	})
	return plays
}
