package upload

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/berthhq/berth/upload/budget"
)

// take returns a buffer with n segments, which must be free, of a client that
// sends nothing.
func take(t *testing.T, m *Manager, n int) *held {
	t.Helper()
	h := newHeld(m)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Reserve(ctx, n); err != nil {
		t.Fatalf("Reserve(%d) with %+v waits, want it not to", n, m.Memory())
	}
	return h
}

// takeAll takes all segments but the reserve.
func takeAll(t *testing.T, m *Manager) *held {
	t.Helper()
	u := m.Memory()
	return take(t, m, u.Free-u.Reserve)
}

// want asks for n segments for a new client. It returns when the client has them,
// or waits. It must be called in a bubble.
func want(t *testing.T, m *Manager, n int) *held {
	h := newHeld(m)
	go func() {
		if err := h.Reserve(t.Context(), n); err != nil {
			t.Error(err)
		}
		h.done = true
	}()
	synctest.Wait()
	return h
}

// held is memory that a test holds.
type held struct {
	client *budget.Client
	*budget.Buffer
	done bool // the segments that want has asked for are there
}

func newHeld(m *Manager) *held {
	c := m.memory.Join(func() {})
	return &held{client: c, Buffer: c.NewBuffer(false)}
}

func (h *held) giveBack() {
	h.Release()
	h.client.Leave()
}

// wantIdle checks that m has all its memory back, once its Writers are closed.
func wantIdle(t testing.TB, m *Manager) {
	t.Helper()
	if !m.memory.IsIdle() {
		t.Errorf("Memory() = %+v, want that of an idle Manager", m.Memory())
	}
}
