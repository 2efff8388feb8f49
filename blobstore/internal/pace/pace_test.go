package pace_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/blobstore/internal/pace"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
)

// TestRate checks that requests, pages of lists among them, wait for their turn.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner, err := memory.Open(t.Context(), memory.Config{})
		if err != nil {
			t.Fatal(err)
		}
		b := pace.New(inner, 10)
		start := time.Now()
		for n := range 20 {
			if _, err := b.Create(t.Context(), fmt.Sprintf("k%d", n), drivers.NewBody([]byte("x"))); err != nil {
				t.Fatal(err)
			}
		}
		for _, err := range b.List(t.Context(), "", "", 0) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took < 1900*time.Millisecond || took > 2100*time.Millisecond || b.Requests() != 21 {
			t.Errorf("%d requests took %v, want 21 in 2 s", b.Requests(), took)
		}
	})
}

// TestRetry checks that Retry gives a busy store a minute, and no other error a second try.
func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, n := time.Now(), 0
		err := pace.Retry(t.Context(), func() error { n++; return drivers.ErrBusy })
		if took := time.Since(start); n != 6 || !errors.Is(err, drivers.ErrBusy) || took != 62*time.Second {
			t.Errorf("Retry = %v after %d calls and %v, want %v after 6 and 62 s", err, n, took, drivers.ErrBusy)
		}
		n = 0
		if err := pace.Retry(t.Context(), func() error { n++; return drivers.ErrNotFound }); n != 1 || !errors.Is(err, drivers.ErrNotFound) {
			t.Errorf("Retry = %v after %d calls, want %v after 1", err, n, drivers.ErrNotFound)
		}
	})
}
