package upload

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	membucket "github.com/berthhq/berth/drivers/memory"
)

// TestStates checks what a Writer refuses in each of its states.
func TestStates(t *testing.T) {
	d := digest.FromString("some")
	for _, tt := range []struct {
		state    state
		enter    func(w *Writer) error // from filling
		write    error
		seal     error
		store    error
		suspend  error
		closedBy error // what Write returns after Close
	}{
		{filling, func(*Writer) error { return nil }, nil, nil, errUnsealed, nil, errClosed},
		{sealed, func(w *Writer) error { return seal(t.Context(), w, d) }, errSealed, nil, nil, nil, errClosed},
		{stopped, func(w *Writer) error {
			w.p.cutOff()
			if _, err := w.Write([]byte("more")); !errors.Is(err, ErrCut) {
				return err
			}
			return nil
		}, ErrCut, ErrCut, ErrCut, nil, ErrCut},
		{suspended, func(w *Writer) error { _, err := w.Suspend(t.Context()); return err }, errSuspended, errSuspended, errSuspended, nil, errSuspended},
		{closed, (*Writer).Close, errClosed, errClosed, errClosed, errClosed, errClosed},
	} {
		m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
		enter := func() *Writer {
			w := resume(t, m, m.Start("r", digest.SHA256), Options{Length: -1})
			t.Cleanup(func() { w.Close() })
			if _, err := w.Write([]byte("some")); err != nil {
				t.Fatal(err)
			}
			if err := tt.enter(w); err != nil || w.p.status.state != tt.state {
				t.Fatalf("entering state %d: %v, state %d", tt.state, err, w.p.status.state)
			}
			return w
		}
		if _, err := enter().Store(t.Context()); !errors.Is(err, tt.store) {
			t.Errorf("state %d: Store = %v, want %v", tt.state, err, tt.store)
		}
		if _, err := enter().Seal(t.Context(), d); !errors.Is(err, tt.seal) {
			t.Errorf("state %d: Seal = %v, want %v", tt.state, err, tt.seal)
		}
		if _, err := enter().Suspend(t.Context()); !errors.Is(err, tt.suspend) {
			t.Errorf("state %d: Suspend = %v, want %v", tt.state, err, tt.suspend)
		}
		if _, err := enter().Write([]byte("more")); !errors.Is(err, tt.write) {
			t.Errorf("state %d: Write = %v, want %v", tt.state, err, tt.write)
		}
		w := enter()
		w.Close()
		if _, err := w.Write([]byte("more")); !errors.Is(err, tt.closedBy) {
			t.Errorf("state %d: Write after Close = %v, want %v", tt.state, err, tt.closedBy)
		}
	}
}
