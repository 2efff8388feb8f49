package drivertest

import (
	"context"
	"errors"
	"sync"
)

// Mode says what becomes of a call that fails.
type Mode int

// The fates of a write. A call that only reads has no effect to come late.
const (
	Lost       Mode = iota // it never takes effect
	Unanswered             // it takes effect, and only its answer is lost
	Late                   // it takes effect when [Faulty.Land] is called
)

// String is the Mode's name.
func (m Mode) String() string { return [...]string{"lost", "unanswered", "late"}[m] }

// ErrInjected is the error of a call that Faulty fails. It is none of the
// sentinels of package drivers, so that it says nothing about the key.
var ErrInjected = errors.New("drivertest: injected fault")

// Faulty fails calls. Its Intercept goes to [Wrap], for one Bucket or for
// several that count together. The exported fields are set before and not
// changed afterwards.
type Faulty struct {
	Mode Mode

	// Nth is which call fails, from 1, of those that Match; zero is all of
	// them.
	Nth int

	// Match chooses the calls that count; nil is all.
	Match func(Call) bool

	// Dead fails every call after the Nth too, as Lost: the process has died.
	Dead bool

	// Err is the error; nil is ErrInjected.
	Err error

	mu   sync.Mutex
	seen int
	hit  bool
	call Call
	late []func(context.Context) error
}

// Intercept fails the calls it is asked to and makes the others.
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

// Hit tells whether a call has failed, and which one last. A test that counts
// Nth up is at its end when there was none.
func (f *Faulty) Hit() (Call, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.call, f.hit
}

// Land makes the calls that are late, in the order in which they were failed,
// each once. It returns what they return, which nobody waits for any more: a
// late write may find that its condition no longer holds.
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
