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

// Attacks by a store that answers late, or not at all. The requests that they
// delay are in stalls_test.go.

const (
	requestLimit = 6 * time.Hour // the default of Config.RequestLimit
	pastTheLimit = 7 * time.Hour
)

// TestAttack22StallsPastTheLimit delays a request at any of its calls, before the
// call or after it, past the request's limit. The collector may have acted on what
// the request has read. From then on the request changes nothing, and it is not
// acknowledged.
func TestAttack22StallsPastTheLimit(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("after the call %v", after), func(t *testing.T) {
			everyStall(t, func(t *testing.T, run *simRun, nth int, request func(c *client) error) bool {
				s := &staller{t: t, nth: int64(nth), after: after}
				c := run.replica(t, s.intercept)
				s.start = time.Now()
				if err := request(c); err == nil && s.at != "" {
					t.Errorf("the request was acknowledged after it stalled at %s", s.at)
				}
				return s.at != ""
			})
		})
	}
}

// staller delays the nth call of a process, and fails the test if the process then
// changes anything.
type staller struct {
	t     *testing.T
	nth   int64
	after bool      // delays after the call, not before it
	start time.Time // of the request; zero before it starts
	calls atomic.Int64
	at    string // the call
}

func (s *staller) intercept(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
	if s.start.IsZero() {
		return do(ctx)
	}
	if age := time.Since(s.start); age > requestLimit && (sim.Changes(c) || c.Writes() && ctx.Err() == nil) {
		s.t.Errorf("the request makes the call %v at the age of %v, after it stalled at %s", c, age, s.at)
	}
	if s.calls.Add(1) != s.nth {
		return do(ctx)
	}
	s.at = c.String()
	if !s.after {
		time.Sleep(pastTheLimit)
	}
	err := do(context.WithoutCancel(ctx))
	if s.after {
		time.Sleep(pastTheLimit)
	}
	return err
}

// TestStoreThatHangs leaves a call without any response. The request gets a
// response within its limit anyway.
func TestStoreThatHangs(t *testing.T) {
	everyStall(t, func(t *testing.T, run *simRun, nth int, request func(c *client) error) bool {
		var calls atomic.Int64
		var hung string
		var start time.Time
		c := run.replica(t, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			if start.IsZero() || calls.Add(1) != int64(nth) {
				return do(ctx)
			}
			hung = c.String()
			return hang(ctx)
		})
		start = time.Now()
		err := request(c)
		if took := time.Since(start); took > requestLimit {
			t.Errorf("the request took %v, with %s without a response", took, hung)
		}
		if err != nil && !errors.Is(err, ErrUnavailable) && hung != "" {
			t.Errorf("the request, with %s without a response, = %v, want %v", hung, err, ErrUnavailable)
		}
		return hung != ""
	})
}

// hang returns when the context ends, or very late.
func hang(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pastTheLimit):
		return drivertest.ErrInjected
	}
}

// TestTailThatHangs reads session records of which only the first line arrives.
func TestTailThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		onS3(t, func(t *testing.T, run *simRun) {
			p := randomBytes(1, 200)
			u, err := patchHalf("")(run.replica(t), p)
			must(t, err)
			c := &client{run: run, s: openStore(t, hangingTails{run.Bucket}, tiny())}
			for name, request := range map[string]func() error{
				"PATCH": func() error { _, err := c.patch(repoA, u, p[100:]); return err },
				"PUT":   func() error { return c.put(repoA, u, p[100:], p) },
			} {
				start := time.Now()
				err := request()
				if took := time.Since(start); !errors.Is(err, ErrUnavailable) || took > 11*time.Minute {
					t.Errorf("%s = %v after %v, want %v within 11 minutes", name, err, took, ErrUnavailable)
				}
			}
			must(t, run.replica(t).put(repoA, u, p[100:], p))
		})
	})
}

// hangingTails is a bucket from which only the first line of session records can
// be read.
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
	}{io.MultiReader(bytes.NewReader(line), hangingReader{ctx}), rc}, o, err
}

// hangingReader is a reader that returns nothing before its context ends.
type hangingReader struct {
	ctx context.Context //nolint:containedctx // io.Reader has no parameter for it
}

func (h hangingReader) Read([]byte) (int, error) { return 0, hang(h.ctx) }

// TestOrderOfWrites tests that a link is written after what it depends on: the
// record, then the alias.
func TestOrderOfWrites(t *testing.T) {
	p := randomBytes(1, 600)
	d := digest.SHA512.FromBytes(p)
	rows := []struct {
		name    string
		request func(t *testing.T, c *client) error
		want    []string
	}{
		{"push", func(_ *testing.T, c *client) error {
			return c.pushAs(repoB, p, d)
		}, []string{"Create record", "Create alias", "Create link"}},
		{"mount", func(_ *testing.T, c *client) error {
			return c.mountAs(repoA, repoB, p, d)
		}, []string{"Create link"}},
		{"mount with a condemned alias", func(t *testing.T, c *client) error {
			t.Helper()
			condemnAlias(t, c.run.Bucket, d)
			return errors.Join(c.delete(repoA, p), c.mountAs(repoA, repoB, p, d))
		}, []string{"DeleteIf link", "Replace alias", "Create link"}},
		{"push with a condemned alias", func(t *testing.T, c *client) error {
			t.Helper()
			condemnAlias(t, c.run.Bucket, d)
			return errors.Join(c.delete(repoA, p), c.pushAs(repoA, p, d))
		}, []string{"DeleteIf link", "Create record", "Create alias", "Replace alias", "Create link"}},
		{"push onto a condemned record", func(t *testing.T, c *client) error {
			t.Helper()
			leave(t, c.run, "condemned", repoA, p)
			return c.pushAs(repoA, p, d)
		}, []string{"Create record", "Replace record", "Create alias", "Create link"}},
	}
	synctest.Test(t, func(t *testing.T) {
		onS3(t, func(t *testing.T, run *simRun) {
			for _, row := range rows {
				var calls drivertest.Counter
				must(t, row.request(t, run.replica(t, calls.Intercept)))
				if got := catalogWrites(calls.Calls()); !slices.Equal(got, row.want) {
					t.Errorf("%s writes %q, want %q", row.name, got, row.want)
				}
			}
		})
	})
}

// catalogWrites returns the calls that write records, links and aliases.
func catalogWrites(calls []drivertest.Call) (writes []string) {
	for _, c := range calls {
		if kind := kindOf(c.Key); c.Writes() && kind != "" {
			writes = append(writes, c.Method+" "+kind)
		}
	}
	return writes
}

// kindOf returns what a key under blobs/ or aliases/ is of. It returns "" for all
// other keys.
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
