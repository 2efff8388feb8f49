package drivertest

import (
	"context"
	"slices"
	"sync"
)

// Counter counts requests. Its Intercept goes to [Wrap], for one Bucket or for
// several that count together. The zero value is ready. SignGet is none: it
// asks no store.
type Counter struct {
	mu    sync.Mutex
	calls []Call
}

// Intercept counts the call and makes it.
func (c *Counter) Intercept(ctx context.Context, call Call, do func(context.Context) error) error {
	if call.Method != "SignGet" {
		c.mu.Lock()
		c.calls = append(c.calls, call)
		c.mu.Unlock()
	}
	return do(ctx)
}

// Calls are those since the last Reset, in the order in which they began.
func (c *Counter) Calls() []Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

// Total is their number.
func (c *Counter) Total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.calls)
}

// ByMethod is their number, by method.
func (c *Counter) ByMethod() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := make(map[string]int)
	for _, call := range c.calls {
		n[call.Method]++
	}
	return n
}

// Reset begins again from zero.
func (c *Counter) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = nil
}
