package sim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// Scenario describes a simulation. The same scenario can be run any number of
// times, each time on a new bucket.
type Scenario struct {
	// Open opens an empty bucket.
	Open func(ctx context.Context) (drivers.Bucket, error)

	// Start prepares the bucket and returns the actors. For each actor it opens a
	// process on the bucket that Run.Process returns. Until Start returns, calls
	// are neither scheduled nor failed.
	Start func(r *Run) ([]Actor, error)

	// Read opens a process on a bucket, and returns a function that reads a blob
	// there without a cache. Ledger.Check uses that function.
	Read func(ctx context.Context, b drivers.Bucket) (ReadFunc, error)

	// ReadManifest does the same for manifests. Ledger.Settle uses its function. It may
	// be nil if no actor uses manifests.
	ReadManifest func(ctx context.Context, b drivers.Bucket) (ManifestFunc, error)

	// RequestLimit is how long after a write was sent it may take effect. Zero means
	// that it may do so at any time.
	RequestLimit time.Duration

	// Fault is the call that fails, and how. The zero value is no fault.
	Fault Fault

	// After, if not nil, checks what must hold at the end, in addition to the
	// invariants and the ledger.
	After func(r *Run) error

	// Tamper, if not nil, wraps the bucket of the process of an actor. Tests use it to
	// break a rule of the protocol on purpose.
	Tamper func(actor int, b drivers.Bucket) drivers.Bucket
}

// ReadFunc returns the bytes of a repository's blob.
type ReadFunc func(ctx context.Context, repository string, d digest.Digest) ([]byte, error)

// Actor is a client. Run makes one request after another and returns nil if all
// of them got an acceptable response. It repeats a request that failed because the
// store failed.
type Actor struct {
	Name string
	Run  func() error
}

// Fault is a failure of the Nth call, from 1, of an actor's process. If Mode is
// drivertest.Late, only writes are counted, because a read has no effect that
// could be late.
type Fault struct {
	Actor int
	Nth   int
	Mode  drivertest.Mode

	// Soon makes a late write take effect before the actor's next request.
	// Otherwise it takes effect once all actors have finished. Explore and Draw
	// ignore Soon, because their schedules decide when it takes effect.
	Soon bool

	// Dead makes every later call of the process fail, as if it had died.
	Dead bool
}

func (f Fault) String() string {
	s := f.Mode.String()
	if f.Soon {
		s += ", soon"
	}
	if f.Dead {
		s += ", dead"
	}
	return s
}

// Run is one run of a scenario.
type Run struct {
	Ctx        context.Context //nolint:containedctx // the context of the test
	Bucket     drivers.Bucket  // without schedule, fault and Tamper
	Ledger     Ledger
	Invariants Invariants

	scenario *Scenario
	armed    atomic.Bool // from the end of Start until the actors have finished
	fault    *drivertest.Faulty
	schedule *schedule // nil if the actors run freely
	read     ReadFunc
	between  error // of the check right after the fault

	actors   []Actor
	mu       sync.Mutex
	finished int
	results  []error
}

// NewRun returns a run for a test that makes its requests itself.
func NewRun(ctx context.Context, b drivers.Bucket, read func(context.Context, drivers.Bucket) (ReadFunc, error)) *Run {
	return &Run{Ctx: ctx, Bucket: b, scenario: &Scenario{Read: read}, fault: &drivertest.Faulty{}}
}

// start opens a bucket, prepares it, and returns a run with actors that have not
// started.
func (s *Scenario) start(ctx context.Context, q *schedule) (*Run, error) {
	b, err := s.Open(ctx)
	if err != nil {
		return nil, err
	}
	r := &Run{Ctx: ctx, Bucket: b, scenario: s, schedule: q}
	r.fault = &drivertest.Faulty{Mode: s.Fault.Mode, Nth: s.Fault.Nth, Dead: s.Fault.Dead}
	if s.Fault.Mode == drivertest.Late {
		r.fault.Match = drivertest.Call.Writes
	}
	if r.actors, err = s.Start(r); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	if s.ReadManifest != nil { // the ledger sees what the actors meet
		if err := r.Check(); err != nil {
			return nil, fmt.Errorf("start: %w", err)
		}
	}
	r.results = make([]error, len(r.actors))
	r.armed.Store(true)
	return r, nil
}

// Process returns the bucket for the process of an actor, whose calls are
// scheduled and may fail. actor is an index of the slice that Start returns.
func (r *Run) Process(actor int) drivers.Bucket {
	fails := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if !r.armed.Load() || r.scenario.Fault.Nth == 0 || r.scenario.Fault.Actor != actor {
			return do(ctx)
		}
		_, before := r.fault.Hit()
		err := r.fault.Intercept(ctx, c, do)
		if _, now := r.fault.Hit(); now && !before && r.schedule == nil && r.scenario.RequestLimit > 0 {
			time.AfterFunc(r.scenario.RequestLimit, func() {
				_ = r.fault.Land(r.Ctx) // no client gets its response
			})
		}
		return err
	}
	return r.scheduled(actor, drivertest.Wrap(r.tampered(actor), fails))
}

// Pass makes time pass while an actor waits. In a schedule, the requests of other actors
// may be at any point when it does.
func (r *Run) Pass(actor int, d time.Duration) error {
	if r.schedule != nil && r.armed.Load() {
		return r.schedule.pass(r.name(actor), actor, d)
	}
	time.Sleep(d)
	return nil
}

// Boundary is called where a request of an actor starts, and where it gets its response.
func (r *Run) Boundary(actor int) {
	if r.schedule == nil || !r.armed.Load() {
		return
	}
	turn := make(chan struct{})
	// If the schedule is stopped, the actor's next call fails.
	_ = r.schedule.queue(turn, r.name(actor), actor, drivertest.Call{Method: boundary}, func() { close(turn) })
}

// Spare returns the bucket for another process, which an actor uses once its
// process has died.
func (r *Run) Spare(actor int) drivers.Bucket { return r.scheduled(actor, r.tampered(actor)) }

func (r *Run) tampered(actor int) drivers.Bucket {
	if r.scenario.Tamper == nil {
		return r.Bucket
	}
	return r.scenario.Tamper(actor, r.Bucket)
}

func (r *Run) scheduled(actor int, b drivers.Bucket) drivers.Bucket {
	if r.schedule == nil {
		return b
	}
	return drivertest.Wrap(b, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if r.armed.Load() {
			if err := r.schedule.wait(r.name(actor), actor, c); err != nil {
				return err
			}
			if ctx.Err() != nil { // while it waited, before it was sent
				ctx = context.WithoutCancel(ctx)
			}
		}
		return do(ctx)
	})
}

func (r *Run) name(actor int) string { return r.actors[actor].Name }

// Died reports whether the fault has killed the process of its actor.
func (r *Run) Died() bool {
	_, hit := r.fault.Hit()
	return hit && r.scenario.Fault.Dead
}

// Dead reports whether the fault has killed the process of this actor.
func (r *Run) Dead(actor int) bool { return r.Died() && r.scenario.Fault.Actor == actor }

// Request makes a request of an actor. If the fault occurs during the request and
// the calls are not scheduled, Request then makes a late write take effect if
// Fault.Soon is set, and checks the invariants unless the fault is a late write.
func (r *Run) Request(request func() error) error {
	_, before := r.fault.Hit()
	err := request()
	if _, now := r.fault.Hit(); now && !before && r.schedule == nil {
		if r.scenario.Fault.Soon {
			_ = r.fault.Land(r.Ctx) // no client gets its response
		}
		if r.scenario.Fault.Mode != drivertest.Late { // a late write leaves the bucket as a lost or unanswered one does
			r.between = r.Invariants.Check(r.Ctx, r.Bucket)
		}
	}
	return err
}

// Check returns an error for every invariant that does not hold, and for every
// response to a client that the bucket contradicts.
func (r *Run) Check() error {
	if r.read == nil {
		read, err := r.scenario.Read(r.Ctx, r.Bucket)
		if err != nil {
			return err
		}
		r.read = read
	}
	inv, err := r.Invariants.Read(r.Ctx, r.Bucket)
	if err != nil {
		return err
	}
	return errors.Join(r.Invariants.check(inv), r.Ledger.Check(r.Ctx, inv, r.read))
}

// Settle returns an error unless all responses fit one order. No request may be in
// progress.
func (r *Run) Settle() error {
	if r.scenario.ReadManifest == nil {
		return nil
	}
	read, err := r.scenario.ReadManifest(r.Ctx, r.Bucket)
	if err != nil {
		return err
	}
	return r.Ledger.Settle(r.Ctx, read)
}

// act runs an actor to its end.
func (r *Run) act(i int) {
	err := r.actors[i].Run()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results[i] = err
	r.finished++
}

// Play runs the scenario once, with all actors in parallel and without a schedule.
// It returns the call that failed, and reports whether any call did.
func (s *Scenario) Play(ctx context.Context) (call drivertest.Call, hit bool, err error) {
	r, err := s.start(ctx, nil)
	if err != nil {
		return call, false, err
	}
	defer r.Bucket.Close()
	var wg sync.WaitGroup
	for i := range r.actors {
		wg.Go(func() { r.act(i) })
	}
	wg.Wait()
	r.armed.Store(false)
	call, hit = r.fault.Hit()
	_ = r.fault.Land(ctx) // no client gets its response
	if r.between != nil {
		r.results = append(r.results, fmt.Errorf("right after the fault: %w", r.between))
	}
	return call, hit, r.end()
}

// end returns the errors of the actors, and an error for each condition that does
// not hold at the end of the run. It calls After only if there are no errors.
func (r *Run) end() error {
	if err := errors.Join(errors.Join(r.results...), r.Check(), r.Settle()); err != nil || r.scenario.After == nil {
		return err
	}
	if err := r.scenario.After(r); err != nil {
		return fmt.Errorf("after: %w", err)
	}
	return nil
}
