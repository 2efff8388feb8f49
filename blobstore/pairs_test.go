package blobstore

import (
	"errors"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/memory"
)

// contested is a session that two clients may fight over, and what they may do.
// What they send has one size and one CRC, so that nothing but the protocol
// tells it apart.
type contested struct {
	name   string
	x      []byte // what some of them make of it
	setup  func(*stage) error
	actors []contender

	// often says that tests that take few sessions should take this one. They
	// are one that stores parts at once, one that has all bytes in its record,
	// and one that has them in parts.
	often bool
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
		name  string
		size  int // bytes that were sent, by two PATCHes if they are a tail
		rest  int // bytes that are to come
		often bool
	}{
		{"fresh, inline", 0, 40, false},
		{"fresh, one object", 0, 200, false},
		{"fresh, parts", 0, 600, true},
		{"tail, one object", 100, 100, true},
		{"tail, parts", 100, 400, false},
		{"part and tail", 300, 300, true},
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
		bySHA512 := "PUT x"
		if 0 < begun.size && begun.size < tinyPart {
			// The session computes no sha512. Once a PUT by sha256 has spent its
			// record, nothing of it is left to read back.
			bySHA512 = "PUT x by sha512"
		}
		first := begun.size
		if begun.size < tinyPart {
			first /= 2 // the second record refers to the first one
		}
		s := contested{
			name:  begun.name,
			x:     x,
			setup: patchedBy(x[:first], x[first:begun.size]),
			often: begun.often,
			actors: []contender{
				{actor{"PATCH x", func(c *client) error {
					_, err := c.patch(repoA, c.w.session, restX)
					return c.contest(err)
				}}, "PATCH x"},
				{actor{"PATCH and PUT x", patchAndPut(restX, x)}, "PATCH and PUT x"},
				{actor{"PATCH and PUT y", patchAndPut(restY, y)}, "PATCH and PUT y"},
				{actor{"PUT x", put(restX, x)}, "PUT x"},
				{actor{"PUT x twice", func(c *client) error { return errors.Join(put(restX, x)(c), put(restX, x)(c)) }}, "PUT x"},
				{actor{"PUT x by sha512", func(c *client) error {
					err := c.putAs(repoA, c.w.session, restX, x, digest.SHA512.FromBytes(x))
					if c.w.rivals && isWrongDigest(err) {
						return nil // the session ended with the bytes of a rival
					}
					return c.contest(err)
				}}, bySHA512},
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
		all = append(all, s)
	}
	return all
}

// Two clients of one session, in every interleaving.
func TestEveryInterleavingOfASession(t *testing.T) {
	for name, habits := range map[string]memory.Habits{"S3": tinyS3(), "memory": streaming()} {
		for _, s := range contests() {
			for i, a := range s.actors {
				for _, b := range s.actors[i:] {
					twice := a.name == "PUT x twice" || b.name == "PUT x twice"
					if !soak() && (s.name == "part and tail" && twice && a.name == b.name || name == "memory" && (twice || !s.often)) {
						continue // thousands, and the others show as much
					}
					rivals := a.group != "" && b.group != "" && (a.group != "PUT x" || b.group != "PUT x")
					everyInterleaving(t, scenario{
						name:   name + "/" + s.name + "/" + a.name + " and " + b.name,
						habits: habits,
						setup:  s.setup,
						rivals: rivals,
						actors: []actor{{"A " + a.name, a.run}, {"B " + b.name, b.run}},
					})
				}
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

// A client of a session, and one of the blob that it becomes, in every
// interleaving.
func TestEveryInterleavingOfASessionAndItsBlob(t *testing.T) {
	groups := []string{"PUT x", "PATCH and PUT x", "cancel"}
	for _, s := range contests() {
		for _, a := range s.actors {
			if !soak() && (!s.often || !slices.Contains(groups, a.group)) {
				continue
			}
			for _, b := range blobActors(s.x) {
				everyInterleaving(t, scenario{
					name: s.name + "/" + a.name + " and " + b.name,
					setup: func(w *stage) error {
						return errors.Join(w.clients[1].push(repoB, s.x), s.setup(w))
					},
					// Once its bytes are spent, a session can't be committed
					// again after the blob was deleted.
					rivals: a.name == "PUT x twice" && strings.HasPrefix(b.name, "delete in a"),
					actors: []actor{{"A " + a.name, a.run}, {"B " + b.name, b.run}},
				})
			}
		}
	}
}

// One client, whose n-th write is answered with an error and happens at any
// later time, for every n: it makes the request again, and ends well.
func TestEveryLateWrite(t *testing.T) {
	for name, habits := range map[string]memory.Habits{"S3": tinyS3(), "memory": streaming()} {
		for _, s := range contests() {
			for _, a := range s.actors {
				everyLateWrite(t, scenario{
					name:   name + "/" + s.name + "/" + a.name,
					habits: habits,
					setup:  s.setup,
					// Against its own late write it may lose.
					rivals: a.group != "PUT x",
					actors: []actor{a.actor},
				})
			}
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
		sc.most = enough()
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

// enough is how many schedules of a scenario are run: all, but for a few under
// the race detector, with which they take eight times as long. It has little to
// find in them, since one step is made at a time. `make test` runs all of them
// without it, in the tests that are called TestEvery… and TestAttack….
var enough = sync.OnceValue(func() int {
	info, _ := debug.ReadBuildInfo()
	if info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return 4
	}
	return 0
})

// everyInterleaving explores a scenario without faults.
func everyInterleaving(t *testing.T, sc scenario) {
	t.Helper()
	t.Run(sc.name, func(t *testing.T) {
		t.Parallel()
		sc.most = enough()
		n, _, violation := explore(t, sc)
		if violation != nil {
			t.Error(violation)
		}
		t.Logf("%d schedules", n)
	})
}
