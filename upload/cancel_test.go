package upload

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// TestCommitAfterCancel checks that an upload cannot be committed once Cancel has
// succeeded or returned ErrUnknown, even if a record has all its bytes and the
// store failed to spend it. Until then, Cancel returns the store's error.
func TestCommitAfterCancel(t *testing.T) {
	for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Unanswered} {
		t.Run(mode.String(), func(t *testing.T) {
			faulty := &drivertest.Faulty{Mode: mode, Nth: 1, Match: onlyMethod("Replace")}
			m := replica(t, &membucket.Store{Habits: smallS3()}, faulty.Intercept)
			p := []byte("all of it")
			tok := patch(t, m, m.Start("r", digest.SHA256), p)
			err := m.Cancel(t.Context(), tok, newDeadline())
			if lost := mode == drivertest.Lost; errors.Is(err, drivertest.ErrInjected) != lost || !lost && err != nil {
				t.Errorf("Cancel with a Replace that is %v = %v", mode, err)
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

// TestCancelTooLate checks that Cancel writes nothing after its deadline, and
// returns ErrBusy.
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
					time.Sleep(9 * time.Minute) // the end is created
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
						t.Errorf("Cancel calls %v after its deadline", c)
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

// TestCancelAnywhere cancels with the token of every record, of no record, and of
// an upload without bytes.
func TestCancelAnywhere(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		m := replica(t, store, nil)
		for from := range 4 {
			toks := []Token{m.Start("r", digest.SHA256)}
			for i := range 3 {
				toks = append(toks, patch(t, m, toks[i], randomBytes(25, 200*kiB)))
			}
			if err := m.Cancel(t.Context(), toks[from], newDeadline()); err != nil {
				t.Errorf("Cancel from record %d = %v, want success", from, err)
			}
			want := []Kind{KindOpen, KindOpen, KindSpent, KindCancelled}
			if diff := cmp.Diff(want, kinds(t, m, toks[0])); diff != "" {
				t.Errorf("after Cancel from record %d, -want +got:\n%s", from, diff)
			}
		}
		fresh := m.Start("r", digest.SHA256)
		if err := m.Cancel(t.Context(), fresh, newDeadline()); err != nil {
			t.Errorf("Cancel of an upload without bytes = %v, want success", err)
		}
		if _, _, err := m.Status(t.Context(), fresh); !errors.Is(err, ErrUnknown) {
			t.Errorf("Status of a cancelled upload = %v, want %v", err, ErrUnknown)
		}
		if n := staged(t, m); n != 0 {
			t.Errorf("%d uploads in progress, want 0", n)
		}
	})
}

// TestCancelFencesOff checks that a PATCH that is in flight when its upload is
// cancelled fails and leaves nothing.
func TestCancelFencesOff(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		m := replica(t, store, nil)
		for _, before := range []int64{0, 200 * kiB} {
			tok := m.Start("r", digest.SHA256)
			if before > 0 {
				tok = patch(t, m, tok, randomBytes(26, before))
			}
			w := resume(t, m, tok, Options{Length: -1})
			if _, err := w.Write(randomBytes(27, 300*kiB)); err != nil {
				t.Fatal(err)
			}
			if err := m.Cancel(t.Context(), tok, newDeadline()); err != nil {
				t.Fatal(err)
			}
			_, err := w.Write(randomBytes(28, 300*kiB))
			if err == nil {
				_, err = w.Suspend(t.Context())
			}
			if err == nil {
				t.Error("PATCH of a cancelled upload succeeds, want an error")
			}
			w.Close()
			if _, _, err := m.Status(t.Context(), tok); !errors.Is(err, ErrUnknown) {
				t.Errorf("Status = %v, want %v", err, ErrUnknown)
			}
			// Where parts are objects, the collector deletes those that came after
			// Abort.
			if n := staged(t, m); n != 0 && !store.Sessionless {
				t.Errorf("%d uploads in progress, want 0", n)
			}
		}
	})
}
