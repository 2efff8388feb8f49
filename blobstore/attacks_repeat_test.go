package blobstore

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// A PATCH whose answer was lost is sent again: to the same or another replica,
// before the session goes on or after.
func TestPatchAgain(t *testing.T) {
	p := randomBytes(1, 1200)
	for _, n := range []int{10, 200, 700} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) {
				u := beginUpload(t, run, p[:100])[1]
				patch := func(p []byte, start int64) (Upload, error) {
					return run.replica(t).in(repoA).AppendUpload(run.Ctx, u.ID, u.State, Body{bytes.NewReader(p), int64(len(p)), start, nil})
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
				if _, err := patch(p[:n], -1); expect(err, ErrOutOfOrder, ErrBlobUploadUnknown) != nil || err == nil {
					t.Errorf("PATCH of other bytes after the end = %v", err)
				}
			})
		})
	}
}

// As TestPatchAgain, where the first one's record comes late, or its answer is an
// error: what the store has when the second one comes decides.
func TestPatchAgainAfterAnError(t *testing.T) {
	p := randomBytes(1, 300)
	for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Unanswered, drivertest.Late} {
		t.Run(mode.String(), func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) {
				u := beginUpload(t, run, p[:100])[1]
				f := &drivertest.Faulty{Mode: mode, Nth: 1, Match: sim.On("Create", "uploads/"), Dead: mode == drivertest.Unanswered}
				c := run.replica(t, f.Intercept)
				if _, err := c.patch(repoA, u, p[100:200]); err == nil {
					t.Fatal("PATCH = nil, want it to fail")
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
