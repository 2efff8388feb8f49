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

// Attacks on sessions by cancelling, late records, tokens of other repositories
// and expiry.

// heldRequest is a request in a session that is held back at a call, while the
// session is cancelled.
type heldRequest struct {
	name string
	at   string // prefix of the key of the call
	run  func(c *client, u Upload) error

	// survives means that the request needs none of the session's parts, and so
	// succeeds after the session was cancelled.
	survives bool
}

// TestAttack11Cancel cancels a session while another request is in it.
func TestAttack11Cancel(t *testing.T) {
	p := randomBytes(1, 900)
	for _, before := range [][][]byte{nil, {p[:50]}, {p[:300]}} {
		n := len(slices.Concat(before...))
		rest, hasParts := p[n:], n >= tinyPart
		patch := func(c *client, u Upload) error { _, err := c.patch(repoA, u, rest); return err }
		put := func(c *client, u Upload) error { return c.put(repoA, u, rest, p) }
		cancel := func(c *client, u Upload) error { return c.cancel(repoA, u) }
		held := []heldRequest{
			{"PATCH", "uploads/", patch, false},
			{"PATCH", "data/", patch, false},
			{"PUT", "data/", put, !hasParts},
			{"cancel", "uploads/", cancel, false},
		}
		if hasParts { // otherwise it creates no session record
			held = append(held, heldRequest{"PUT", "uploads/", put, false})
		}
		for _, h := range held {
			t.Run(fmt.Sprintf("%s at %s after %d bytes", h.name, h.at, n), func(t *testing.T) {
				onEveryDriver(t, func(t *testing.T, run *simRun) {
					u := newest(startSession(t, run, before...))
					h.cancelMeanwhile(t, run, u)
					c := run.replica(t)
					_, patched := c.patch(repoA, u, rest)
					_, status := c.status(repoA, u)
					wantUnknown(t, "PATCH, status and cancel", patched, status, c.cancel(repoA, u))
					wantNamedUploads(t, run)
				})
			})
		}
	}
}

func (h heldRequest) cancelMeanwhile(t *testing.T, run *simRun, u Upload) {
	t.Helper()
	hold := sim.HoldFirst(func(c drivertest.Call) bool { return c.Writes() && strings.HasPrefix(c.Key, h.at) })
	slow := run.replica(t, hold.Intercept)
	err := hold.Meanwhile(t, func() error { return h.run(slow, u) }, func() {
		must(t, run.replica(t).cancel(repoA, u))
	})
	if h.survives {
		must(t, err)
	} else {
		wantUnknown(t, h.name, err)
	}
}

// wantNamedUploads fails the test if parts are staged of an upload that no session
// record names. The collector would not know to what they belong.
func wantNamedUploads(t *testing.T, run *simRun) {
	t.Helper()
	named := map[string]bool{}
	for _, chain := range run.inventory(t).Sessions {
		for _, r := range chain {
			if r.Upload != nil {
				named[r.Upload.Key] = true
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

// TestAttack11CancelByEveryToken cancels a session again with each of its tokens.
// All of its records that hold bytes are spent and point to the end.
func TestAttack11CancelByEveryToken(t *testing.T) {
	onEveryDriver(t, func(t *testing.T, run *simRun) {
		p := randomBytes(1, 60)
		tokens := startSession(t, run, p[:20], p[20:40], p[40:])
		must(t, run.replica(t).cancel(repoA, tokens[1]))
		for _, u := range tokens {
			wantUnknown(t, "cancel again", run.replica(t).cancel(repoA, u))
			run.mustHold(t)
		}
	})
}

// lateCreate returns a fault of the first Create of a key that contains part.
func lateCreate(part string) *drivertest.Faulty {
	return &drivertest.Faulty{Mode: drivertest.Late, Nth: 1, Match: sim.On("Create", part)}
}

// failedPatch makes a PATCH whose session record is late, and returns the token
// from before.
func failedPatch(t *testing.T, run *simRun, p []byte, f ...drivertest.Intercept) Upload {
	t.Helper()
	u := startSession(t, run)[0]
	if _, err := run.replica(t, f...).patch(repoA, u, p); !errors.Is(err, drivertest.ErrInjected) {
		t.Fatalf("PATCH = %v, want the injected error", err)
	}
	return u
}

// TestAttack12LateSessionRecord makes the creation of a session record fail and
// take effect later. What the record names was not deleted.
func TestAttack12LateSessionRecord(t *testing.T) {
	p := randomBytes(1, 600)
	onEveryDriver(t, func(t *testing.T, run *simRun) {
		f := lateCreate("uploads/")
		var calls drivertest.Counter
		u := failedPatch(t, run, p[:300], calls.Intercept, f.Intercept)
		for _, method := range []string{"Abort", "Delete", "DeleteIf"} {
			if n := calls.ByMethod()[method]; n > 0 {
				t.Errorf("%d calls of %s, want none", n, method)
			}
		}
		must(t, f.Land(run.Ctx))
		c := run.replica(t)
		now, err := c.status(repoA, u)
		if err != nil || now.Size != 300 {
			t.Fatalf("status = %d, %v, want 300 bytes", now.Size, err)
		}
		must(t, c.put(repoA, now, p[300:], p))
	})
}

// TestAttack12LateRecordAfterPatchAgain repeats the PATCH before the late session
// record takes effect, which then finds its number taken.
func TestAttack12LateRecordAfterPatchAgain(t *testing.T) {
	p := randomBytes(1, 600)
	onEveryDriver(t, func(t *testing.T, run *simRun) {
		f := lateCreate("uploads/")
		u := failedPatch(t, run, p[:300], f.Intercept)
		u, err := run.replica(t).patch(repoA, u, p[:300])
		must(t, err)
		if err := f.Land(run.Ctx); err == nil {
			t.Error("the late record replaced another one")
		}
		must(t, run.replica(t).put(repoA, u, p[300:], p))
	})
}

// TestAttack12LateBlobRecord makes the creation of a blob's record fail and take
// effect before or after a push by another client.
func TestAttack12LateBlobRecord(t *testing.T) {
	for _, before := range []bool{true, false} {
		t.Run(fmt.Sprintf("before the other push %v", before), func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) {
				for i, n := range []int{40, 200, 600} {
					p := randomBytes(uint64(i), n)
					f := lateCreate("/record")
					if err := run.replica(t, f.Intercept).push(repoA, p); !errors.Is(err, drivertest.ErrInjected) {
						t.Fatalf("push = %v, want the injected error", err)
					}
					if before {
						must(t, f.Land(run.Ctx))
					}
					must(t, run.replica(t).push(repoB, p))
					if err := f.Land(run.Ctx); !before && err == nil {
						t.Error("the late record replaced another one")
					}
					must(t, run.replica(t).push(repoA, p))
				}
			})
		})
	}
}

// TestAttack12LostResponse loses only the response of a Create. The writer reads
// back and recognizes its own write.
func TestAttack12LostResponse(t *testing.T) {
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
}

// TestAttack13UploadOfAnotherRepository uses tokens of repoB for an upload of
// repoA. Even a signed token that claims the upload for repoB fails, because the
// session records name repoA.
func TestAttack13UploadOfAnotherRepository(t *testing.T) {
	onEveryDriver(t, func(t *testing.T, run *simRun) {
		p := randomBytes(1, 600)
		theirs := startSession(t, run, p[:300])[1]
		c := run.replica(t)
		ours, err := c.start(repoB, "")
		must(t, err)
		token, err := c.s.uploads.Verify(theirs.State)
		must(t, err)
		mixed := []Upload{
			{ID: theirs.ID, State: ours.State},
			{ID: theirs.ID, State: theirs.State},
		}
		for seq := range 2 {
			claim := upload.Token{ID: token.ID, Repository: repoB, Started: token.Started, Seq: seq, Algorithm: token.Algorithm}
			mixed = append(mixed, Upload{ID: theirs.ID, State: c.s.uploads.Sign(claim)})
		}
		for i, u := range mixed {
			_, patched := c.patch(repoB, u, p[300:])
			_, status := c.status(repoB, u)
			wantUnknown(t, fmt.Sprintf("PATCH, status and cancel of upload %d", i), patched, status, c.cancel(repoB, u))
			// A PUT without a record has only the bytes of its body.
			if err := c.put(repoB, u, p[300:], p); !isWrongDigest(err) {
				wantUnknown(t, fmt.Sprintf("PUT of upload %d", i), err)
			}
		}
		must(t, c.put(repoA, theirs, p[300:], p))
	})
}

// TestAttack14Expiry makes a PATCH that lasts past the expiry of its session, and
// requests the status all the time. Neither prolongs the session.
func TestAttack14Expiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		onS3(t, func(t *testing.T, run *simRun) {
			p := randomBytes(1, 600)
			u := startSession(t, run, p[:300])[1]
			c := run.replica(t)
			for range 143 {
				time.Sleep(time.Hour)
				var err error
				u, err = c.status(repoA, u)
				must(t, err)
			}
			body := &pausing{bytes.NewReader(p[300:]), 2 * time.Hour}
			now, err := c.in(repoA).AppendUpload(run.Ctx, u.ID, u.State, Body{body, -1, -1, nil})
			must(t, err)
			for _, u := range []Upload{u, now} {
				_, patched := c.patch(repoA, u, p[:10])
				_, status := c.status(repoA, u)
				wantUnknown(t, "PATCH, status, cancel and PUT after 145 hours", patched, status, c.cancel(repoA, u), c.put(repoA, u, nil, p))
			}
		})
	})
}

// pausing is a reader that pauses once, before its first byte.
type pausing struct {
	io.Reader
	pause time.Duration
}

func (s *pausing) Read(p []byte) (int, error) {
	time.Sleep(s.pause)
	s.pause = 0
	return s.Reader.Read(p)
}
