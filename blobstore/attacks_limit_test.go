package blobstore

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// Attacks by a store that answers late, or not at all.

// limited is a request that is held up. Before it comes, begin says what there
// is besides the blob in its state, and gives the request's session if it has
// one.
type limited struct {
	name  string
	begin func(c *client, p []byte) (Upload, error)
	run   func(c *client, u Upload, p []byte) error
}

// patchHalf begins an upload by PATCH.
func patchHalf(alg digest.Algorithm) func(c *client, p []byte) (Upload, error) {
	return func(c *client, p []byte) (Upload, error) {
		u, err := c.in(repoA).StartUpload(alg)
		if err != nil {
			return u, err
		}
		return c.patch(repoA, u, p[:len(p)/2])
	}
}

func limitedRequests() []limited {
	nothing := func(*client, []byte) (Upload, error) { return Upload{}, nil }
	patched := patchHalf("")
	rest := func(p []byte) []byte { return p[len(p)/2:] }
	return []limited{
		{"push", nothing, func(c *client, _ Upload, p []byte) error { return c.push(repoA, p) }},
		{"push where it was", nothing, func(c *client, _ Upload, p []byte) error { return c.push(repoB, p) }},
		{"push by sha512", nothing, func(c *client, _ Upload, p []byte) error {
			return c.pushAs(repoA, p, digest.SHA512.FromBytes(p))
		}},
		{"PATCH", patched, func(c *client, u Upload, p []byte) error { _, err := c.patch(repoA, u, rest(p)); return err }},
		{"PUT", patched, func(c *client, u Upload, p []byte) error { return c.put(repoA, u, rest(p), p) }},
		{"PUT again", func(c *client, p []byte) (Upload, error) {
			u, err := patched(c, p)
			return u, errors.Join(err, c.put(repoA, u, rest(p), p))
		}, func(c *client, u Upload, p []byte) error { return c.put(repoA, u, rest(p), p) }},
		{"PUT of nothing again", func(c *client, p []byte) (Upload, error) {
			u, err := c.in(repoA).StartUpload("")
			if err == nil {
				u, err = c.patch(repoA, u, p)
			}
			return u, errors.Join(err, c.put(repoA, u, nil, p))
		}, func(c *client, u Upload, p []byte) error { return c.put(repoA, u, nil, p) }},
		{"PUT again by sha512", func(c *client, p []byte) (Upload, error) {
			u, err := patchHalf(digest.SHA512)(c, p)
			return u, errors.Join(err, c.putAs(repoA, u, rest(p), p, digest.SHA512.FromBytes(p)))
		}, func(c *client, u Upload, p []byte) error {
			return c.putAs(repoA, u, rest(p), p, digest.SHA512.FromBytes(p))
		}},
		{"PUT by sha512, unannounced", patched, func(c *client, u Upload, p []byte) error {
			return c.putAs(repoA, u, rest(p), p, digest.SHA512.FromBytes(p))
		}},
		{"PUT again once it is deleted", func(c *client, p []byte) (Upload, error) {
			u, err := patched(c, p)
			return u, errors.Join(err, c.put(repoA, u, rest(p), p), c.delete(repoA, p))
		}, func(c *client, u Upload, p []byte) error { return c.put(repoA, u, rest(p), p) }},
		{"cancel", patched, func(c *client, u Upload, _ []byte) error { return c.cancel(repoA, u) }},
		{"mount", nothing, func(c *client, _ Upload, p []byte) error { return c.mount(repoA, repoB, p) }},
		{"mount by sha512", nothing, func(c *client, _ Upload, p []byte) error {
			return c.mountAs(repoA, repoB, p, digest.SHA512.FromBytes(p))
		}},
		{"delete", nothing, func(c *client, _ Upload, p []byte) error { return c.delete(repoB, p) }},
		{"SetDescriptor", nothing, func(c *client, _ Upload, p []byte) error {
			return c.in(repoB).SetDescriptor(c.run.Ctx, digest.SHA512.FromBytes(p), Descriptor{Digest: digest.FromBytes(p)})
		}},
	}
}

// everyLimited runs f for each of these requests and each state of its blob, on
// a bucket that is ready for it. f is told which of the request's calls is
// meant, from 1, and says whether there was such a call; if so, it is run again
// for the next one, on another bucket.
func everyLimited(t *testing.T, f func(t *testing.T, run *simRun, nth int, request func(c *client) error) bool) {
	t.Helper()
	for size, n := range blobSizes() {
		p := randomBytes(1, n)
		for _, state := range recordStates() {
			if size == "inline" && state.hasData || !state.often {
				continue
			}
			for _, r := range limitedRequests() {
				if state.lost && strings.HasPrefix(r.name, "mount") {
					continue // a mount asks the record, not whether the bytes are still there
				}
				t.Run(size+"/"+state.name+"/"+r.name, func(t *testing.T) {
					t.Parallel()
					for nth, more := 1, true; more; nth++ {
						synctest.Test(t, func(t *testing.T) {
							onS3(t, func(t *testing.T, run *simRun) {
								c := run.replica(t)
								if !state.none {
									must(t, c.pushAs(repoB, p, digest.SHA512.FromBytes(p)))
								}
								must(t, state.leave(c, repoB, p))
								time.Sleep(13 * time.Hour) // the alias is old by now, and is to be written anew
								u, err := r.begin(c, p)
								must(t, err)
								more = f(t, run, nth, func(c *client) error { return r.run(c, u, p) })
							})
						})
					}
				})
			}
		}
	}
}

// A request is held up at any of its calls, before it happens or after, for
// longer than a request may last: the collector may have been at work on what
// it has read. It changes nothing from then on, and is not acknowledged.
func TestAttack22StallsPastTheLimit(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("after the call %v", after), func(t *testing.T) {
			everyLimited(t, func(t *testing.T, run *simRun, nth int, request func(c *client) error) bool {
				var calls atomic.Int64
				var stalled string
				var began time.Time
				c := run.replica(t, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
					if began.IsZero() {
						return do(ctx)
					}
					if late := time.Since(began) > 6*time.Hour; late && sim.Changes(c) || late && c.Writes() && ctx.Err() == nil {
						t.Errorf("stalled at %s, it makes the call %v %v after it began", stalled, c, time.Since(began))
					}
					if calls.Add(1) != int64(nth) {
						return do(ctx)
					}
					stalled = c.String()
					if !after {
						time.Sleep(7 * time.Hour)
					}
					err := do(context.WithoutCancel(ctx))
					if after {
						time.Sleep(7 * time.Hour)
					}
					return err
				})
				began = time.Now()
				err := request(c)
				if stalled != "" && err == nil {
					t.Errorf("stalled at %s, it was acknowledged", stalled)
				}
				return stalled != ""
			})
		})
	}
}

// The store doesn't answer a call at all. The request has an answer all the
// same, in its time.
func TestStoreThatHangs(t *testing.T) {
	everyLimited(t, func(t *testing.T, run *simRun, nth int, request func(c *client) error) bool {
		var calls atomic.Int64
		var hung string
		var began time.Time
		c := run.replica(t, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			if began.IsZero() || calls.Add(1) != int64(nth) {
				return do(ctx)
			}
			hung = c.String()
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(7 * time.Hour):
				return drivertest.ErrInjected
			}
		})
		began = time.Now()
		err := request(c)
		if d := time.Since(began); d > 6*time.Hour {
			t.Errorf("hung at %s, it is answered after %v", hung, d)
		}
		if err != nil && !errors.Is(err, ErrUnavailable) && hung != "" {
			t.Errorf("hung at %s = %v, want %v", hung, err, ErrUnavailable)
		}
		return hung != ""
	})
}

// The bytes in a session's record don't come.
func TestTailThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		onS3(t, func(t *testing.T, run *simRun) {
			p := randomBytes(1, 200)
			u, err := patchHalf("")(run.replica(t), p)
			must(t, err)
			c := &client{run: run, s: openStore(t, hangingTails{run.Bucket}, tiny())}
			for what, request := range map[string]func() error{
				"PATCH": func() error { _, err := c.patch(repoA, u, p[100:]); return err },
				"PUT":   func() error { return c.put(repoA, u, p[100:], p) },
			} {
				began := time.Now()
				if err := request(); !errors.Is(err, ErrUnavailable) || time.Since(began) > 11*time.Minute {
					t.Errorf("%s = %v after %v, want %v", what, err, time.Since(began), ErrUnavailable)
				}
			}
			must(t, run.replica(t).put(repoA, u, p[100:], p))
		})
	})
}

// hangingTails gives of sessions' records nothing but their first line.
type hangingTails struct {
	drivers.Bucket
}

func (b hangingTails) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	rc, o, err := b.Bucket.Open(ctx, key, off, n)
	if err != nil || !strings.HasPrefix(key, "uploads/") {
		return rc, o, err
	}
	line, err := bufio.NewReader(rc).ReadBytes('\n')
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(line), hanging{ctx}), rc}, o, err
}

// hanging is a reader that gives nothing before its context ends.
type hanging struct {
	ctx context.Context //nolint:containedctx // io.Reader has no parameter for it
}

func (h hanging) Read([]byte) (int, error) {
	select {
	case <-h.ctx.Done():
		return 0, h.ctx.Err()
	case <-time.After(7 * time.Hour):
		return 0, drivertest.ErrInjected
	}
}

// What a link rests on is there before it: the record, then the alias.
func TestOrderOfWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		onS3(t, func(t *testing.T, run *simRun) {
			p := randomBytes(1, 600)
			d := digest.SHA512.FromBytes(p)
			for _, r := range []struct {
				what    string
				request func(c *client) error
				want    []string
			}{
				{"push", func(c *client) error { return c.pushAs(repoB, p, d) }, []string{"Create record", "Create alias", "Create link"}},
				{"mount", func(c *client) error { return c.mountAs(repoA, repoB, p, d) }, []string{"Create link"}},
				{"mount once the alias is old", func(c *client) error {
					time.Sleep(13 * time.Hour)
					return errors.Join(c.delete(repoA, p), c.mountAs(repoA, repoB, p, d))
				}, []string{"DeleteIf link", "Replace alias", "Create link"}},
				{"push once the alias is old", func(c *client) error {
					time.Sleep(13 * time.Hour)
					return errors.Join(c.delete(repoA, p), c.pushAs(repoA, p, d))
				}, []string{"DeleteIf link", "Create record", "Create alias", "Replace alias", "Create link"}},
				{"push onto a condemned record", func(c *client) error {
					leave(t, run, "condemned", repoA, p)
					return c.pushAs(repoA, p, d)
				}, []string{"Create record", "Replace record", "Create alias", "Create link"}},
			} {
				var calls drivertest.Counter
				must(t, r.request(run.replica(t, calls.Intercept)))
				var writes []string
				for _, c := range calls.Calls() {
					if what := kindOf(c.Key); c.Writes() && what != "" {
						writes = append(writes, c.Method+" "+what)
					}
				}
				if !slices.Equal(writes, r.want) {
					t.Errorf("%s writes %q, want %q", r.what, writes, r.want)
				}
			}
		})
	})
}

// kindOf says what is at a key under blobs/ or aliases/; empty for others.
func kindOf(key string) string {
	switch {
	case strings.HasPrefix(key, "aliases/"):
		return "alias"
	case strings.HasSuffix(key, "/record"):
		return "record"
	case strings.Contains(key, "/links/"):
		return "link"
	default:
		return ""
	}
}
