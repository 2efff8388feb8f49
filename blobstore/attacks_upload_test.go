package blobstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers/drivertest"
)

// Attacks on sessions and commits: interleavings that would break a simpler
// protocol. Attacks 4 and 9 are in poison_test.go, 11 to 14 in
// attacks_session_test.go.

// startSession starts a session of repoA and sends it these pieces, by a PATCH
// each. It returns the session's tokens: with no record, with the first, and so on.
func startSession(t *testing.T, run *simRun, pieces ...[]byte) []Upload {
	t.Helper()
	return sendPieces(t, run.replica(t), pieces...)
}

func sendPieces(t *testing.T, c *client, pieces ...[]byte) []Upload {
	t.Helper()
	u, err := c.start(repoA, "")
	must(t, err)
	tokens := []Upload{u}
	for _, p := range pieces {
		u, err = c.patch(repoA, u, p)
		must(t, err)
		tokens = append(tokens, u)
	}
	return tokens
}

func newest(tokens []Upload) Upload { return tokens[len(tokens)-1] }

// unfinished is a session that a PUT continues: the pieces that PATCHes have sent,
// and the rest.
type unfinished struct {
	before [][]byte
	rest   []byte
}

// sessions returns sessions of the first bytes of p, which has 600.
func sessions(p []byte) map[string]unfinished {
	return map[string]unfinished{
		"fresh, inline":     {nil, p[:40]},
		"fresh, one object": {nil, p[:200]},
		"fresh, parts":      {nil, p[:600]},
		"tail":              {[][]byte{p[:100]}, p[100:200]},
		"tail, then parts":  {[][]byte{p[:100]}, p[100:600]},
		"part and tail":     {[][]byte{p[:300]}, p[300:600]},
		"several records":   {[][]byte{p[:300], p[300:550]}, p[550:600]},
		"nothing left":      {[][]byte{p[:300]}, nil},
		"tails":             {[][]byte{p[:10], p[10:30], p[30:100]}, p[100:200]},
		"tails, then parts": {[][]byte{p[:10], p[10:30], p[30:100]}, p[100:600]},
		"parts and tails":   {[][]byte{p[:300], p[300:320], p[320:600]}, nil},
	}
}

// all returns all bytes of a session.
func (s unfinished) all() []byte { return append(slices.Concat(s.before...), s.rest...) }

// like returns a session of the bytes p, in pieces of the same lengths.
func (s unfinished) like(p []byte) (other unfinished) {
	for _, b := range s.before {
		other.before = append(other.before, p[:len(b)])
		p = p[len(b):]
	}
	other.rest = p
	return other
}

// start starts the session and returns its newest token.
func (s unfinished) start(t *testing.T, run *simRun) Upload {
	t.Helper()
	return newest(startSession(t, run, s.before...))
}

// put returns a PUT of the rest.
func (s unfinished) put(c *client, u Upload) error { return c.put(repoA, u, s.rest, s.all()) }

// onEverySession runs f for each of the sessions and each kind of store.
func onEverySession(t *testing.T, f func(t *testing.T, run *simRun, s unfinished)) {
	t.Helper()
	for name, s := range sessions(randomBytes(1, 600)) {
		t.Run(name, func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) { f(t, run, s) })
		})
	}
}

// TestAttack1KilledBeforeTheLink kills a PUT before the link, and repeats it at
// another replica. The data of the first stays.
func TestAttack1KilledBeforeTheLink(t *testing.T) {
	onEverySession(t, func(t *testing.T, run *simRun, s unfinished) {
		u := s.start(t, run)
		dying := run.replica(t, sim.Dying(drivertest.Lost, sim.On("Create", "links/")))
		if err := s.put(dying, u); err == nil {
			t.Fatal("the PUT was not killed")
		}
		data := readRecord(t, run, s.all()).Value.Data
		must(t, s.put(run.replica(t), u))
		if now := readRecord(t, run, s.all()).Value.Data; now != data {
			t.Errorf("the record names %q after the second PUT, and %q before", now, data)
		}
	})
}

// TestAttack2SamePutAtOnce sends the same PUT to three replicas concurrently.
func TestAttack2SamePutAtOnce(t *testing.T) {
	onEverySession(t, func(t *testing.T, run *simRun, s unfinished) {
		u := s.start(t, run)
		var wg sync.WaitGroup
		for range 3 {
			c := run.replica(t)
			wg.Go(func() {
				if err := s.put(c, u); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

// TestAttack3OtherBytesUnderAnOldToken uses token 0 again, with other bytes, after
// a commit.
func TestAttack3OtherBytesUnderAnOldToken(t *testing.T) {
	for _, n := range []int{40, 200, 600} {
		x, y := twins(1, n, n)
		onEveryDriver(t, func(t *testing.T, run *simRun) {
			u := startSession(t, run)[0]
			c := run.replica(t)
			must(t, c.put(repoA, u, x, x))
			_, err := c.patch(repoA, u, y)
			must(t, err)
			must(t, c.put(repoA, u, y, y))
			must(t, c.get(x))
			must(t, c.get(y))
			if err := c.putAs(repoA, u, y, y, digest.FromBytes(x)); err == nil {
				t.Error("PUT of y by the digest of x succeeded")
			}
		})
	}
}

// lateRequest is a request with an old token, which stalls after it has read its
// record. Meanwhile another request commits the session.
type lateRequest struct {
	name     string
	token    int
	request  func(c *client, u Upload) error
	succeeds bool // because it holds all bytes and needs no session
}

// TestAttack5EndOnlyOnce checks that a late request neither ends the session a
// second time nor continues it after its end.
func TestAttack5EndOnlyOnce(t *testing.T) {
	for name, n := range map[string][]int{
		"parts, and a large tail": {200 << 10, 130 << 10},
		"a tail only":             {8 << 10, 6 << 10},
	} {
		x, y := twins(1, n[0]+n[1]+1000, 1000)
		cancel := func(c *client, u Upload) error { return c.cancel(repoA, u) }
		patch := func(p []byte) func(c *client, u Upload) error {
			return func(c *client, u Upload) error { _, err := c.patch(repoA, u, p); return err }
		}
		for _, late := range []lateRequest{
			{"PATCH", 0, patch(y[:1000]), false},
			{"PATCH", 1, patch(y[n[0]:]), false},
			{"cancel", 0, cancel, false},
			{"cancel", 1, cancel, false},
			{"PUT", 1, func(c *client, u Upload) error { return c.put(repoA, u, y[n[0]:], y) }, name == "a tail only"},
		} {
			t.Run(fmt.Sprintf("%s/%s of token %d", name, late.name, late.token), func(t *testing.T) {
				onEveryDriver(t, func(t *testing.T, run *simRun) { late.test(t, run, x, n) })
			})
		}
	}
}

// test commits x, of which PATCHes of n bytes come first, while the late request
// stalls.
func (l lateRequest) test(t *testing.T, run *simRun, x []byte, n []int) {
	t.Helper()
	replica := func(f ...drivertest.Intercept) *client {
		return run.replicaWith(t, withoutCache(smallParts()), f...)
	}
	size := n[0] + n[1]
	tokens := sendPieces(t, replica(), x[:n[0]], x[n[0]:size])
	hold := sim.HoldFirst(func(c drivertest.Call) bool {
		return c.Writes() && (c.Method != "Create" || strings.HasPrefix(c.Key, "uploads/"))
	})
	slow := replica(hold.Intercept)
	err := hold.Meanwhile(t, func() error { return l.request(slow, tokens[l.token]) }, func() {
		must(t, replica().put(repoA, tokens[2], x[size:], x))
	})
	switch {
	case l.succeeds && err != nil:
		t.Errorf("%s = %v, want success", l.name, err)
	case !l.succeeds && (err == nil || expect(err, ErrBlobUploadUnknown, ErrOutOfOrder) != nil):
		t.Errorf("%s = %v, want ErrBlobUploadUnknown or ErrOutOfOrder", l.name, err)
	}
	must(t, replica().put(repoA, tokens[2], x[size:], x))
	must(t, replica().get(x))
}

// TestAttack6TokenOfNoRecordAfterTheEnd uses token 0 again after the end of the
// session.
func TestAttack6TokenOfNoRecordAfterTheEnd(t *testing.T) {
	onEverySession(t, func(t *testing.T, run *simRun, s unfinished) {
		tokens := startSession(t, run, s.before...)
		u := newest(tokens)
		c, p := run.replica(t), s.all()
		must(t, s.put(c, u))
		before := readRecord(t, run, p).Value

		_, patched := c.patch(repoA, tokens[0], randomBytes(2, 300))
		cancelled := c.cancel(repoA, tokens[0])
		_, status := c.status(repoA, tokens[0])
		if len(tokens) > 1 { // otherwise the session has no record that is over
			wantUnknown(t, "status and cancel", status, cancelled)
			if patched == nil || expect(patched, ErrBlobUploadUnknown, ErrOutOfOrder) != nil {
				t.Errorf("PATCH = %v, want ErrBlobUploadUnknown or ErrOutOfOrder", patched)
			}
		}

		must(t, c.get(p))
		if now := readRecord(t, run, p).Value; now != before {
			t.Errorf("the record is %+v, want %+v", now, before)
		}
		if err := s.put(run.replica(t), u); err != nil {
			t.Errorf("PUT again = %v", err)
		}
	})
}

// wantUnknown fails the test unless all errors are ErrBlobUploadUnknown.
func wantUnknown(t *testing.T, what string, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if !errors.Is(err, ErrBlobUploadUnknown) {
			t.Errorf("%s = %v, want ErrBlobUploadUnknown for each", what, errs)
			return
		}
	}
}

// TestAttack7KilledOnTheWay kills a PUT at each of its writes, and repeats it.
func TestAttack7KilledOnTheWay(t *testing.T) {
	for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Unanswered} {
		t.Run(mode.String(), func(t *testing.T) {
			onEverySession(t, func(t *testing.T, run *simRun, s unfinished) {
				for k := 1; ; k++ {
					s := s.like(randomBytes(uint64(k), len(s.all())))
					u := s.start(t, run)
					dying := &drivertest.Faulty{Mode: mode, Dead: true, Nth: k, Match: drivertest.Call.Writes}
					c := run.replica(t, dying.Intercept) // opening it writes nothing
					err := s.put(c, u)
					call, hit := dying.Hit()
					if !hit {
						must(t, err)
						return
					}
					if err := s.put(run.replica(t), u); err != nil {
						t.Errorf("killed at %v: PUT again = %v", call, err)
					}
				}
			})
		})
	}
}

// TestAttack8PatchAgainWhileTheFirstGoesOn repeats a PATCH that was cut off while
// the first one still stores its parts. If the client names the offset, the first
// one is out of order. Otherwise both are the same request.
func TestAttack8PatchAgainWhileTheFirstGoesOn(t *testing.T) {
	p := randomBytes(1, 1200)
	isPart := func(c drivertest.Call) bool { return c.Writes() && strings.HasSuffix(c.Method, "Part") }
	isRecord := func(c drivertest.Call) bool { return c.Writes() && !isPart(c) }
	for name, start := range map[string]int64{"with an offset": 300, "without": -1} {
		for at, match := range map[string]func(drivertest.Call) bool{"first part": isPart, "record": isRecord} {
			t.Run(name+"/"+at, func(t *testing.T) {
				onEveryDriver(t, func(t *testing.T, run *simRun) {
					u := startSession(t, run, p[:300])[1]
					patch := func(c *client) (Upload, error) {
						return c.in(repoA).AppendUpload(run.Ctx, u.ID, u.State, Body{bytes.NewReader(p[300:1100]), -1, start, nil})
					}
					hold := sim.HoldFirst(match)
					slow := run.replica(t, hold.Intercept)
					var first, second Upload
					err := hold.Meanwhile(t, func() (err error) { first, err = patch(slow); return err }, func() {
						var err error
						second, err = patch(run.replica(t))
						must(t, err)
					})
					switch {
					case start >= 0 && !errors.Is(err, ErrOutOfOrder):
						t.Errorf("the first PATCH = %v, want ErrOutOfOrder", err)
					case start < 0 && (err != nil || first != second):
						t.Errorf("the first PATCH = %+v, %v, want %+v", first, err, second)
					}
					must(t, run.replica(t).put(repoA, second, p[1100:], p))
				})
			})
		}
	}
}

// TestAttack10PutBreaksOff breaks off the body of a PUT, which then keeps nothing,
// and succeeds when it is repeated.
func TestAttack10PutBreaksOff(t *testing.T) {
	onEverySession(t, func(t *testing.T, run *simRun, s unfinished) {
		if len(s.rest) == 0 {
			return // no body
		}
		u := s.start(t, run)
		c, p := run.replica(t), s.all()
		for _, length := range []int64{-1, int64(len(s.rest))} {
			body := io.MultiReader(bytes.NewReader(s.rest[:len(s.rest)/2]), iotest.ErrReader(io.ErrUnexpectedEOF))
			_, err := c.in(repoA).FinishUpload(run.Ctx, u.ID, u.State, Body{body, length, -1, nil}, Descriptor{Digest: digest.FromBytes(p)})
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("PUT = %v, want the error of its body", err)
			}
		}
		want := int64(len(p) - len(s.rest))
		if now, err := c.status(repoA, u); err != nil || now.Size != want {
			t.Errorf("status = %d, %v, want %d bytes", now.Size, err, want)
		}
		must(t, s.put(run.replica(t), u))
	})
}
