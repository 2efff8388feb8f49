package drivertest

import (
	"context"
	"errors"
	"sync"
)

// Mode is what happens to a call that fails.
type Mode int

// The modes. A call that only reads has no effect that could be late.
const (
	Lost       Mode = iota // the call never takes effect
	Unanswered             // the call takes effect, and only its response is lost
	Late                   // the call takes effect when [Faulty.Land] is called
)

// String returns the Mode's name.
func (m Mode) String() string { return [...]string{"lost", "unanswered", "late"}[m] }

// ErrInjected is the error of a call that Faulty fails. It wraps no sentinel of
// package drivers, so it makes no claim about the key.
var ErrInjected = errors.New("drivertest: injected fault")

// Faulty fails calls. Pass its Intercept to [Wrap], for one Bucket or for
// several that are counted together. Set the exported fields before that and do
// not change them afterwards.
type Faulty struct {
	Mode Mode

	// Nth selects the call that fails, from 1, among those that Match selects.
	// Zero selects all of them.
	Nth int

	// Match selects the calls that are counted. Nil selects all calls.
	Match func(Call) bool

	// Dead makes every call after the Nth fail as Lost, as if the process had
	// died.
	Dead bool

	// Err is the injected error. If it is nil, ErrInjected is used.
	Err error

	mu   sync.Mutex
	seen int
	hit  bool
	call Call
	late []func(context.Context) error
}

// Intercept fails the selected calls and makes all other calls.
func (f *Faulty) Intercept(ctx context.Context, c Call, do func(context.Context) error) error {
	mode, fails := f.decide(c)
	if !fails {
		return do(ctx)
	}
	err := f.Err
	if err == nil {
		err = ErrInjected
	}
	switch {
	case mode == Unanswered:
		if failed := do(ctx); failed != nil {
			return failed
		}
	case mode == Late && c.Writes():
		if c.own != nil {
			if failed := c.own(); failed != nil {
				return failed
			}
		}
		f.mu.Lock()
		f.late = append(f.late, do)
		f.mu.Unlock()
	}
	return err
}

// decide reports whether the call fails, and how.
func (f *Faulty) decide(c Call) (mode Mode, fails bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hit && f.Dead {
		return Lost, true
	}
	if f.Match != nil && !f.Match(c) {
		return 0, false
	}
	f.seen++
	if f.Nth != 0 && f.seen != f.Nth {
		return 0, false
	}
	f.hit, f.call = true, c
	return f.Mode, true
}

// Hit returns the last call that failed, and reports whether any call has
// failed. A test that increments Nth in a loop stops when no call failed.
func (f *Faulty) Hit() (Call, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.call, f.hit
}

// Land makes the late calls, each once, in the order in which they failed. A
// second Land does not repeat them. It returns their errors joined. A late write may
// find that its condition no longer holds.
func (f *Faulty) Land(ctx context.Context) error {
	f.mu.Lock()
	late := f.late
	f.late = nil
	f.mu.Unlock()
	var all []error
	for _, do := range late {
		all = append(all, do(ctx))
	}
	return errors.Join(all...)
}
