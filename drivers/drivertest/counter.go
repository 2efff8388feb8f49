package drivertest

import (
	"context"
	"slices"
	"sync"
)

// Counter counts requests. Pass its Intercept to [Wrap], for one Bucket or for
// several that are counted together. The zero value is ready to use. SignGet is
// not counted, because it sends no request to the store.
type Counter struct {
	mu    sync.Mutex
	calls []Call
}

// Intercept counts the call, makes it and returns its error.
func (c *Counter) Intercept(ctx context.Context, call Call, do func(context.Context) error) error {
	if call.Method != "SignGet" {
		c.mu.Lock()
		c.calls = append(c.calls, call)
		c.mu.Unlock()
	}
	return do(ctx)
}

// Calls returns the calls since the last Reset, in the order in which they
// started.
func (c *Counter) Calls() []Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

// Total returns the number of calls since the last Reset.
func (c *Counter) Total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.calls)
}

// ByMethod returns the number of calls since the last Reset, by method.
func (c *Counter) ByMethod() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := make(map[string]int)
	for _, call := range c.calls {
		n[call.Method]++
	}
	return n
}

// Reset forgets all calls.
func (c *Counter) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = nil
}
