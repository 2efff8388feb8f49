package blobstore

import (
	"errors"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
)

// contested is a session that two clients may fight over, and what they may do.
// What they send has one size and one CRC, so that nothing but the protocol
// tells it apart.
type contested struct {
	name   string
	x      []byte // what some of them make of it
	setup  func(*stage) error
	actors []contender
}

// contender is an actor. Those who want the same are in one group; those in
// none want nothing.
type contender struct {
	actor
	group string
}

func contests() []contested {
	var all []contested
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
		patchAndPut := func(rest, p []byte) func(c *client) error {
			return func(c *client) error {
				u, err := c.patch(repoA, c.w.session, rest)
				if err == nil {
					err = c.put(repoA, u, nil, p)
				}
				return c.contest(err)
			}
		}
		put := func(rest, p []byte) func(c *client) error {
			return func(c *client) error { return c.contest(c.put(repoA, c.w.session, rest, p)) }
		}
		// A client that sends x and says that it is y. If y is there, and the
		// session over, it is told so; what it has sent then is not looked at.
		lie := func(d digest.Digest) func(c *client) error {
			return func(c *client) error {
				err := c.putAs(repoA, c.w.session, restX, y, d)
				if _, ok := errors.AsType[ErrBlobInvalidDigest](err); ok {
					return nil
				}
				return expect(err, ErrOutOfOrder, ErrBlobUploadUnknown)
			}
		}
		s := contested{
			name: begun.name,
			x:    x,
			setup: func(w *stage) (err error) {
				c := w.clients[0]
				if w.session, err = c.in(repoA).StartUpload(""); err == nil && begun.size > 0 {
					w.session, err = c.patch(repoA, w.session, x[:begun.size])
				}
				return err
			},
			actors: []contender{
				{actor{"PATCH x", func(c *client) error {
					_, err := c.patch(repoA, c.w.session, restX)
					return c.contest(err)
				}}, "PATCH x"},
				{actor{"PATCH and PUT x", patchAndPut(restX, x)}, "PATCH and PUT x"},
				{actor{"PATCH and PUT y", patchAndPut(restY, y)}, "PATCH and PUT y"},
				{actor{"PUT x", put(restX, x)}, "PUT x"},
				{actor{"PUT x twice", func(c *client) error { return errors.Join(put(restX, x)(c), put(restX, x)(c)) }}, "PUT x"},
				{actor{"PUT y", put(restY, y)}, "PUT y"},
				{actor{"PUT x as y", lie(digest.FromBytes(y))}, "lie"},
				{actor{"PUT x as y by sha512", lie(digest.SHA512.FromBytes(y))}, "lie"},
				{actor{"cancel", func(c *client) error { return c.contest(c.cancel(repoA, c.w.session)) }}, "cancel"},
				{actor{"status", func(c *client) error {
					_, err := c.status(repoA, c.w.session)
					return expect(err, ErrBlobUploadUnknown)
				}}, ""},
			},
		}
		if begun.size == 0 { // else the session computes no sha512
			s.actors = append(s.actors, contender{actor{"PUT x by sha512", func(c *client) error {
				return c.contest(c.putAs(repoA, c.w.session, restX, x, digest.SHA512.FromBytes(x)))
			}}, "PUT x"})
		}
		all = append(all, s)
	}
	return all
}

// Two clients of one session, in every interleaving.
func TestEveryInterleavingOfASession(t *testing.T) {
	for _, s := range contests() {
		for i, a := range s.actors {
			for _, b := range s.actors[i:] {
				if !soak() && s.name == "part and tail" && a.name == "PUT x twice" && b.name == a.name {
					continue // thousands, and the other sessions show as much
				}
				rivals := a.group != "" && b.group != "" && (a.group != "PUT x" || b.group != "PUT x")
				everyInterleaving(t, scenario{
					name:   s.name + "/" + a.name + " and " + b.name,
					setup:  s.setup,
					rivals: rivals,
					actors: []actor{{"A " + a.name, a.run}, {"B " + b.name, b.run}},
				})
			}
		}
	}
}

// blobActors are what clients may do with the blob p.
func blobActors(p []byte) []actor {
	mayBeUnknown := func(err error) error { return expect(err, ErrBlobUnknown) }
	return []actor{
		{"push to a", func(c *client) error { return c.push(repoA, p) }},
		{"push to a by PATCH", func(c *client) error { return c.pushPatch(p) }},
		{"push to b", func(c *client) error { return c.push(repoB, p) }},
		{"push to a by sha512", func(c *client) error { return c.pushAs(repoA, p, digest.SHA512.FromBytes(p)) }},
		{"mount from b", func(c *client) error { return mayBeUnknown(c.mount(repoA, repoB, p)) }},
		{"delete in a", func(c *client) error { return mayBeUnknown(c.delete(repoA, p)) }},
		{"delete in b", func(c *client) error { return mayBeUnknown(c.delete(repoB, p)) }},
		{"delete in a and push again", func(c *client) error {
			if err := mayBeUnknown(c.delete(repoA, p)); err != nil {
				return err
			}
			return c.push(repoA, p)
		}},
	}
}

// Two clients of one blob, in every interleaving, over every state that its
// record may be in.
func TestEveryInterleavingOfABlob(t *testing.T) {
	sizes := sizesOf()
	if soak() {
		sizes["one object"] = 200
	}
	for size, n := range sizes {
		p := randomBytes(1, n)
		actors := blobActors(p)
		for _, state := range recordStates() {
			if size == "inline" && state.data || !state.often && !soak() {
				continue
			}
			for i, a := range actors {
				for _, b := range actors[i:] {
					if state.lost && (a.name == "mount from b" || b.name == "mount from b") {
						continue // a mount asks the record, not whether the bytes are still there
					}
					everyInterleaving(t, scenario{
						name:   size + "/" + state.name + "/" + a.name + " and " + b.name,
						setup:  func(w *stage) error { return state.leave(w.clients[0], repoB, p) },
						actors: []actor{{"A " + a.name, a.run}, {"B " + b.name, b.run}},
					})
				}
			}
		}
	}
}

// One client, whose n-th write is answered with an error and happens at any
// later time, for every n: it makes the request again, and ends well.
func TestEveryLateWrite(t *testing.T) {
	for _, s := range contests() {
		for _, a := range s.actors {
			everyLateWrite(t, scenario{
				name:  s.name + "/" + a.name,
				setup: s.setup,
				// Against its own late write it may lose.
				rivals: a.group != "PUT x",
				actors: []actor{a.actor},
			})
		}
	}
	for size, n := range sizesOf() {
		p := randomBytes(1, n)
		for _, state := range recordStates() {
			if size == "inline" && state.data {
				continue
			}
			for _, a := range blobActors(p) {
				if state.lost && a.name == "mount from b" {
					continue
				}
				everyLateWrite(t, scenario{
					name:   size + "/" + state.name + "/" + a.name,
					setup:  func(w *stage) error { return state.leave(w.clients[0], repoB, p) },
					actors: []actor{a},
				})
			}
		}
	}
}

func everyLateWrite(t *testing.T, sc scenario) {
	t.Helper()
	t.Run(sc.name, func(t *testing.T) {
		t.Parallel()
		for hit, total := true, 0; hit; {
			sc.late.n++
			var n int
			var violation error
			n, hit, violation = explore(t, sc)
			if violation != nil {
				t.Fatalf("write %d late: %v", sc.late.n, violation)
			}
			if total += n; !hit {
				t.Logf("%d schedules of %d writes", total, sc.late.n-1)
			}
		}
	})
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
