package sim

import (
	"context"
	"strings"
	"testing"

	"github.com/berthhq/berth/drivers/drivertest"
)

// On returns a function that reports whether a call is one of a method, to a key
// that contains part.
func On(method, part string) func(drivertest.Call) bool {
	return func(c drivertest.Call) bool { return c.Method == method && strings.Contains(c.Key, part) }
}

// Dying returns the Intercept of a process that is killed by the first call that
// match selects. The mode decides whether the call takes effect.
func Dying(m drivertest.Mode, match func(drivertest.Call) bool) drivertest.Intercept {
	return (&drivertest.Faulty{Mode: m, Nth: 1, Match: match, Dead: true}).Intercept
}

// Hold holds a call back. Its Intercept stands in front of the bucket of a
// process.
type Hold struct {
	match   func(drivertest.Call) bool
	reached chan struct{}
	resume  chan struct{}
}

// HoldFirst returns a Hold of the first call that match selects.
func HoldFirst(match func(drivertest.Call) bool) *Hold {
	return &Hold{match, make(chan struct{}, 1), make(chan struct{})}
}

// Intercept holds the call back until Meanwhile lets it continue.
func (h *Hold) Intercept(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
	if h.match(c) {
		select {
		case h.reached <- struct{}{}:
			<-h.resume
		default: // not the first one
		}
	}
	return do(ctx)
}

// Meanwhile starts request, runs f while the request is held back, lets it
// continue, and returns its error. It fails the test if the request ends without
// such a call.
func (h *Hold) Meanwhile(t *testing.T, request func() error, f func()) error {
	t.Helper()
	answer := make(chan error, 1)
	go func() { answer <- request() }()
	select {
	case <-h.reached:
	case err := <-answer:
		t.Fatalf("the request ended without the call to hold back: %v", err)
	}
	f()
	close(h.resume)
	return <-answer
}
