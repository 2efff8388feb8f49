package blobstore

import (
	"errors"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
)

// Two clients of one session, in every interleaving. What they send has one
// size and one CRC, so that nothing but the protocol tells it apart.
func TestEveryInterleavingOfASession(t *testing.T) {
	const repo = "library/x"
	for _, begun := range []struct {
		name string
		size int // bytes that one PATCH has brought already
		rest int // bytes that are to come
	}{
		{"fresh, inline", 0, 40},
		{"fresh, one object", 0, 200},
		{"fresh, parts", 0, 600},
		{"tail, one object", 100, 100},
		{"tail, parts", 100, 400},
		{"part and tail", 300, 300},
	} {
		x, y := twins(1, begun.size+begun.rest, begun.rest)
		restX, restY := x[begun.size:], y[begun.size:]
		setup := func(w *stage) (err error) {
			c := w.clients[0]
			if w.session, err = c.in(repo).StartUpload(""); err == nil && begun.size > 0 {
				w.session, err = c.patch(repo, w.session, x[:begun.size])
			}
			return err
		}
		patchAndPut := func(rest, p []byte) func(c *client) error {
			return func(c *client) error {
				u, err := c.patch(repo, c.w.session, rest)
				if err == nil {
					err = c.put(repo, u, nil, p)
				}
				return c.contest(err)
			}
		}
		putX := func(c *client) error { return c.contest(c.put(repo, c.w.session, restX, x)) }
		// Actors who want the same are in one group; those in none want
		// nothing.
		actors := []struct {
			actor
			group string
		}{
			{actor{"PATCH x", func(c *client) error { _, err := c.patch(repo, c.w.session, restX); return c.contest(err) }}, "PATCH x"},
			{actor{"PATCH and PUT x", patchAndPut(restX, x)}, "PATCH and PUT x"},
			{actor{"PATCH and PUT y", patchAndPut(restY, y)}, "PATCH and PUT y"},
			{actor{"PUT x", putX}, "PUT x"},
			{actor{"PUT x twice", func(c *client) error { return errors.Join(putX(c), putX(c)) }}, "PUT x"},
			{actor{"PUT x by sha512", func(c *client) error {
				return c.contest(c.putAs(repo, c.w.session, restX, x, digest.SHA512.FromBytes(x)))
			}}, "PUT x"},
			{actor{"PUT y", func(c *client) error { return c.contest(c.put(repo, c.w.session, restY, y)) }}, "PUT y"},
			{actor{"cancel", func(c *client) error { return c.contest(c.cancel(repo, c.w.session)) }}, "cancel"},
			{actor{"status", func(c *client) error { _, err := c.status(repo, c.w.session); return expect(err, ErrBlobUploadUnknown) }}, ""},
		}
		// Each of two requests that bring parts of their own before the digest
		// is bound has an upload of its own, and only the first one's is bound;
		// so the second may have to start again.
		restarts := func(a, b string) bool {
			return begun.name == "fresh, parts" && a == "PUT x by sha512" && b == a
		}
		for i, a := range actors {
			for _, b := range actors[i:] {
				if !soak() && begun.name == "part and tail" && a.name == "PUT x twice" && b.name == a.name {
					continue // thousands, and the other sessions show as much
				}
				if begun.size > 0 && (a.name == "PUT x by sha512" || b.name == "PUT x by sha512") {
					continue // the session computes no sha512
				}
				everyInterleaving(t, scenario{
					name:   begun.name + "/" + a.name + " and " + b.name,
					setup:  setup,
					rivals: a.group != "" && b.group != "" && (a.group != "PUT x" || b.group != "PUT x") || restarts(a.name, b.name),
					actors: []actor{{"A " + a.name, a.run}, {"B " + b.name, b.run}},
				})
			}
		}
	}
}

// Two clients of one blob, in every interleaving, over every state that its
// record may be in.
func TestEveryInterleavingOfABlob(t *testing.T) {
	const a, b = "library/a", "library/b"
	sizes := sizesOf()
	if soak() {
		sizes["one object"] = 200
	}
	for size, n := range sizes {
		p := randomBytes(1, n)
		mayBeUnknown := func(err error) error { return expect(err, ErrBlobUnknown) }
		actors := []actor{
			{"push to a", func(c *client) error { return c.push(a, p) }},
			{"push to a by PATCH", func(c *client) error { return c.pushPatch(a, p) }},
			{"push to b", func(c *client) error { return c.push(b, p) }},
			{"push to a by sha512", func(c *client) error { return c.pushAs(a, p, digest.SHA512.FromBytes(p)) }},
			{"mount from b", func(c *client) error { return mayBeUnknown(c.mount(a, b, p)) }},
			{"delete in a", func(c *client) error { return mayBeUnknown(c.delete(a, p)) }},
			{"delete in b", func(c *client) error { return mayBeUnknown(c.delete(b, p)) }},
			{"delete in a and push again", func(c *client) error {
				if err := mayBeUnknown(c.delete(a, p)); err != nil {
					return err
				}
				return c.push(a, p)
			}},
		}
		states := append(recordStates(), recordState{name: "no record", often: true})
		for _, state := range states {
			if size == "inline" && state.data || !state.often && !soak() {
				continue
			}
			for i, x := range actors {
				for _, y := range actors[i:] {
					if state.lost && (x.name == "mount from b" || y.name == "mount from b") {
						continue // a mount asks the record, not whether the bytes are still there
					}
					everyInterleaving(t, scenario{
						name: size + "/" + state.name + "/" + x.name + " and " + y.name,
						setup: func(w *stage) error {
							if state.name == "no record" {
								return nil
							}
							return state.leave(w.clients[0], b, p)
						},
						actors: []actor{{"A " + x.name, x.run}, {"B " + y.name, y.run}},
					})
				}
			}
		}
	}
}

// soak says that what takes long is to be run too.
func soak() bool { return os.Getenv("BERTH_TEST_SOAK") != "" }

// everyInterleaving explores a scenario without faults.
func everyInterleaving(t *testing.T, sc scenario) {
	t.Helper()
	t.Run(sc.name, func(t *testing.T) {
		t.Parallel()
		n, _, violation := explore(t, sc)
		if violation != nil {
			t.Error(violation)
		}
		t.Logf("%d schedules", n)
	})
}
