package upload

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// TestCancelIsSure: a client that was told that its upload is cancelled, or no
// longer known, can't commit it any more, also where a record has all its bytes
// and the store failed when that was to be spent. Until then it is told to try
// again.
func TestCancelIsSure(t *testing.T) {
	for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Unanswered} {
		t.Run(mode.String(), func(t *testing.T) {
			faulty := &drivertest.Faulty{Mode: mode, Nth: 1, Match: onlyMethod("Replace")}
			m := replica(t, &membucket.Store{Habits: smallS3()}, faulty.Intercept)
			p := []byte("all of it")
			tok := patch(t, m, m.Start("r", digest.SHA256), p)
			err := m.Cancel(t.Context(), tok, newDeadline())
			if lost := mode == drivertest.Lost; errors.Is(err, drivertest.ErrInjected) != lost || !lost && err != nil {
				t.Errorf("Cancel = %v", err)
			}
			if err := m.Cancel(t.Context(), tok, newDeadline()); !errors.Is(err, ErrUnknown) {
				t.Errorf("Cancel again = %v, want %v", err, ErrUnknown)
			}
			if _, err := commit(t.Context(), m, tok, nil, p); !errors.Is(err, ErrUnknown) {
				t.Errorf("commit = %v, want %v", err, ErrUnknown)
			}
		})
	}
}

// TestCancelTooLate: a cancel that has lasted longer than a request may writes
// nothing more, and says that it is to be tried again.
func TestCancelTooLate(t *testing.T) {
	for name, size := range map[string]int64{"tail": 100, "parts": 300 * kiB} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				counter := &drivertest.Counter{}
				late := false
				m := replica(t, &membucket.Store{Habits: smallS3()}, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
					if err := counter.Intercept(ctx, c, do); err != nil || c.Method != "Create" || !late {
						return err
					}
					time.Sleep(9 * time.Minute) // it has made the end
					return nil
				})
				tok := patch(t, m, m.Start("r", digest.SHA256), randomBytes(2, size))
				counter.Reset()
				late = true
				if err := m.Cancel(t.Context(), tok, deadline.New(8*time.Minute)); !errors.Is(err, drivers.ErrBusy) {
					t.Errorf("Cancel = %v, want %v", err, drivers.ErrBusy)
				}
				for _, c := range counter.Calls() {
					if c.Writes() && c.Method != "Create" {
						t.Errorf("%v after the limit", c)
					}
				}
				late = false
				if err := m.Cancel(t.Context(), tok, newDeadline()); !errors.Is(err, ErrUnknown) {
					t.Errorf("Cancel again = %v, want %v", err, ErrUnknown)
				}
			})
		})
	}
}
