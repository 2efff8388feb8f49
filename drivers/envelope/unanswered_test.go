package envelope_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/drivers/memory"
)

// TestUnanswered checks that a conflict after a lost answer differs from a conflict
// that the store has reported. Only the latter excludes that the write took effect.
func TestUnanswered(t *testing.T) {
	reported := func(ctx context.Context, _ drivertest.Call, do func(context.Context) error) error { return do(ctx) }
	lost := func(context.Context, drivertest.Call, func(context.Context) error) error {
		return drivertest.ErrInjected
	}
	retried := func(ctx context.Context, _ drivertest.Call, do func(context.Context) error) error {
		if err := do(ctx); err != nil {
			return fmt.Errorf("%w: %w", err, drivers.ErrUnanswered)
		}
		return nil
	}
	for _, tt := range []struct {
		name  string
		fault drivertest.Intercept // of the write
		want  bool
	}{
		{"the store reports a conflict", reported, false},
		{"the answer is lost", lost, true},
		{"a retry of the driver meets a conflict", retried, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := &memory.Store{Habits: memory.S3()}
			direct := bucket(t, store, nil)
			old, err := envelope.Create(t.Context(), direct, key, note{Text: "old"}, drivers.Body{})
			if err != nil {
				t.Fatal(err)
			}
			other, err := envelope.Replace(t.Context(), direct, key, old.Object.Tag, note{Text: "other"}, drivers.Body{})
			if err != nil {
				t.Fatal(err)
			}
			b := bucket(t, store, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
				if !c.Writes() {
					return do(ctx)
				}
				return tt.fault(ctx, c, do)
			})
			got, err := envelope.Create(t.Context(), b, key, note{Text: "mine"}, drivers.Body{})
			if !errors.Is(err, drivers.ErrExists) || errors.Is(err, drivers.ErrUnanswered) != tt.want || got.Object.Tag != other.Object.Tag {
				t.Errorf("Create = %+v, %v, want the other body and %v, and ErrUnanswered: %v", got, err, drivers.ErrExists, tt.want)
			}
			_, err = envelope.Replace(t.Context(), b, key, old.Object.Tag, note{Text: "mine"}, drivers.Body{})
			if !errors.Is(err, drivers.ErrChanged) || errors.Is(err, drivers.ErrUnanswered) != tt.want {
				t.Errorf("Replace = %v, want %v, and ErrUnanswered: %v", err, drivers.ErrChanged, tt.want)
			}
			if err := direct.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			_, err = envelope.Replace(t.Context(), b, key, old.Object.Tag, note{Text: "mine"}, drivers.Body{})
			if !errors.Is(err, drivers.ErrChanged) || errors.Is(err, drivers.ErrUnanswered) != tt.want {
				t.Errorf("Replace of an absent key = %v, want %v, and ErrUnanswered: %v", err, drivers.ErrChanged, tt.want)
			}
		})
	}
}

// TestCreateIsNotRepeated lets a retry of the driver find its own body, which another
// process then deletes. A second Create would bring it back.
func TestCreateIsNotRepeated(t *testing.T) {
	store := &memory.Store{Habits: memory.S3()}
	direct := bucket(t, store, nil)
	b := bucket(t, store, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if err := do(ctx); c.Method != "Create" || err != nil {
			return err
		}
		err := fmt.Errorf("%w: %w", do(ctx), drivers.ErrUnanswered)
		if err := direct.Delete(ctx, key); err != nil {
			t.Error(err)
		}
		return err
	})
	_, err := envelope.Create(t.Context(), b, key, note{Text: "mine"}, drivers.Body{})
	if !errors.Is(err, drivers.ErrBusy) || errors.Is(err, drivers.ErrExists) {
		t.Errorf("Create = %v, want %v", err, drivers.ErrBusy)
	}
	if _, err := direct.Stat(t.Context(), key); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("Stat = %v, want %v", err, drivers.ErrNotFound)
	}
}

// TestConflictIsNotConfirmed lets a retry of the driver meet its own body, which then
// cannot be read back. That is an unknown outcome, and no conflict: a caller that took
// it for one would deny a write that took effect.
func TestConflictIsNotConfirmed(t *testing.T) {
	store := &memory.Store{Habits: memory.S3()}
	old, err := envelope.Create(t.Context(), bucket(t, store, nil), key, note{Text: "old"}, drivers.Body{})
	if err != nil {
		t.Fatal(err)
	}
	b := bucket(t, store, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if c.Method == "Open" {
			return drivertest.ErrInjected
		}
		if err := do(ctx); err != nil {
			return err
		}
		return do(ctx)
	})
	_, err = envelope.Replace(t.Context(), b, key, old.Object.Tag, note{Text: "mine"}, drivers.Body{})
	if errors.Is(err, drivers.ErrChanged) || !errors.Is(err, drivertest.ErrInjected) {
		t.Errorf("Replace = %v, want %v", err, drivertest.ErrInjected)
	}
}
