package blobstore

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
)

// stalledRequest is a request that a test delays at one of its calls. prepare makes
// the requests that precede it, and returns the request's session if it has one.
type stalledRequest struct {
	name    string
	prepare func(c *client, p []byte) (Upload, error)
	run     func(c *client, u Upload, p []byte) error
}

// stalledRequests returns each kind of request that changes the bucket, for a blob
// that may have been pushed to repoB.
func stalledRequests() []stalledRequest {
	nothing := func(*client, []byte) (Upload, error) { return Upload{}, nil }
	bySHA512 := digest.SHA512.FromBytes
	all := []stalledRequest{
		{"push", nothing, func(c *client, _ Upload, p []byte) error { return c.push(repoA, p) }},
		{"push to the same repository", nothing, func(c *client, _ Upload, p []byte) error { return c.push(repoB, p) }},
		{"push by sha512", nothing, func(c *client, _ Upload, p []byte) error { return c.pushAs(repoA, p, bySHA512(p)) }},
		{"mount", nothing, func(c *client, _ Upload, p []byte) error { return c.mount(repoA, repoB, p) }},
		{"mount by sha512", nothing, func(c *client, _ Upload, p []byte) error {
			return c.mountAs(repoA, repoB, p, bySHA512(p))
		}},
		{"delete", nothing, func(c *client, _ Upload, p []byte) error { return c.delete(repoB, p) }},
		{"SetDescriptor", nothing, func(c *client, _ Upload, p []byte) error {
			return c.in(repoB).SetDescriptor(c.ctx(), bySHA512(p), Descriptor{Digest: digest.FromBytes(p)})
		}},
	}
	return append(all, stalledInSessions()...)
}

// stalledInSessions returns the stalled requests that have a session.
func stalledInSessions() []stalledRequest {
	half := patchHalf("")
	rest := func(p []byte) []byte { return p[len(p)/2:] }
	put := func(c *client, u Upload, p []byte) error { return c.put(repoA, u, rest(p), p) }
	putNothing := func(c *client, u Upload, p []byte) error { return c.put(repoA, u, nil, p) }
	putBySHA512 := func(c *client, u Upload, p []byte) error {
		return c.putAs(repoA, u, rest(p), p, digest.SHA512.FromBytes(p))
	}
	all := func(c *client, p []byte) (Upload, error) {
		u, err := c.start(repoA, "")
		if err != nil {
			return u, err
		}
		return c.patch(repoA, u, p)
	}
	// then returns a prepare function that also makes the request once.
	then := func(prepare func(c *client, p []byte) (Upload, error), request func(c *client, u Upload, p []byte) error) func(c *client, p []byte) (Upload, error) {
		return func(c *client, p []byte) (Upload, error) {
			u, err := prepare(c, p)
			return u, errors.Join(err, request(c, u, p))
		}
	}
	putAndDelete := func(c *client, u Upload, p []byte) error {
		return errors.Join(put(c, u, p), c.delete(repoA, p))
	}
	return []stalledRequest{
		{"PATCH", half, func(c *client, u Upload, p []byte) error { _, err := c.patch(repoA, u, rest(p)); return err }},
		{"PUT", half, put},
		{"PUT again", then(half, put), put},
		{"PUT of nothing again", then(all, putNothing), putNothing},
		{"PUT again by sha512", then(patchHalf(digest.SHA512), putBySHA512), putBySHA512},
		{"PUT by an unannounced sha512", half, putBySHA512},
		{"PUT again after a delete", then(half, putAndDelete), put},
		{"cancel", half, func(c *client, u Upload, _ []byte) error { return c.cancel(repoA, u) }},
	}
}

// patchHalf returns a function that starts an upload and sends half of it.
func patchHalf(alg digest.Algorithm) func(c *client, p []byte) (Upload, error) {
	return func(c *client, p []byte) (Upload, error) {
		u, err := c.start(repoA, alg)
		if err != nil {
			return u, err
		}
		return c.patch(repoA, u, p[:len(p)/2])
	}
}

// stallFunc makes a request that is delayed at its nth call (the first is 1). It
// reports whether the request made that many calls.
type stallFunc func(t *testing.T, run *simRun, nth int, request func(c *client) error) bool

// everyStall runs f for each stalled request, state of its blob and call, or for
// a share of the calls. Each run has a new bucket.
func everyStall(t *testing.T, f stallFunc) {
	t.Helper()
	for size, n := range blobSizes() {
		p := randomBytes(1, n)
		for _, state := range recordStates() {
			if !state.possible(size) || !state.often {
				continue
			}
			for _, r := range stalledRequests() {
				if state.lost && strings.HasPrefix(r.name, "mount") {
					continue // a mount relies on the record
				}
				t.Run(size+"/"+state.name+"/"+r.name, func(t *testing.T) {
					t.Parallel()
					r.everyCall(t, state, p, f)
				})
			}
		}
	}
}

// everyCall runs f for every call of a request, or for every fifth call in short
// tests.
func (r stalledRequest) everyCall(t *testing.T, state recordState, p []byte, f stallFunc) {
	t.Helper()
	nth, step := 1, 1
	if !long() {
		step = 5
		nth = 1 + drawn(t.Name()).IntN(step)
	}
	for more := true; more; nth += step {
		synctest.Test(t, func(t *testing.T) {
			onS3(t, func(t *testing.T, run *simRun) {
				c := run.replica(t)
				if !state.none {
					must(t, c.pushAs(repoB, p, digest.SHA512.FromBytes(p)))
				}
				must(t, state.leave(c, repoB, p))
				time.Sleep(13 * time.Hour) // the alias is old enough to be written again
				u, err := r.prepare(c, p)
				must(t, err)
				more = f(t, run, nth, func(c *client) error { return r.run(c, u, p) })
			})
		})
	}
}
