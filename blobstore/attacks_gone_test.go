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

// The store's multipart upload is gone: a PATCH or PUT that notices ends the
// session, so that status doesn't invite the client to continue.
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
				u := beginUpload(t, run, p[:300])[1]
				abortAll(t, run)
				c := run.replica(t)
				first := request(c, u)
				_, status := c.status(repoA, u)
				_, patched := c.patch(repoA, u, p[300:310])
				again := request(run.replica(t), u)
				for _, err := range []error{first, status, patched, again} {
					if !errors.Is(err, ErrBlobUploadUnknown) {
						t.Fatalf("the request, status, PATCH and the request again = %v, %v, %v, %v, want %v",
							first, status, patched, again, ErrBlobUploadUnknown)
					}
				}
				must(t, c.push(repoA, p)) // the client starts again
			})
		})
	}
}

// An upload that only this request knows of is gone: the session lives on.
func TestOwnUploadGone(t *testing.T) {
	onS3(t, func(t *testing.T, run *simRun) {
		p := randomBytes(1, 1200)
		u := beginUpload(t, run, p[:100])[1]
		hold := sim.HoldFirst(func(c drivertest.Call) bool { return c.Method == "PutPart" })
		c := run.replica(t, hold.Intercept)
		err := hold.Meanwhile(t, func() error { _, err := c.patch(repoA, u, p[100:]); return err }, func() { abortAll(t, run) })
		if err == nil {
			t.Fatal("PATCH of an upload that is gone = nil")
		}
		now, err := c.status(repoA, u)
		if err != nil || now.Size != 100 {
			t.Fatalf("status = %d, %v, want 100 bytes", now.Size, err)
		}
		must(t, c.put(repoA, now, p[100:], p))
	})
}

// The upload is gone because another request has completed it, or the session
// was continued before it was gone: that request is not cancelled.
func TestUploadGoneIsNoEndForOthers(t *testing.T) {
	p := randomBytes(1, 1200)
	for name, meanwhile := range map[string]func(t *testing.T, run *simRun, u Upload) (want error){
		"committed": func(t *testing.T, run *simRun, u Upload) error {
			t.Helper()
			must(t, run.replica(t).put(repoA, u, p[300:], p))
			return ErrBlobUploadUnknown
		},
		"continued": func(t *testing.T, run *simRun, u Upload) error {
			t.Helper()
			_, err := run.replica(t).patch(repoA, u, p[300:310])
			must(t, err)
			abortAll(t, run)
			return ErrOutOfOrder
		},
		"continued and committed": func(t *testing.T, run *simRun, u Upload) error {
			t.Helper()
			u, err := run.replica(t).patch(repoA, u, p[300:310])
			must(t, err)
			must(t, run.replica(t).put(repoA, u, p[310:], p))
			return ErrOutOfOrder
		},
	} {
		t.Run(name, func(t *testing.T) {
			onS3(t, func(t *testing.T, run *simRun) {
				u := beginUpload(t, run, p[:300])[1]
				hold := sim.HoldFirst(func(c drivertest.Call) bool { return c.Method == "PutPart" })
				c := run.replica(t, hold.Intercept)
				var want error
				err := hold.Meanwhile(t, func() error { _, err := c.patch(repoA, u, p[300:1100]); return err },
					func() { want = meanwhile(t, run, u) })
				if !errors.Is(err, want) {
					t.Errorf("PATCH = %v, want %v", err, want)
				}
				if name == "committed" {
					must(t, run.replica(t).put(repoA, u, p[300:], p))
				}
				if name != "continued" {
					must(t, run.replica(t).get(p))
				}
			})
		})
	}
}

// A PUT that held all bytes has replaced the newest record; a PATCH in flight
// creates the next one nevertheless, and refers to it. Its client learns that the
// upload is over as soon as the bytes are needed, and from then on.
func TestPatchAfterAnEndInPlace(t *testing.T) {
	onEveryDriver(t, func(t *testing.T, run *simRun) {
		p := randomBytes(1, 250)
		u := beginUpload(t, run, p[:20], p[20:40])[2]
		hold := sim.HoldFirst(sim.On("Create", "uploads/"))
		c := run.replica(t, hold.Intercept)
		var next Upload
		err := hold.Meanwhile(t, func() (err error) { next, err = c.patch(repoA, u, p[40:50]); return err },
			func() { must(t, run.replica(t).put(repoA, u, nil, p[:40])) })
		must(t, err)
		put := c.put(repoA, next, p[50:], p)
		_, status := c.status(repoA, next)
		_, patched := c.patch(repoA, next, p[50:])
		for _, err := range []error{put, status, patched} {
			if !errors.Is(err, ErrBlobUploadUnknown) {
				t.Fatalf("PUT, status, PATCH = %v, %v, %v, want %v", put, status, patched, ErrBlobUploadUnknown)
			}
		}
		must(t, run.replica(t).put(repoA, u, nil, p[:40])) // whose answer was lost
		must(t, c.get(p[:40]))
	})
}
