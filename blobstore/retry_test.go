package blobstore

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// retrying is a client that repeats its requests until it has what it wants, as
// real clients do: after a failure it repeats the request, after a 404 it starts
// the upload again, and after a 416 it continues where the upload stands.
type retrying struct {
	run      *simRun
	own      *client // of the process that the fault strikes
	spare    *client // of another process, which gets the requests once the first has died
	requests int
	session  session // the scenario's session
}

// session is an upload as its client knows it.
type session struct {
	Upload
	repository string
	p          []byte
	named      digest.Digest
}

// maxRequests is the number of requests in a scenario after which a client gives up.
// Without faults no scenario makes half as many.
const maxRequests = 24

// errGaveUp is the error of a client that has made too many requests.
var errGaveUp = errors.New("the client has given up")

// client returns the client of a process that is alive.
func (c *retrying) client() *client {
	if c.run.Died() {
		return c.spare
	}
	return c.own
}

// isFinal reports whether repeating a request is of no use.
func isFinal(err error) bool {
	final := expect(err, ErrBlobUploadUnknown, ErrOutOfOrder, ErrBlobUnknown, ErrBlobInvalidLength) == nil
	return final || isWrongDigest(err)
}

// do repeats a request until its result is final.
func (c *retrying) do(request func(c *client) error) error {
	var failed []error
	for {
		if c.requests++; c.requests > maxRequests {
			return errors.Join(append(failed, errGaveUp)...)
		}
		err := c.run.Request(func() error { return request(c.client()) })
		if isFinal(err) {
			return err
		}
		failed = append(failed, err)
	}
}

// way is how a client pushes.
type way int

const (
	byPut         way = iota // POST+PUT
	byPost                   // POST
	byPatch                  // POST+PATCH+PUT
	byChunks                 // POST, PATCHes with Content-Range, and PUT of the rest
	byUnannounced            // byChunks, but POST does not name the digest's algorithm
)

func (w way) String() string {
	return [...]string{"POST+PUT", "POST", "POST+PATCH+PUT", "chunks", "chunks, unannounced"}[w]
}

func (w way) inChunks() bool { return w == byChunks || w == byUnannounced }

// push pushes p to repoA, by a digest, until that is acknowledged. It returns the
// session as it was before the last PUT.
func (c *retrying) push(by way, p []byte, named digest.Digest) (session, error) {
	for {
		s := session{repository: repoA, p: p, named: named}
		err := c.start(by, &s)
		if err == nil && by != byPut && by != byPost {
			err = c.send(by, &s)
		}
		at := s
		for err == nil {
			if err = c.finish(by, s); err == nil {
				return at, nil
			}
			if errors.Is(err, ErrOutOfOrder) {
				err = c.status(&s)
				at = s
			}
		}
		if !errors.Is(err, ErrBlobUploadUnknown) {
			return s, fmt.Errorf("push by %s: %w", by, err)
		}
	}
}

func (c *retrying) start(by way, s *session) error {
	alg := s.named.Algorithm()
	if by == byUnannounced {
		alg = ""
	}
	return c.do(func(c *client) (err error) {
		s.Upload, err = c.start(s.repository, alg)
		return err
	})
}

// send sends what goes by PATCH.
func (c *retrying) send(by way, s *session) error {
	end, chunk := int64(len(s.p)), int64(len(s.p))
	if by.inChunks() {
		chunk = end*2/5 + 1 // two, and a rest that goes with the PUT
		end--
	}
	for s.Size < end && (by == byPatch || s.Size+chunk <= end) {
		err := c.do(func(c *client) error {
			n := min(chunk, end-s.Size)
			body := bodyOf(s.p[s.Size : s.Size+n])
			if by.inChunks() {
				body.Start = s.Size
			}
			u, err := c.in(s.repository).AppendUpload(c.ctx(), s.ID, s.State, body)
			if err == nil {
				s.Upload = u
			}
			return err
		})
		if errors.Is(err, ErrOutOfOrder) {
			err = c.status(s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *retrying) status(s *session) error {
	return c.do(func(c *client) error {
		u, err := c.status(s.repository, s.Upload)
		if err == nil {
			s.Upload = u
		}
		return err
	})
}

// finish sends the rest by PUT, or everything by a POST.
func (c *retrying) finish(by way, s session) error {
	return c.do(func(c *client) (err error) {
		if by == byPost { // each one is a new upload
			if s.Upload, err = c.start(s.repository, s.named.Algorithm()); err != nil {
				return err
			}
		}
		body := bodyOf(s.p[s.Size:])
		if by.inChunks() {
			body.Start = s.Size
		}
		return c.finish(s.repository, s.Upload, body, s.p, s.named)
	})
}

// cancel cancels an upload until it does not exist.
func (c *retrying) cancel(s session) error {
	err := c.do(func(c *client) error { return c.cancel(s.repository, s.Upload) })
	return expect(err, ErrBlobUploadUnknown)
}

// mount mounts a blob until that is acknowledged or refused. It returns
// ErrBlobUnknown if it is refused.
func (c *retrying) mount(from, to string, p []byte, named digest.Digest) error {
	return c.do(func(c *client) error { return c.mountAs(to, from, p, named) })
}

// delete deletes a blob until it does not exist.
func (c *retrying) delete(repository string, p []byte, named digest.Digest) error {
	err := c.do(func(c *client) error { return c.deleteAs(repository, p, named) })
	return expect(err, ErrBlobUnknown)
}

// get reads a blob and compares its bytes.
func (c *retrying) get(repository string, p []byte, named digest.Digest) error {
	got, err := c.client().in(repository).Get(c.run.Ctx, named)
	if err != nil || !bytes.Equal(got, p) {
		return fmt.Errorf("get %s of %s: %d bytes, %w", named, repository, len(got), err)
	}
	return nil
}
