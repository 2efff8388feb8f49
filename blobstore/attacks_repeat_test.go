package blobstore

import (
	"errors"
	"fmt"
	"testing"

	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// TestPatchAgain repeats a PATCH whose response was lost, at another replica,
// before and after the session ends.
func TestPatchAgain(t *testing.T) {
	p := randomBytes(1, 1200)
	for _, n := range []int{10, 200, 700} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) {
				u := startSession(t, run, p[:100])[1]
				patch := func(p []byte, start int64) (Upload, error) {
					body := bodyOf(p)
					body.Start = start
					return run.replica(t).in(repoA).AppendUpload(run.Ctx, u.ID, u.State, body)
				}
				first, err := patch(p[100:100+n], -1)
				must(t, err)
				again, err := patch(p[100:100+n], -1)
				if err != nil || again != first {
					t.Errorf("PATCH again = %+v, %v, want %+v", again, err, first)
				}
				if _, err := patch(p[100:100+n], 100); !errors.Is(err, ErrOutOfOrder) {
					t.Errorf("PATCH again with its offset = %v, want %v", err, ErrOutOfOrder)
				}
				if _, err := patch(p[101:101+n], -1); !errors.Is(err, ErrOutOfOrder) {
					t.Errorf("PATCH of other bytes = %v, want %v", err, ErrOutOfOrder)
				}
				must(t, run.replica(t).put(repoA, again, p[100+n:], p))
				if _, err := patch(p[:n], -1); err == nil || expect(err, ErrOutOfOrder, ErrBlobUploadUnknown) != nil {
					t.Errorf("PATCH of other bytes after the end = %v, want %v or %v", err, ErrOutOfOrder, ErrBlobUploadUnknown)
				}
			})
		})
	}
}

// TestPatchAgainAfterAnError repeats a PATCH whose session record is lost, has a
// lost response, or is late. The state of the store when the second PATCH arrives
// decides.
func TestPatchAgainAfterAnError(t *testing.T) {
	p := randomBytes(1, 300)
	for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Unanswered, drivertest.Late} {
		t.Run(mode.String(), func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) {
				u := startSession(t, run, p[:100])[1]
				f := &drivertest.Faulty{Mode: mode, Nth: 1, Match: sim.On("Create", "uploads/"), Dead: mode == drivertest.Unanswered}
				if _, err := run.replica(t, f.Intercept).patch(repoA, u, p[100:200]); err == nil {
					t.Fatal("PATCH succeeded, want an error")
				}
				now, err := run.replica(t).patch(repoA, u, p[100:200])
				must(t, err)
				if err := f.Land(run.Ctx); err != nil && !errors.Is(err, drivers.ErrExists) {
					t.Fatal(err)
				}
				must(t, run.replica(t).put(repoA, now, p[200:], p))
			})
		})
	}
}
