package blobstore

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// The explorer runs clients against replicas that share a bucket in memory, and
// decides in which order their calls to the store are made. Between two calls
// nothing else runs, so a schedule is no more than that order, and can be run
// again. After each call that may have changed something, the checker and the
// ledger are asked.

// scenario is what is explored. Its actors begin together once setup is done.
type scenario struct {
	name   string
	habits memory.Habits // the zero value stands for tinyS3
	setup  func(*stage) error
	actors []actor

	// rivals says that the actors want different things of one session, so
	// that some must fail.
	rivals bool

	// late, if not zero, is a write whose answer is an error and which happens
	// at any later time, or not before all else is over.
	late lateWrite

	// most, if not zero, is how many schedules are enough.
	most int

	// open, if not nil, opens an empty bucket, in place of one in memory.
	open func(t *testing.T) drivers.Bucket

	// tamper, if not nil, stands before the bucket of every actor. Tests that
	// break a rule on purpose do it there.
	tamper func(drivers.Bucket) drivers.Bucket
}

// lateWrite is the n-th write, from 1, of an actor.
type lateWrite struct {
	actor, n int
}

// actor is one client, who makes one request after another to a replica. If the
// store fails one, the client begins again. In the end run must return nil.
type actor struct {
	name string
	run  func(c *client) error
}

// tinyS3 are the habits of S3 with parts of a few bytes.
func tinyS3() memory.Habits {
	h := memory.S3()
	h.Limits.MinPart = tinyPart
	return h
}

// streaming are the habits of a store that takes parts of any length as they
// come, as a directory does.
func streaming() memory.Habits {
	return memory.Habits{Limits: drivers.Limits{MaxPart: 1 << 20, MaxParts: 1000, Stream: true}}
}

// Sizes of tiny blobs and of the parts that larger ones are cut into, in bytes.
const (
	tinyInline = 64
	tinyPart   = 256
)

func tiny() Config {
	return Config{
		InlineMax: tinyInline,
		Upload:    UploadConfig{Memory: 512 << 10, PartSize: tinyPart, ParallelParts: 1},
		Cache:     CacheConfig{Entries: -1},
	}
}

// stage is the state of one schedule.
type stage struct {
	ctx     context.Context //nolint:containedctx // the test's
	bucket  drivers.Bucket  // itself, with nothing before it
	clients []*client       // of the actors
	ledger  *ledger
	session Upload          // that a setup has begun, for actors that share one
	rivals  bool            // as in scenario
	lost    map[string]bool // as in checker

	mu       sync.Mutex
	finished int
	results  []error // of the actors
}

// step is a call that waits to be made.
type step struct {
	id    string // names it in every schedule in which it is waiting
	actor string
	call  drivertest.Call
	make  func() // lets it be made, and returns at once
}

func (s *step) String() string { return s.actor + ": " + s.call.String() }

// independent says that two steps, made in either order, leave the same behind
// and learn the same.
func (s *step) independent(other *step) bool {
	a, b := s.call, other.call
	switch {
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

// errPruned is a schedule that need not be run to its end: others show all that
// it would.
var errPruned = errors.New("pruned")

var errStopped = errors.New("the schedule was stopped")

// explorer runs schedules of a scenario, one after the other, in one synctest
// bubble.
type explorer struct {
	scenario
	stage   *stage
	target  swappable
	stores  []*Store // by actor
	auditor *Store   // of nobody

	gated   atomic.Bool
	stopped atomic.Bool

	mu      sync.Mutex
	waiting []*step
	made    map[string]int // calls, by kind
	trace   []string
	landing bool
	faulty  *drivertest.Faulty
}

// swappable is a bucket that is another one for each schedule, so that stores
// need not be opened again.
type swappable struct {
	drivers.Bucket
}

func newExplorer(t *testing.T, sc scenario) *explorer {
	t.Helper()
	if sc.habits == (memory.Habits{}) {
		sc.habits = tinyS3()
	}
	if sc.open == nil {
		sc.open = func(t *testing.T) drivers.Bucket { return openMemory(t, sc.habits) }
	}
	e := &explorer{scenario: sc}
	e.target.Bucket = sc.open(t)
	var b drivers.Bucket = &e.target
	if sc.tamper != nil {
		b = sc.tamper(b)
	}
	for i := range sc.actors {
		e.stores = append(e.stores, openStore(t, drivertest.Wrap(b, e.gate(i)), tiny()))
	}
	e.auditor = openStore(t, &e.target, tiny())
	return e
}

func openMemory(t *testing.T, h memory.Habits) drivers.Bucket {
	t.Helper()
	b, err := memory.Open(t.Context(), memory.Config{Store: &memory.Store{Habits: h}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// kind tells apart the calls that an actor may make at the same time, in any
// order, without the names that it has drawn: a call is the same one in every
// schedule. Records of a session, which are read side by side, have numbers.
func (*explorer) kind(actor int, c drivertest.Call) string {
	area, _, _ := strings.Cut(c.Key, "/")
	if area == "uploads" && c.Method != "List" {
		area += path.Base(c.Key)
	}
	return fmt.Sprintf("%d.%s.%s.%d", actor, c.Method, area, c.Number)
}

// gate makes the calls of an actor wait for their turn.
func (e *explorer) gate(i int) drivertest.Intercept {
	return func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if !e.gated.Load() {
			return do(ctx)
		}
		turn := make(chan struct{})
		e.mu.Lock()
		kind := e.kind(i, c)
		s := &step{id: fmt.Sprintf("%s.%d", kind, e.made[kind]), actor: e.actors[i].name, call: c, make: func() { close(turn) }}
		e.made[kind]++
		e.waiting = append(e.waiting, s)
		e.mu.Unlock()
		if !e.stopped.Load() {
			<-turn
		}
		if e.stopped.Load() {
			return errStopped
		}
		if e.late.n > 0 && e.late.actor == i {
			return e.faulty.Intercept(ctx, c, do)
		}
		return do(ctx)
	}
}

// begin sets up the stage and lets the actors run until each waits.
func (e *explorer) begin(t *testing.T) error {
	t.Helper()
	e.target.Bucket = e.open(t)
	e.waiting, e.trace, e.made = nil, nil, map[string]int{}
	e.gated.Store(false)
	e.stopped.Store(false)
	e.landing = false
	e.faulty = &drivertest.Faulty{Mode: drivertest.Late, Nth: e.late.n, Match: drivertest.Call.Writes}
	w := &stage{ctx: t.Context(), bucket: e.target.Bucket, rivals: e.rivals, results: make([]error, len(e.actors)), ledger: &ledger{}, lost: map[string]bool{}}
	for _, s := range e.stores {
		w.clients = append(w.clients, &client{w: w, s: s})
	}
	e.stage = w
	if e.setup != nil {
		if err := e.setup(w); err != nil {
			return fmt.Errorf("setup: %w", err)
		}
	}
	e.gated.Store(true)
	for i, a := range e.actors {
		go func() {
			err := stubborn(func() error { return a.run(w.clients[i]) })
			w.mu.Lock()
			defer w.mu.Unlock()
			w.results[i] = err
			w.finished++
		}()
	}
	return nil
}

// run makes the calls in the order that choose decides, which is given those
// that wait; if it chooses none the schedule is given up, as pruned. It checks
// from the depth from on: what comes before has been checked in another
// schedule.
func (e *explorer) run(t *testing.T, from int, choose func(depth int, waiting []*step) *step) error {
	t.Helper()
	if err := e.begin(t); err != nil {
		return err
	}
	c := &checker{bucket: e.target.Bucket, lost: e.stage.lost}
	for depth := 0; ; depth++ {
		waiting := e.settle()
		if len(waiting) == 0 {
			break
		}
		s := choose(depth, waiting)
		if s == nil {
			e.stop()
			return errPruned
		}
		e.trace = append(e.trace, s.String())
		e.mu.Lock()
		e.waiting = slices.DeleteFunc(e.waiting, func(o *step) bool { return o == s })
		e.mu.Unlock()
		s.make()
		synctest.Wait()
		if depth >= from && changes(s.call) {
			if err := e.violations(c); err != nil {
				e.stop()
				return err
			}
		}
	}
	e.stage.mu.Lock()
	defer e.stage.mu.Unlock()
	if e.stage.finished < len(e.actors) {
		return errors.New("an actor waits for something that isn't the store")
	}
	if err := e.violations(c); err != nil {
		return err
	}
	return errors.Join(e.stage.results...)
}

// changes says that a call may change what can be read or listed.
func changes(c drivertest.Call) bool {
	switch c.Method {
	case "StartUpload", "PutPart", "StreamPart", "Abort":
		return false
	}
	return c.Writes()
}

func (e *explorer) violations(c *checker) error {
	return errors.Join(c.check(e.stage.ctx), e.stage.ledger.checkWith(e.stage.ctx, e.auditor))
}

// settle waits until every actor waits or has finished, and gives the calls to
// choose from, always in the same order.
func (e *explorer) settle() []*step {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	if call, hit := e.faulty.Hit(); hit && !e.landing {
		e.landing = true
		e.waiting = append(e.waiting, &step{id: "late", actor: "late", call: call, make: func() {
			_ = e.faulty.Land(e.stage.ctx) // nobody waits for the answer
		}})
	}
	slices.SortFunc(e.waiting, func(a, b *step) int { return strings.Compare(a.id, b.id) })
	return slices.Clone(e.waiting)
}

// stop lets all actors end at once.
func (e *explorer) stop() {
	e.stopped.Store(true)
	e.mu.Lock()
	waiting := slices.Clone(e.waiting)
	e.mu.Unlock()
	for _, s := range waiting {
		if s.id != "late" {
			s.make()
		}
	}
	synctest.Wait()
}

// node is a place in a schedule: what could be chosen there, what was, and what
// need not be.
type node struct {
	waiting []string
	asleep  map[string]bool
	picked  string
}

// pick takes the next choice that has not been tried, if there is one.
func (n *node) pick() bool {
	for _, id := range n.waiting {
		if !n.asleep[id] {
			n.picked = id
			return true
		}
	}
	return false
}

// explore runs every schedule of the scenario, but for those that differ from
// another one only in the order of calls that have nothing to do with each
// other, until it has run the most that are wanted. It keeps sleep sets
// (P. Godefroid, Partial-Order Methods for the Verification of Concurrent
// Systems, 1996, chapter 5), which leave out schedules, but no state that the
// bucket could be in. It gives their number, whether any made the late write,
// and the first violation with its trace.
func explore(t *testing.T, sc scenario) (schedules int, late bool, violation error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := newExplorer(t, sc)
		var path []*node
		for {
			var asleep map[string]bool // at the next depth
			strayed := ""
			err := e.run(t, len(path)-1, func(depth int, waiting []*step) *step {
				if depth == len(path) {
					n := &node{asleep: asleep}
					if depth == 0 {
						n.asleep = map[string]bool{}
					}
					for _, s := range waiting {
						n.waiting = append(n.waiting, s.id)
					}
					if !n.pick() {
						return nil
					}
					path = append(path, n)
				}
				n := path[depth]
				picked := stepNamed(waiting, n.picked)
				if picked == nil {
					strayed = n.picked
					return nil
				}
				asleep = map[string]bool{}
				for _, s := range waiting {
					if n.asleep[s.id] && s.independent(picked) {
						asleep[s.id] = true
					}
				}
				return picked
			})
			schedules++
			late = late || e.landing
			if strayed != "" {
				err = fmt.Errorf("the schedule went another way the second time: no %s", strayed)
			}
			if err != nil && !errors.Is(err, errPruned) {
				violation = e.report(err)
				return
			}
			for len(path) > 0 {
				n := path[len(path)-1]
				n.asleep[n.picked] = true
				if n.pick() {
					break
				}
				path = path[:len(path)-1]
			}
			if len(path) == 0 || schedules == sc.most {
				return
			}
		}
	})
	return schedules, late, violation
}

func stepNamed(steps []*step, id string) *step {
	for _, s := range steps {
		if s.id == id {
			return s
		}
	}
	return nil
}

func (e *explorer) report(err error) error {
	return fmt.Errorf("%w\nafter:\n\t%s", err, strings.Join(e.trace, "\n\t"))
}
