package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// Repositories of the simulations.
const (
	repoA = "library/a"
	repoB = "library/b"
)

// client makes requests to one replica, as clients of the HTTP API do, and enters
// the responses in the ledger.
type client struct {
	run *simRun
	s   *Store

	// Of an actor of a schedule.
	actor  int
	bucket drivers.Bucket // of the process
	cached bool           // the process has a cache
	moved  bool           // the process has died, and this is another one
}

func (c *client) ctx() context.Context { return c.run.Ctx }

func (c *client) in(repo string) *Repository { return unchecked(c.s, repo) }

// unchecked is Store.Repository without the parsing of the name, which would take
// longer than everything else in a schedule.
func unchecked(s *Store, name string) *Repository {
	r := &Repository{s: s, name: name}
	r.descriptors = descriptors{r}
	return r
}

func bodyOf(p []byte) Body { return Body{bytes.NewReader(p), int64(len(p)), -1, nil} }

// streamOf returns a body of unknown length.
func streamOf(p []byte) Body { return Body{bytes.NewReader(p), -1, -1, nil} }

// start makes a POST.
func (c *client) start(repo string, alg digest.Algorithm) (Upload, error) {
	return c.in(repo).StartUpload(alg)
}

// put makes a PUT of the rest of an upload of p.
func (c *client) put(repo string, u Upload, rest, p []byte) error {
	return c.putAs(repo, u, rest, p, digest.FromBytes(p))
}

// putAs is put by this digest.
func (c *client) putAs(repo string, u Upload, rest, p []byte, d digest.Digest) error {
	return c.finish(repo, u, bodyOf(rest), p, d)
}

// finish is putAs with this body.
func (c *client) finish(repo string, u Upload, rest Body, p []byte, d digest.Digest) error {
	c.boundary()
	answered := c.run.Ledger.Pushing(repo, d, p)
	_, err := c.in(repo).FinishUpload(c.ctx(), u.ID, u.State, rest, Descriptor{Digest: d})
	c.boundary()
	answered(err)
	return err
}

// push makes a POST and a PUT, or a single POST: the store cannot distinguish
// them.
func (c *client) push(repo string, p []byte) error { return c.pushAs(repo, p, digest.FromBytes(p)) }

// pushAs is push by this digest.
func (c *client) pushAs(repo string, p []byte, d digest.Digest) error {
	u, err := c.start(repo, d.Algorithm())
	if err != nil {
		return err
	}
	return c.putAs(repo, u, p, p, d)
}

// pushByPatch makes a POST, a PATCH and a PUT to repoA.
func (c *client) pushByPatch(p []byte) error {
	u, err := c.start(repoA, "")
	if err == nil {
		u, err = c.patch(repoA, u, p)
	}
	if err != nil {
		return err
	}
	return c.put(repoA, u, nil, p)
}

func (c *client) patch(repo string, u Upload, p []byte) (Upload, error) {
	return c.in(repo).AppendUpload(c.ctx(), u.ID, u.State, streamOf(p))
}

func (c *client) mount(repo, from string, p []byte) error {
	return c.mountAs(repo, from, p, digest.FromBytes(p))
}

func (c *client) mountAs(repo, from string, p []byte, d digest.Digest) error {
	name, err := reference.WithName(from)
	if err != nil {
		return err
	}
	answered := c.run.Ledger.Pushing(repo, d, p)
	_, err = c.in(repo).Mount(c.ctx(), name, d)
	answered(err)
	return err
}

func (c *client) delete(repo string, p []byte) error {
	return c.deleteAs(repo, p, digest.FromBytes(p))
}

func (c *client) deleteAs(repo string, p []byte, d digest.Digest) error {
	c.boundary()
	answered := c.run.Ledger.Deleting(repo, p)
	err := c.in(repo).Delete(c.ctx(), d)
	c.boundary()
	answered(expect(err, ErrBlobUnknown))
	return err
}

func (c *client) cancel(repo string, u Upload) error {
	return c.in(repo).CancelUpload(c.ctx(), u.ID, u.State)
}

func (c *client) status(repo string, u Upload) (Upload, error) {
	return c.in(repo).UploadStatus(c.ctx(), u.ID, u.State)
}

// get reads a blob of repoA, and returns an error if its bytes are not p.
func (c *client) get(p []byte) error {
	got, err := c.in(repoA).Get(c.ctx(), digest.FromBytes(p))
	if err == nil && !bytes.Equal(got, p) {
		return fmt.Errorf("get returns %d other bytes", len(got))
	}
	return err
}

// unlessRival returns the error of a request to a session, unless it is one that a
// rival may cause.
func (c *client) unlessRival(err error) error {
	if c.run.rivals {
		return expect(err, ErrOutOfOrder, ErrBlobUploadUnknown)
	}
	return err
}

// stubborn makes a request again while the store fails it, as clients do.
func stubborn(request func() error) error {
	for {
		if err := request(); !errors.Is(err, drivertest.ErrInjected) {
			return err
		}
	}
}
