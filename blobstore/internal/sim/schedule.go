package sim

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/drivers/drivertest"
)

// schedule makes the calls of all actors wait for their turn. Between two calls
// nothing else runs, so a schedule is no more than the order of the calls, and
// can be repeated.
type schedule struct {
	mu      sync.Mutex
	waiting []*step
	made    map[string]int // calls, by kind
	stopped bool
	trace   []string
	landing bool // the late write is among the steps

	limit time.Duration // see Scenario.RequestLimit
}

// step is a call that waits for its turn.
type step struct {
	id    string // names it in every schedule in which it waits
	actor string
	call  drivertest.Call
	make  func() // lets the call be made, and returns immediately
}

func (s *step) String() string { return s.actor + ": " + s.call.String() }

// independent reports whether two steps, made in either order, leave the same
// bucket and get the same results.
func (s *step) independent(other *step) bool {
	a, b := s.call, other.call
	switch {
	case a.Method == passes || b.Method == passes:
		return false
	case a.Method == boundary || b.Method == boundary:
		return !a.Writes() || !b.Writes() // a boundary counts as a write
	case !a.Writes() && !b.Writes():
		return true
	case a.Method == "List":
		return !strings.HasPrefix(b.Key, a.Key)
	case b.Method == "List":
		return !strings.HasPrefix(a.Key, b.Key)
	default:
		return a.Key != b.Key
	}
}

var (
	// errPruned is the result of a schedule that need not be run to its end,
	// because others show all that it would.
	errPruned = errors.New("pruned")

	errStopped = errors.New("the schedule was stopped")
)

// kind distinguishes the calls that an actor may make at the same time, in any
// order. It leaves out drawn names, so that a call has the same kind in every
// schedule. Session records, which are read concurrently, are numbered.
func kind(actor int, c drivertest.Call) string {
	area, _, _ := strings.Cut(c.Key, "/")
	switch {
	case c.Method == "List":
	case area == "uploads":
		area += path.Base(c.Key)
	case area == "blobs" || area == "aliases" || area == "repos" || area == "catalog":
		area = c.Key
	}
	return fmt.Sprintf("%d.%s.%s.%d", actor, c.Method, area, c.Number)
}

// passes is the method of the step in which time passes.
const passes = "Pass"

// boundary is the method of the step in which a request starts, or gets its response.
// Where such steps fall between those of other requests, and between writes, decides
// which orders of the requests are possible.
const boundary = "Boundary"

// pass makes time pass when it is its turn.
func (q *schedule) pass(name string, actor int, d time.Duration) error {
	turn := make(chan struct{})
	return q.queue(turn, name, actor, drivertest.Call{Method: passes, Key: d.String()}, func() {
		time.Sleep(d)
		close(turn)
	})
}

// wait returns when it is the turn of a call. It returns an error once the
// schedule is stopped, and for a write whose turn comes too late.
func (q *schedule) wait(name string, actor int, c drivertest.Call) error {
	turn, sent := make(chan struct{}), time.Now()
	if err := q.queue(turn, name, actor, c, func() { close(turn) }); err != nil {
		return err
	}
	if c.Writes() && q.expired(sent) {
		return fmt.Errorf("%w: the store did not make the call in time", drivertest.ErrInjected)
	}
	return nil
}

// expired reports whether a write that was sent then can no longer take effect.
func (q *schedule) expired(sent time.Time) bool { return q.limit > 0 && time.Since(sent) > q.limit }

// queue adds a step and returns when it was made.
func (q *schedule) queue(turn chan struct{}, name string, actor int, c drivertest.Call, do func()) error {
	q.mu.Lock()
	k := kind(actor, c)
	q.waiting = append(q.waiting, &step{fmt.Sprintf("%s.%d", k, q.made[k]), name, c, do})
	if q.made == nil {
		q.made = map[string]int{}
	}
	q.made[k]++
	stopped := q.stopped
	q.mu.Unlock()
	if !stopped {
		<-turn
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped {
		return errStopped
	}
	return nil
}

// settle waits until every actor waits or has finished. It returns the steps to
// choose from, always in the same order.
func (r *Run) settle() []*step {
	synctest.Wait()
	q := r.schedule
	q.mu.Lock()
	defer q.mu.Unlock()
	if call, hit := r.fault.Hit(); hit && !q.landing && r.scenario.Fault.Mode == drivertest.Late {
		q.landing = true
		sent := time.Now()
		q.waiting = append(q.waiting, &step{"late", "late", call, func() {
			if !q.expired(sent) {
				_ = r.fault.Land(r.Ctx) // no client gets its response
			}
		}})
	}
	slices.SortFunc(q.waiting, func(a, b *step) int { return strings.Compare(a.id, b.id) })
	return slices.Clone(q.waiting)
}

// take makes a step.
func (q *schedule) take(s *step) {
	q.mu.Lock()
	q.trace = append(q.trace, s.String())
	q.waiting = slices.DeleteFunc(q.waiting, func(o *step) bool { return o == s })
	q.mu.Unlock()
	s.make()
	synctest.Wait()
}

// stop makes all actors return.
func (q *schedule) stop() {
	q.mu.Lock()
	q.stopped = true
	waiting := slices.Clone(q.waiting)
	q.mu.Unlock()
	for _, s := range waiting {
		if s.id != "late" {
			s.make()
		}
	}
	synctest.Wait()
}

// chooser returns one of the steps that wait, at a depth of the schedule, or nil
// to give the schedule up.
type chooser func(depth int, waiting []*step) *step

// follow runs the actors, and makes their calls in the order that choose decides.
// From the depth from on, it checks the run after each call that may have changed
// something; another schedule has checked what comes before.
func (r *Run) follow(from int, choose chooser) error {
	for i := range r.actors {
		go r.act(i)
	}
	for depth := 0; ; depth++ {
		waiting := r.settle()
		if len(waiting) == 0 {
			break
		}
		s := choose(depth, waiting)
		if s == nil {
			r.schedule.stop()
			return errPruned
		}
		r.schedule.take(s)
		if depth >= from && Changes(s.call) {
			if err := r.Check(); err != nil {
				r.schedule.stop()
				return err
			}
		}
	}
	r.armed.Store(false)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.finished < len(r.actors) {
		return errors.New("an actor waits for something other than the store")
	}
	return r.end()
}

// report returns err with the calls of the schedule.
func (r *Run) report(err error) error {
	return fmt.Errorf("%w\nafter:\n\t%s", err, strings.Join(r.schedule.trace, "\n\t"))
}

// Changes reports whether a call may change what can be read or listed.
func Changes(c drivertest.Call) bool {
	switch c.Method {
	case "StartUpload", "PutPart", "StreamPart", "Abort", boundary:
		return false
	}
	return c.Writes()
}
