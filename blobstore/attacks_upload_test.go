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

// beginUpload is a session of repoA that PATCHes have brought these pieces to,
// and its tokens: of no record, of the first, and so on.
func beginUpload(t *testing.T, run *simRun, pieces ...[]byte) []Upload {
	t.Helper()
	c := run.replica(t)
	u, err := c.in(repoA).StartUpload("")
	must(t, err)
	tokens := []Upload{u}
	for _, p := range pieces {
		u, err = c.patch(repoA, u, p)
		must(t, err)
		tokens = append(tokens, u)
	}
	return tokens
}

// sessions are those that a PUT may go on from: what PATCHes have brought, and
// what is to come.
func sessions(p []byte) map[string]struct {
	before [][]byte
	rest   []byte
} {
	type s = struct {
		before [][]byte
		rest   []byte
	}
	return map[string]s{
		"fresh, inline":     {nil, p[:40]},
		"fresh, one object": {nil, p[:200]},
		"fresh, parts":      {nil, p[:600]},
		"tail":              {[][]byte{p[:100]}, p[100:200]},
		"tail, then parts":  {[][]byte{p[:100]}, p[100:600]},
		"part and tail":     {[][]byte{p[:300]}, p[300:600]},
		"several records":   {[][]byte{p[:300], p[300:550]}, p[550:600]},
		"nothing to come":   {[][]byte{p[:300]}, nil},
		"tails":             {[][]byte{p[:10], p[10:30], p[30:100]}, p[100:200]},
		"tails, then parts": {[][]byte{p[:10], p[10:30], p[30:100]}, p[100:600]},
		"parts and tails":   {[][]byte{p[:300], p[300:320], p[320:600]}, nil},
	}
}

func join(pieces [][]byte, rest []byte) []byte {
	return append(slices.Concat(pieces...), rest...)
}

// A PUT is killed before the link, and sent again to another replica. What it
// has stored stays.
func TestAttack1KilledBeforeTheLink(t *testing.T) {
	for name, s := range sessions(randomBytes(1, 600)) {
		t.Run(name, func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) {
				p := join(s.before, s.rest)
				tokens := beginUpload(t, run, s.before...)
				u := tokens[len(tokens)-1]
				if err := run.replica(t, sim.Dying(drivertest.Lost, sim.On("Create", "links/"))).put(repoA, u, s.rest, p); err == nil {
					t.Fatal("it was not killed")
				}
				data := readRecord(t, run, p).Value.Data
				must(t, run.replica(t).put(repoA, u, s.rest, p))
				if now := readRecord(t, run, p).Value.Data; now != data {
					t.Errorf("the record names %q, and named %q", now, data)
				}
			})
		})
	}
}

// The same PUT twice at once.
func TestAttack2SamePutAtOnce(t *testing.T) {
	for name, s := range sessions(randomBytes(1, 600)) {
		t.Run(name, func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) {
				p := join(s.before, s.rest)
				tokens := beginUpload(t, run, s.before...)
				var wg sync.WaitGroup
				for range 3 {
					c := run.replica(t)
					wg.Go(func() {
						if err := c.put(repoA, tokens[len(tokens)-1], s.rest, p); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

// Token 0 is used again, with other bytes, after it was used to commit.
func TestAttack3OtherBytesUnderAnOldToken(t *testing.T) {
	for _, n := range []int{40, 200, 600} {
		x, y := twins(1, n, n)
		onEveryDriver(t, func(t *testing.T, run *simRun) {
			u := beginUpload(t, run)[0]
			c := run.replica(t)
			must(t, c.put(repoA, u, x, x))
			_, err := c.patch(repoA, u, y)
			must(t, err)
			must(t, c.put(repoA, u, y, y))
			must(t, c.get(x))
			must(t, c.get(y))
			// Nothing gives one's bytes the other's digest.
			if err := c.putAs(repoA, u, y, y, digest.FromBytes(x)); err == nil {
				t.Error("y was taken for x")
			}
		})
	}
}

// A request of an old token stalls after it has read its record; meanwhile
// another one commits, is acknowledged and frees what is no longer needed. The
// first one must not end the session a second time, or go on after its end.
func TestAttack5EndOnlyOnce(t *testing.T) {
	for name, n := range map[string][]int{
		"parts, and a large tail": {200 << 10, 130 << 10},
		"a tail only":             {8 << 10, 6 << 10},
	} {
		size := n[0] + n[1]
		x, y := twins(1, size+1000, 1000)
		for token := range 2 {
			restY := y[:1000]
			whole := restY
			if token == 1 {
				restY = y[n[0]:]
				whole = y
			}
			for request, make := range map[string]func(c *client, u Upload) error{
				"PUT":    func(c *client, u Upload) error { return c.put(repoA, u, restY, whole) },
				"PATCH":  func(c *client, u Upload) error { _, err := c.patch(repoA, u, restY); return err },
				"cancel": func(c *client, u Upload) error { return c.cancel(repoA, u) },
			} {
				if request == "PUT" && token == 0 {
					continue // it needs no session: attack 3
				}
				t.Run(fmt.Sprintf("%s/%s of token %d", name, request, token), func(t *testing.T) {
					onEveryDriver(t, func(t *testing.T, run *simRun) {
						replica := func(f ...drivertest.Intercept) *client {
							return run.replicaWith(t, withoutCache(smallParts()), f...)
						}
						c := replica()
						u, err := c.in(repoA).StartUpload("")
						must(t, err)
						tokens := []Upload{u}
						for _, piece := range [][]byte{x[:n[0]], x[n[0]:size]} {
							u, err = c.patch(repoA, u, piece)
							must(t, err)
							tokens = append(tokens, u)
						}
						hold := sim.HoldFirst(func(c drivertest.Call) bool {
							return c.Writes() && (c.Method != "Create" || strings.HasPrefix(c.Key, "uploads/"))
						})
						slow := replica(hold.Intercept)
						err = hold.Meanwhile(t, func() error { return make(slow, tokens[token]) }, func() {
							must(t, replica().put(repoA, u, x[size:], x))
						})
						// A PUT that has all bytes needs the session no more. All
						// else must find that it is over, or that others went on.
						free := request == "PUT" && name == "a tail only"
						if !free && !errors.Is(err, ErrBlobUploadUnknown) && !errors.Is(err, ErrOutOfOrder) || free && err != nil {
							t.Errorf("it answers %v", err)
						}
						must(t, replica().put(repoA, u, x[size:], x))
						must(t, replica().get(x))
					})
				})
			}
		}
	}
}

// Token 0 is used again after the session's end.
func TestAttack6TokenOfNoRecordAfterTheEnd(t *testing.T) {
	for name, s := range sessions(randomBytes(1, 600)) {
		t.Run(name, func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) {
				p := join(s.before, s.rest)
				tokens := beginUpload(t, run, s.before...)
				u := tokens[len(tokens)-1]
				c := run.replica(t)
				must(t, c.put(repoA, u, s.rest, p))
				before := readRecord(t, run, p).Value
				_, patched := c.patch(repoA, tokens[0], randomBytes(2, 300))
				cancelled := c.cancel(repoA, tokens[0])
				_, status := c.status(repoA, tokens[0])
				if len(tokens) > 1 && (expect(patched, ErrBlobUploadUnknown, ErrOutOfOrder) != nil || patched == nil ||
					!errors.Is(status, ErrBlobUploadUnknown) || !errors.Is(cancelled, ErrBlobUploadUnknown)) {
					t.Errorf("PATCH, status, cancel = %v, %v, %v, want ErrBlobUploadUnknown", patched, status, cancelled)
				}
				must(t, c.get(p))
				if now := readRecord(t, run, p).Value; now != before {
					t.Errorf("the record is %+v, and was %+v", now, before)
				}
				if again := run.replica(t).put(repoA, u, s.rest, p); again != nil {
					t.Errorf("PUT again = %v", again)
				}
			})
		})
	}
}

// A PUT is killed at each of its writes, and sent again.
func TestAttack7KilledOnTheWay(t *testing.T) {
	for name, s := range sessions(randomBytes(1, 600)) {
		t.Run(name, func(t *testing.T) {
			for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Unanswered} {
				t.Run(mode.String(), func(t *testing.T) {
					onEveryDriver(t, func(t *testing.T, run *simRun) {
						for k := 1; ; k++ {
							p := randomBytes(uint64(k), len(join(s.before, s.rest)))
							var before [][]byte
							rest := p
							for _, b := range s.before {
								before = append(before, rest[:len(b)])
								rest = rest[len(b):]
							}
							tokens := beginUpload(t, run, before...)
							u := tokens[len(tokens)-1]
							dying := &drivertest.Faulty{Mode: mode, Dead: true, Nth: k, Match: drivertest.Call.Writes}
							c := run.replica(t, dying.Intercept) // opening writes nothing
							err := c.put(repoA, u, rest, p)
							call, hit := dying.Hit()
							if !hit {
								must(t, err)
								return
							}
							if err := run.replica(t).put(repoA, u, rest, p); err != nil {
								t.Errorf("killed at %v: PUT again = %v", call, err)
							}
						}
					})
				})
			}
		})
	}
}

// A PATCH was cut off; the client sends it again while the first one still
// stores its parts. Where the client names the offset, the first one is out of
// order. Otherwise both are the same request.
func TestAttack8PatchAgainWhileTheFirstGoesOn(t *testing.T) {
	p := randomBytes(1, 1200)
	for name, start := range map[string]int64{"with an offset": 300, "without": -1} {
		for _, at := range []string{"first part", "record"} {
			t.Run(name+"/"+at, func(t *testing.T) {
				onEveryDriver(t, func(t *testing.T, run *simRun) {
					u := beginUpload(t, run, p[:300])[1]
					patch := func(c *client) (Upload, error) {
						return c.in(repoA).AppendUpload(run.Ctx, u.ID, u.State, Body{bytes.NewReader(p[300:1100]), -1, start, nil})
					}
					hold := sim.HoldFirst(func(c drivertest.Call) bool {
						return strings.HasSuffix(c.Method, "Part") == (at == "first part") && c.Writes()
					})
					slow := run.replica(t, hold.Intercept)
					var first, now Upload
					err := hold.Meanwhile(t, func() (err error) { first, err = patch(slow); return err }, func() {
						var err error
						now, err = patch(run.replica(t))
						must(t, err)
					})
					switch {
					case start >= 0 && !errors.Is(err, ErrOutOfOrder):
						t.Errorf("the first PATCH = %v, want ErrOutOfOrder", err)
					case start < 0 && (err != nil || first != now):
						t.Errorf("the first PATCH = %+v, %v, want %+v", first, err, now)
					}
					must(t, run.replica(t).put(repoA, now, p[1100:], p))
				})
			})
		}
	}
}

// A PUT whose body breaks off keeps nothing, and works when it is sent again.
func TestAttack10PutBreaksOff(t *testing.T) {
	for name, s := range sessions(randomBytes(1, 600)) {
		if len(s.rest) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			onEveryDriver(t, func(t *testing.T, run *simRun) {
				p := join(s.before, s.rest)
				tokens := beginUpload(t, run, s.before...)
				u := tokens[len(tokens)-1]
				c := run.replica(t)
				for _, length := range []int64{-1, int64(len(s.rest))} {
					body := io.MultiReader(bytes.NewReader(s.rest[:len(s.rest)/2]), iotest.ErrReader(io.ErrUnexpectedEOF))
					_, err := c.in(repoA).FinishUpload(run.Ctx, u.ID, u.State, Body{body, length, -1, nil}, Descriptor{Digest: digest.FromBytes(p)})
					if !errors.Is(err, io.ErrUnexpectedEOF) {
						t.Fatalf("PUT = %v, want its body's error", err)
					}
				}
				if now, err := c.status(repoA, u); err != nil || now.Size != int64(len(p)-len(s.rest)) {
					t.Errorf("status = %d, %v, want %d bytes", now.Size, err, len(p)-len(s.rest))
				}
				must(t, run.replica(t).put(repoA, u, s.rest, p))
			})
		})
	}
}
