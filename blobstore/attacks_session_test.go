package blobstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/upload"
)

// Attacks on sessions by cancelling, late records, other repositories' tokens
// and expiry.

// A session is cancelled while another request is in it.
func TestAttack11Cancel(t *testing.T) {
	p := randomBytes(1, 900)
	for _, before := range [][][]byte{nil, {p[:50]}, {p[:300]}} {
		n := len(slices.Concat(before...))
		rest := p[n:]
		for name, request := range map[string]func(c *client, u Upload) error{
			"PATCH":  func(c *client, u Upload) error { _, err := c.patch(repoA, u, rest); return err },
			"PUT":    func(c *client, u Upload) error { return c.put(repoA, u, rest, p) },
			"cancel": func(c *client, u Upload) error { return c.cancel(repoA, u) },
		} {
			for _, at := range []string{"uploads/", "data/"} {
				if at == "data/" && name == "cancel" || at == "uploads/" && name == "PUT" && n < 300 {
					continue // it makes no such call
				}
				t.Run(fmt.Sprintf("%s at %s after %d bytes", name, at, n), func(t *testing.T) {
					onEveryDriver(t, func(t *testing.T, run *simRun) {
						tokens := beginUpload(t, run, before...)
						u := tokens[len(tokens)-1]
						hold := sim.HoldFirst(func(c drivertest.Call) bool { return c.Writes() && strings.HasPrefix(c.Key, at) })
						slow := run.replica(t, hold.Intercept)
						err := hold.Meanwhile(t, func() error { return request(slow, u) }, func() {
							must(t, run.replica(t).cancel(repoA, u))
						})
						// A PUT that needs none of the session's parts commits all
						// the same.
						if whole := name == "PUT" && n < 300; !whole && !errors.Is(err, ErrBlobUploadUnknown) || whole && err != nil {
							t.Errorf("the request in flight answers %v", err)
						}
						c := run.replica(t)
						_, patched := c.patch(repoA, u, rest)
						_, status := c.status(repoA, u)
						again := c.cancel(repoA, u)
						for _, err := range []error{patched, status, again} {
							if !errors.Is(err, ErrBlobUploadUnknown) {
								t.Errorf("PATCH, status, cancel = %v, %v, %v, want ErrBlobUploadUnknown", patched, status, again)
								break
							}
						}
						mustBeFound(t, run)
					})
				})
			}
		}
	}
}

// mustBeFound fails the test if parts are staged of an upload that no session's
// record names and that nobody aborted: nobody would know whose they are.
func mustBeFound(t *testing.T, run *simRun) {
	t.Helper()
	named := map[string]bool{}
	for _, chain := range run.inventory(t).Sessions {
		for _, r := range chain {
			if r.Value.Upload != nil {
				named[r.Value.Upload.Key] = true
			}
		}
	}
	for u, err := range run.Bucket.Uploads(run.Ctx, "") {
		must(t, err)
		if !named[u.Key] {
			t.Errorf("parts of %s are staged, and no record names it", u.Key)
		}
	}
}

// The answer to the creation of a record is an error, and it is created later:
// by then nothing that it names is gone.
func TestAttack12LateRecords(t *testing.T) {
	p := randomBytes(1, 600)
	late := func(match func(drivertest.Call) bool) *drivertest.Faulty {
		return &drivertest.Faulty{Mode: drivertest.Late, Nth: 1, Match: match}
	}
	t.Run("session record", func(t *testing.T) {
		onEveryDriver(t, func(t *testing.T, run *simRun) {
			f := late(sim.On("Create", "uploads/"))
			var calls drivertest.Counter
			c := run.replica(t, calls.Intercept, f.Intercept)
			u := beginUpload(t, run)[0]
			if _, err := c.patch(repoA, u, p[:300]); !errors.Is(err, drivertest.ErrInjected) {
				t.Fatalf("PATCH = %v, want it to fail", err)
			}
			for _, method := range []string{"Abort", "Delete", "DeleteIf"} {
				if n := calls.ByMethod()[method]; n > 0 {
					t.Errorf("%d calls of %s, want none", n, method)
				}
			}
			must(t, f.Land(run.Ctx))
			now, err := c.status(repoA, u)
			if err != nil || now.Size != 300 {
				t.Fatalf("status = %d, %v, want 300 bytes", now.Size, err)
			}
			must(t, c.put(repoA, now, p[300:], p))
		})
	})
	t.Run("session record, PATCH again", func(t *testing.T) {
		onEveryDriver(t, func(t *testing.T, run *simRun) {
			f := late(sim.On("Create", "uploads/"))
			c := run.replica(t, f.Intercept)
			u := beginUpload(t, run)[0]
			if _, err := c.patch(repoA, u, p[:300]); !errors.Is(err, drivertest.ErrInjected) {
				t.Fatalf("PATCH = %v, want it to fail", err)
			}
			u, err := c.patch(repoA, u, p[:300])
			must(t, err)
			if err := f.Land(run.Ctx); err == nil {
				t.Error("the late record took the place of another")
			}
			must(t, c.put(repoA, u, p[300:], p))
		})
	})
	for _, first := range []bool{true, false} {
		t.Run("blob record", func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) {
				for i, n := range []int{40, 200, 600} {
					p := randomBytes(uint64(i), n)
					f := late(sim.On("Create", "/record"))
					if err := run.replica(t, f.Intercept).push(repoA, p); !errors.Is(err, drivertest.ErrInjected) {
						t.Fatalf("push = %v, want it to fail", err)
					}
					if first {
						must(t, f.Land(run.Ctx))
					}
					must(t, run.replica(t).push(repoB, p))
					if err := f.Land(run.Ctx); !first && err == nil {
						t.Error("the late record took the place of another")
					}
					must(t, run.replica(t).push(repoA, p))
				}
			})
		})
	}
	t.Run("answer lost only", func(t *testing.T) { // read back, it is one's own
		onEveryDriver(t, func(t *testing.T, run *simRun) {
			for i, part := range []string{"/record", "links/", "uploads/", "data/"} {
				f := &drivertest.Faulty{Mode: drivertest.Unanswered, Nth: 1, Match: sim.On("Create", part)}
				c := run.replica(t, f.Intercept)
				p := randomBytes(uint64(i), 600)
				if part == "data/" {
					must(t, stubborn(func() error { return c.push(repoA, p[:200]) }))
				} else {
					must(t, c.pushByPatch(p))
				}
				if _, hit := f.Hit(); !hit {
					t.Errorf("no Create of %s", part)
				}
			}
		})
	})
}

// An upload of another repository, with a valid token of one's own.
func TestAttack13UploadOfAnotherRepository(t *testing.T) {
	onEveryDriver(t, func(t *testing.T, run *simRun) {
		p := randomBytes(1, 600)
		theirs := beginUpload(t, run, p[:300])[1]
		c := run.replica(t)
		own, err := c.in(repoB).StartUpload("")
		must(t, err)
		token, err := c.s.uploads.Verify(theirs.State)
		must(t, err)
		mixed := []Upload{
			{ID: theirs.ID, State: own.State},
			{ID: theirs.ID, State: theirs.State},
		}
		// Even a token that says that the upload is one's own finds out: its
		// records say otherwise.
		for seq := range 2 {
			mixed = append(mixed, Upload{ID: theirs.ID, State: c.s.uploads.Sign(upload.Token{ID: token.ID, Repository: repoB, Started: token.Started, Seq: seq, Algorithm: token.Algorithm})})
		}
		for i, u := range mixed {
			_, patched := c.patch(repoB, u, p[300:])
			_, status := c.status(repoB, u)
			for what, err := range map[string]error{"PATCH": patched, "status": status, "cancel": c.cancel(repoB, u), "PUT": c.put(repoB, u, p[300:], p)} {
				// A PUT without a record is of the bytes that it brings, which
				// are not all.
				if _, isDigest := errors.AsType[ErrBlobInvalidDigest](err); !errors.Is(err, ErrBlobUploadUnknown) && (what != "PUT" || !isDigest) {
					t.Errorf("%s of upload %d = %v, want ErrBlobUploadUnknown", what, i, err)
				}
			}
		}
		must(t, c.put(repoA, theirs, p[300:], p))
	})
}

// sleepy is a body that takes its time.
type sleepy struct {
	io.Reader
	pause time.Duration
}

func (s *sleepy) Read(p []byte) (int, error) {
	time.Sleep(s.pause)
	s.pause = 0
	return s.Reader.Read(p)
}

// A PATCH goes on past the end of the session's life, and status is asked all
// the time: neither makes it live longer.
func TestAttack14Expiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		onS3(t, func(t *testing.T, run *simRun) {
			p := randomBytes(1, 600)
			u := beginUpload(t, run, p[:300])[1]
			c := run.replica(t)
			for range 143 {
				time.Sleep(time.Hour)
				var err error
				u, err = c.status(repoA, u)
				must(t, err)
			}
			body := &sleepy{bytes.NewReader(p[300:]), 2 * time.Hour}
			now, err := c.in(repoA).AppendUpload(run.Ctx, u.ID, u.State, Body{body, -1, -1, nil})
			must(t, err)
			for _, u := range []Upload{u, now} {
				_, patched := c.patch(repoA, u, p[:10])
				_, status := c.status(repoA, u)
				for what, err := range map[string]error{"PATCH": patched, "status": status, "cancel": c.cancel(repoA, u), "PUT": c.put(repoA, u, nil, p)} {
					if !errors.Is(err, ErrBlobUploadUnknown) {
						t.Errorf("%s after 145 hours = %v, want ErrBlobUploadUnknown", what, err)
					}
				}
			}
		})
	})
}

// A session is cancelled again by each of its tokens. All of its records that
// hold bytes go, and say where its end is.
func TestAttack11CancelByEveryToken(t *testing.T) {
	onEveryDriver(t, func(t *testing.T, run *simRun) {
		p := randomBytes(1, 60)
		tokens := beginUpload(t, run, p[:20], p[20:40], p[40:])
		must(t, run.replica(t).cancel(repoA, tokens[1]))
		for _, u := range tokens {
			if err := run.replica(t).cancel(repoA, u); !errors.Is(err, ErrBlobUploadUnknown) {
				t.Errorf("cancel again = %v, want ErrBlobUploadUnknown", err)
			}
			run.mustHold(t)
		}
	})
}
