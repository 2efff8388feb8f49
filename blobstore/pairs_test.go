package blobstore

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/memory"
)

// sharedSession is a session that several clients use, and what each may do with
// it. The contents that they send have one size and one CRC, so that nothing but
// the protocol distinguishes them.
type sharedSession struct {
	name    string
	x, y    []byte // what the clients make of it
	sent    int    // bytes that the session has already
	rest    int    // bytes that are still to be sent
	typical bool   // selects the sessions for searches that take long
}

// sessionActor is an actor that uses a session. Actors with the same goal can all
// succeed. One without a goal changes nothing.
type sessionActor struct {
	actor
	goal string
}

// sharedSessions returns a session for each way in which bytes are kept. The
// typical ones store parts at once, hold all bytes in a record, and hold them in
// parts.
func sharedSessions() []sharedSession {
	all := []sharedSession{
		{name: "fresh, inline", sent: 0, rest: 40},
		{name: "fresh, one object", sent: 0, rest: 200},
		{name: "fresh, parts", sent: 0, rest: 600, typical: true},
		{name: "tail, one object", sent: 100, rest: 100, typical: true},
		{name: "tail, parts", sent: 100, rest: 400},
		{name: "part and tail", sent: 300, rest: 300, typical: true},
	}
	for i := range all {
		s := &all[i]
		s.x, s.y = twins(1, s.sent+s.rest, s.rest)
	}
	return all
}

// setup sends what the session has already. Bytes that are too few for a part are
// sent by two PATCHes, so that the second record refers to the first.
func (s sharedSession) setup(run *simRun) error {
	first := s.sent
	if s.sent < tinyPart {
		first /= 2
	}
	return patchedBy(s.x[:first], s.x[first:s.sent])(run)
}

// patchedBy returns a function that starts a session of repoA and sends it these
// pieces, one PATCH each. Empty ones are left out.
func patchedBy(pieces ...[]byte) func(*simRun) error {
	return func(run *simRun) (err error) {
		c := run.clients[0]
		run.session, err = c.start(repoA, "")
		for _, p := range pieces {
			if err == nil && len(p) > 0 {
				run.session, err = c.patch(repoA, run.session, p)
			}
		}
		return err
	}
}

func (s sharedSession) actors() []sessionActor {
	restX := s.x[s.sent:]
	putX := s.put(s.x)
	return []sessionActor{
		{actor{"PATCH x", func(c *client) error {
			_, err := c.patch(repoA, c.run.session, restX)
			return c.unlessRival(err)
		}}, "PATCH x"},
		{actor{"PATCH and PUT x", s.patchAndPut(s.x)}, "PATCH and PUT x"},
		{actor{"PATCH and PUT y", s.patchAndPut(s.y)}, "PATCH and PUT y"},
		{actor{"PUT x", putX}, "PUT x"},
		{actor{"PUT x twice", func(c *client) error { return errors.Join(putX(c), putX(c)) }}, "PUT x"},
		{actor{"PUT x by sha512", s.putBySHA512}, s.goalOfSHA512()},
		{actor{"PUT y", s.put(s.y)}, "PUT y"},
		{actor{"PUT x as y", s.putWrong(digest.SHA256)}, "PUT x as y"},
		{actor{"PUT x as y by sha512", s.putWrong(digest.SHA512)}, "PUT x as y"},
		{actor{"cancel", func(c *client) error { return c.unlessRival(c.cancel(repoA, c.run.session)) }}, "cancel"},
		{actor{"status", func(c *client) error {
			_, err := c.status(repoA, c.run.session)
			return expect(err, ErrBlobUploadUnknown)
		}}, ""},
	}
}

func (s sharedSession) patchAndPut(p []byte) func(c *client) error {
	return func(c *client) error {
		u, err := c.patch(repoA, c.run.session, p[s.sent:])
		if err == nil {
			err = c.put(repoA, u, nil, p)
		}
		return c.unlessRival(err)
	}
}

func (s sharedSession) put(p []byte) func(c *client) error {
	return func(c *client) error { return c.unlessRival(c.put(repoA, c.run.session, p[s.sent:], p)) }
}

func (s sharedSession) putBySHA512(c *client) error {
	err := c.putAs(repoA, c.run.session, s.x[s.sent:], s.x, digest.SHA512.FromBytes(s.x))
	if c.run.rivals && isWrongDigest(err) {
		return nil // the session has ended with the bytes of a rival
	}
	return c.unlessRival(err)
}

// goalOfSHA512 returns the goal of a PUT by a sha512. The session computes none.
// If it has a tail and no parts, nothing is left to read back once a PUT by sha256
// has spent its record, so that the two are rivals.
func (s sharedSession) goalOfSHA512() string {
	if 0 < s.sent && s.sent < tinyPart {
		return "PUT x by sha512"
	}
	return "PUT x"
}

// putWrong returns a PUT of x by the digest of y. It succeeds if y is there and
// the session is over, because the bytes that it sends are not read then.
func (s sharedSession) putWrong(alg digest.Algorithm) func(c *client) error {
	return func(c *client) error {
		err := c.putAs(repoA, c.run.session, s.x[s.sent:], s.y, alg.FromBytes(s.y))
		if isWrongDigest(err) {
			return nil
		}
		return expect(err, ErrOutOfOrder, ErrBlobUploadUnknown)
	}
}

// rivals reports whether two actors want different things of a session.
func (a sessionActor) rivals(b sessionActor) bool {
	switch {
	case a.goal == "" || b.goal == "":
		return false
	case a.goal == "PUT x" && b.goal == "PUT x":
		return false
	default: // also two of the same goal: the second finds the session continued
		return true
	}
}

// TestEveryInterleavingOfASession runs two clients of one session.
func TestEveryInterleavingOfASession(t *testing.T) {
	for name, habits := range map[string]memory.Habits{"S3": tinyS3(), "memory": streaming()} {
		for _, s := range sharedSessions() {
			actors := s.actors()
			for i, a := range actors {
				for _, b := range actors[i:] {
					twice := a.name == "PUT x twice" || b.name == "PUT x twice"
					huge := s.name == "part and tail" && twice && a.name == b.name
					alike := name == "memory" && (twice || !s.typical)
					if (huge || alike) && !soak() {
						continue // thousands of schedules, like those of the others
					}
					everyInterleaving(t, scenario{
						name:   name + "/" + s.name + "/" + a.name + " and " + b.name,
						habits: habits,
						setup:  s.setup,
						rivals: a.rivals(b),
						actors: []actor{{"A " + a.name, a.run}, {"B " + b.name, b.run}},
					})
				}
			}
		}
	}
}

// blobActors returns what clients may do with the blob p.
func blobActors(p []byte) []actor {
	mayBeUnknown := func(err error) error { return expect(err, ErrBlobUnknown) }
	return []actor{
		{"push to a", func(c *client) error { return c.push(repoA, p) }},
		{"push to a by PATCH", func(c *client) error { return c.pushByPatch(p) }},
		{"push to b", func(c *client) error { return c.push(repoB, p) }},
		{"push to a by sha512", func(c *client) error { return c.pushAs(repoA, p, digest.SHA512.FromBytes(p)) }},
		{mountFromB, func(c *client) error { return mayBeUnknown(c.mount(repoA, repoB, p)) }},
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

const mountFromB = "mount from b"

// blobSizes returns the sizes of an inline blob and of one of several parts.
func blobSizes() map[string]int { return map[string]int{"inline": 40, "parts": 600} }

// possible reports whether actors can meet a blob of this size in this state. A
// mount relies on the record and not on the bytes, so it does not notice that
// they are lost.
func (s recordState) possible(size string, actors ...actor) bool {
	if size == "inline" && s.hasData {
		return false
	}
	return !s.lost || !slices.ContainsFunc(actors, func(a actor) bool { return a.name == mountFromB })
}

// TestEveryInterleavingOfABlob runs two clients of one blob, in every state of its
// record.
func TestEveryInterleavingOfABlob(t *testing.T) {
	sizes := blobSizes()
	if soak() {
		sizes["one object"] = 200
	}
	for size, n := range sizes {
		p := randomBytes(1, n)
		actors := blobActors(p)
		for _, state := range recordStates() {
			for i, a := range actors {
				for _, b := range actors[i:] {
					if !state.possible(size, a, b) || !state.often && !soak() {
						continue
					}
					everyInterleaving(t, scenario{
						name:   size + "/" + state.name + "/" + a.name + " and " + b.name,
						setup:  func(run *simRun) error { return state.leave(run.clients[0], repoB, p) },
						actors: []actor{{"A " + a.name, a.run}, {"B " + b.name, b.run}},
					})
				}
			}
		}
	}
}

// TestEveryInterleavingOfASessionAndItsBlob runs a client of a session and one of
// the blob that the session becomes.
func TestEveryInterleavingOfASessionAndItsBlob(t *testing.T) {
	goals := []string{"PUT x", "PATCH and PUT x", "cancel"}
	for _, s := range sharedSessions() {
		for _, a := range s.actors() {
			if !soak() && (!s.typical || !slices.Contains(goals, a.goal)) {
				continue
			}
			for _, b := range blobActors(s.x) {
				everyInterleaving(t, scenario{
					name: s.name + "/" + a.name + " and " + b.name,
					setup: func(run *simRun) error {
						return errors.Join(run.clients[1].push(repoB, s.x), s.setup(run))
					},
					// A session with spent bytes can't be committed again
					// after the blob was deleted.
					rivals: a.name == "PUT x twice" && strings.HasPrefix(b.name, "delete in a"),
					actors: []actor{{"A " + a.name, a.run}, {"B " + b.name, b.run}},
				})
			}
		}
	}
}

// TestEveryLateWrite runs one client. The response to its nth write is an error,
// and the write takes effect at any later time, for every n. The client repeats
// the request and succeeds.
func TestEveryLateWrite(t *testing.T) {
	for name, habits := range map[string]memory.Habits{"S3": tinyS3(), "memory": streaming()} {
		for _, s := range sharedSessions() {
			for _, a := range s.actors() {
				everyLateWrite(t, scenario{
					name:   name + "/" + s.name + "/" + a.name,
					habits: habits,
					setup:  s.setup,
					rivals: a.goal != "PUT x", // the late write may be one
					actors: []actor{a.actor},
				})
			}
		}
	}
	for size, n := range blobSizes() {
		p := randomBytes(1, n)
		for _, state := range recordStates() {
			for _, a := range blobActors(p) {
				if !state.possible(size, a) {
					continue
				}
				everyLateWrite(t, scenario{
					name:   size + "/" + state.name + "/" + a.name,
					setup:  func(run *simRun) error { return state.leave(run.clients[0], repoB, p) },
					actors: []actor{a},
				})
			}
		}
	}
}
