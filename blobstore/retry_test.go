package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// retrying is a client that asks again until it has what it wants, as real ones
// do: after a failure the same request once more, after a 404 the upload from
// its start, after a 416 on from where the upload is said to stand. It puts
// down in the ledger what it was told.
type retrying struct {
	// ask has a request answered by some process. It ends the client by an
	// errGaveUp.
	ask    func(request func(*Store) error) error
	ledger *ledger
}

// errGaveUp says that a client has asked too often.
var errGaveUp = errors.New("the client has given up")

// isFinal says that asking again has no use.
func isFinal(err error) bool {
	_, bad := errors.AsType[ErrBlobInvalidDigest](err)
	return err == nil || bad || errors.Is(err, errGaveUp) || errors.Is(err, ErrBlobUploadUnknown) || errors.Is(err, ErrOutOfOrder) ||
		errors.Is(err, ErrBlobUnknown) || errors.Is(err, ErrBlobInvalidLength)
}

// do asks until there is an answer that is final.
func (c retrying) do(repository string, request func(*Repository) error) error {
	name, err := reference.WithName(repository)
	if err != nil {
		return err
	}
	var failed []error
	for {
		err := c.ask(func(s *Store) error { return request(s.Repository(name)) })
		if errors.Is(err, errGaveUp) {
			return errors.Join(append(failed, err)...)
		}
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

// session is an upload as its client knows it.
type session struct {
	Upload
	repository string
	p          []byte
	named      digest.Digest
}

// push pushes p, as the digest named, until that is acknowledged. It returns
// the session that it did so with, where the last PUT was sent to.
func (c retrying) push(ctx context.Context, by way, repository string, p []byte, named digest.Digest) (session, error) {
	for {
		s := session{repository: repository, p: p, named: named}
		err := c.start(by, &s)
		if err == nil && by != byPut && by != byPost {
			err = c.send(ctx, by, &s)
		}
		at := s
		for err == nil {
			if err = c.finish(ctx, by, s); err == nil {
				return at, nil
			}
			if errors.Is(err, ErrOutOfOrder) {
				err = c.status(ctx, &s)
				at = s
			}
		}
		if !errors.Is(err, ErrBlobUploadUnknown) {
			return s, fmt.Errorf("push by %s: %w", by, err)
		}
	}
}

func (c retrying) start(by way, s *session) error {
	alg := s.named.Algorithm()
	if by == byUnannounced {
		alg = ""
	}
	return c.do(s.repository, func(r *Repository) (err error) {
		s.Upload, err = r.StartUpload(alg)
		return err
	})
}

// send sends what goes by PATCH.
func (c retrying) send(ctx context.Context, by way, s *session) error {
	end, chunk := int64(len(s.p)), int64(len(s.p))
	if by.inChunks() {
		chunk = end*2/5 + 1 // two, and a rest that goes with the PUT
		end--
	}
	for s.Size < end && (by == byPatch || s.Size+chunk <= end) {
		err := c.do(s.repository, func(r *Repository) error {
			n := min(chunk, end-s.Size)
			body := Body{Reader: bytes.NewReader(s.p[s.Size : s.Size+n]), Length: n, Start: -1}
			if by.inChunks() {
				body.Start = s.Size
			}
			u, err := r.AppendUpload(ctx, s.ID, s.State, body)
			if err == nil {
				s.Upload = u
			}
			return err
		})
		if errors.Is(err, ErrOutOfOrder) {
			err = c.status(ctx, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c retrying) status(ctx context.Context, s *session) error {
	return c.do(s.repository, func(r *Repository) error {
		u, err := r.UploadStatus(ctx, s.ID, s.State)
		if err == nil {
			s.Upload = u
		}
		return err
	})
}

// finish sends the rest by PUT, or all of it in a POST of its own.
func (c retrying) finish(ctx context.Context, by way, s session) error {
	return c.do(s.repository, func(r *Repository) error {
		if by == byPost { // each is a new upload
			u, err := r.StartUpload(s.named.Algorithm())
			if err != nil {
				return err
			}
			s.Upload = u
		}
		rest := s.p[s.Size:]
		body := Body{Reader: bytes.NewReader(rest), Length: int64(len(rest)), Start: -1}
		if by.inChunks() {
			body.Start = s.Size
		}
		answered := c.ledger.pushing(s.repository, s.named, s.p)
		_, err := r.FinishUpload(ctx, s.ID, s.State, body, Descriptor{Digest: s.named})
		answered(err)
		return err
	})
}

// cancel cancels an upload until it is no more.
func (c retrying) cancel(ctx context.Context, s session) error {
	err := c.do(s.repository, func(r *Repository) error { return r.CancelUpload(ctx, s.ID, s.State) })
	if errors.Is(err, ErrBlobUploadUnknown) {
		return nil
	}
	return err
}

// mount mounts a blob until that is acknowledged or refused. It reports
// ErrBlobUnknown if it is refused.
func (c retrying) mount(ctx context.Context, from, to string, p []byte, named digest.Digest) error {
	name, err := reference.WithName(from)
	if err != nil {
		return err
	}
	return c.do(to, func(r *Repository) error {
		answered := c.ledger.pushing(to, named, p)
		_, err := r.Mount(ctx, name, named)
		answered(err)
		return err
	})
}

// delete deletes a blob until it is no more.
func (c retrying) delete(ctx context.Context, repository string, p []byte, named digest.Digest) error {
	err := c.do(repository, func(r *Repository) error {
		answered := c.ledger.deleting(repository, p)
		err := r.Delete(ctx, named)
		answered(err)
		return err
	})
	if errors.Is(err, ErrBlobUnknown) {
		return nil
	}
	return err
}
