package blobstore

import (
	"errors"
	"testing"

	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers/drivertest"
)

// abortAll drops the parts of all uploads, as a lifecycle rule of a bucket may.
func abortAll(t *testing.T, run *simRun) {
	t.Helper()
	for u, err := range run.Bucket.Uploads(run.Ctx, "") {
		must(t, err)
		must(t, run.Bucket.Abort(run.Ctx, u))
	}
}

// TestUploadGone drops the store's multipart upload. A PATCH or PUT that notices
// this ends the session, so that status does not invite the client to continue.
func TestUploadGone(t *testing.T) {
	p := randomBytes(1, 1200)
	for name, request := range map[string]func(c *client, u Upload) error{
		"PATCH":                func(c *client, u Upload) error { _, err := c.patch(repoA, u, p[300:1100]); return err },
		"PUT of many bytes":    func(c *client, u Upload) error { return c.put(repoA, u, p[300:], p) },
		"PUT of few bytes":     func(c *client, u Upload) error { return c.put(repoA, u, p[300:310], p[:310]) },
		"PUT of no more bytes": func(c *client, u Upload) error { return c.put(repoA, u, nil, p[:300]) },
	} {
		t.Run(name, func(t *testing.T) {
			onS3(t, func(t *testing.T, run *simRun) {
				u := startSession(t, run, p[:300])[1]
				abortAll(t, run)
				c := run.replica(t)
				first := request(c, u)
				_, status := c.status(repoA, u)
				_, patched := c.patch(repoA, u, p[300:310])
				again := request(run.replica(t), u)
				wantUnknown(t, "the request, status, PATCH and the request again", first, status, patched, again)
				must(t, c.push(repoA, p)) // the client starts again
			})
		})
	}
}

// TestOwnUploadGone drops a multipart upload that no record names yet. The session
// continues.
func TestOwnUploadGone(t *testing.T) {
	onS3(t, func(t *testing.T, run *simRun) {
		p := randomBytes(1, 1200)
		u := startSession(t, run, p[:100])[1]
		hold := sim.HoldFirst(func(c drivertest.Call) bool { return c.Method == "PutPart" })
		c := run.replica(t, hold.Intercept)
		err := hold.Meanwhile(t, func() error { _, err := c.patch(repoA, u, p[100:]); return err }, func() { abortAll(t, run) })
		if err == nil {
			t.Fatal("PATCH succeeded without its upload")
		}
		now, err := c.status(repoA, u)
		if err != nil || now.Size != 100 {
			t.Fatalf("status = %d, %v, want 100 bytes", now.Size, err)
		}
		must(t, c.put(repoA, now, p[100:], p))
	})
}

// TestUploadGoneIsNoEndForOthers holds back a PATCH while another request completes
// the upload or continues the session. That request is not cancelled when the
// PATCH finds the upload gone.
func TestUploadGoneIsNoEndForOthers(t *testing.T) {
	p := randomBytes(1, 1200)
	patchMore := func(t *testing.T, run *simRun, u Upload) Upload {
		t.Helper()
		u, err := run.replica(t).patch(repoA, u, p[300:310])
		must(t, err)
		return u
	}
	commit := func(t *testing.T, run *simRun, u Upload) {
		t.Helper()
		must(t, run.replica(t).put(repoA, u, p[300:], p))
		must(t, run.replica(t).get(p))
	}
	for _, other := range []struct {
		name string
		do   func(t *testing.T, run *simRun, u Upload)
		want error // of the PATCH
		then func(t *testing.T, run *simRun, u Upload)
	}{
		{"committed", commit, ErrBlobUploadUnknown, commit},
		{"continued", func(t *testing.T, run *simRun, u Upload) {
			t.Helper()
			patchMore(t, run, u)
			abortAll(t, run)
		}, ErrOutOfOrder, func(*testing.T, *simRun, Upload) {}},
		{"continued and committed", func(t *testing.T, run *simRun, u Upload) {
			t.Helper()
			must(t, run.replica(t).put(repoA, patchMore(t, run, u), p[310:], p))
		}, ErrOutOfOrder, func(t *testing.T, run *simRun, _ Upload) {
			t.Helper()
			must(t, run.replica(t).get(p))
		}},
	} {
		t.Run(other.name, func(t *testing.T) {
			onS3(t, func(t *testing.T, run *simRun) {
				u := startSession(t, run, p[:300])[1]
				hold := sim.HoldFirst(func(c drivertest.Call) bool { return c.Method == "PutPart" })
				c := run.replica(t, hold.Intercept)
				patch := func() error { _, err := c.patch(repoA, u, p[300:1100]); return err }
				if err := hold.Meanwhile(t, patch, func() { other.do(t, run, u) }); !errors.Is(err, other.want) {
					t.Errorf("PATCH = %v, want %v", err, other.want)
				}
				other.then(t, run, u)
			})
		})
	}
}

// TestPatchAfterAnEndInPlace holds back a PATCH while a PUT that has all bytes
// replaces the newest record. The PATCH creates the next record anyway, and refers
// to the replaced one. Its client gets ErrBlobUploadUnknown once the bytes are
// needed, and from then on.
func TestPatchAfterAnEndInPlace(t *testing.T) {
	onEveryDriver(t, func(t *testing.T, run *simRun) {
		p := randomBytes(1, 250)
		u := startSession(t, run, p[:20], p[20:40])[2]
		hold := sim.HoldFirst(sim.On("Create", "uploads/"))
		c := run.replica(t, hold.Intercept)
		var next Upload
		err := hold.Meanwhile(t, func() (err error) { next, err = c.patch(repoA, u, p[40:50]); return err },
			func() { must(t, run.replica(t).put(repoA, u, nil, p[:40])) })
		must(t, err)
		put := c.put(repoA, next, p[50:], p)
		_, status := c.status(repoA, next)
		_, patched := c.patch(repoA, next, p[50:])
		wantUnknown(t, "PUT, status and PATCH", put, status, patched)
		must(t, run.replica(t).put(repoA, u, nil, p[:40])) // as if its response had been lost
		must(t, c.get(p[:40]))
	})
}
