package blobstore

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/drivertest"
)

// client makes requests to one replica, as clients of the HTTP API do, and
// enters in the ledger what it is told.
type client struct {
	w *stage
	s *Store
}

func (c *client) in(repo string) *Repository { return inRepository(c.s, repo) }

// inRepository is Store.Repository without looking at the name, which takes
// longer than all else in a schedule.
func inRepository(s *Store, name string) *Repository {
	r := &Repository{s: s, name: name}
	r.access = descriptors{r}
	return r
}

func bodyOf(p []byte) Body { return Body{bytes.NewReader(p), int64(len(p)), -1, nil} }

func streamOf(p []byte) Body { return Body{bytes.NewReader(p), -1, -1, nil} }

// put is PUT of the rest of an upload, which is p as a whole.
func (c *client) put(repo string, u Upload, rest, p []byte) error {
	return c.putAs(repo, u, rest, p, digest.FromBytes(p))
}

func (c *client) putAs(repo string, u Upload, rest, p []byte, d digest.Digest) error {
	answered := c.w.ledger.pushing(repo, d, p)
	_, err := c.in(repo).FinishUpload(c.w.ctx, u.ID, u.State, bodyOf(rest), Descriptor{Digest: d})
	answered(err)
	return err
}

// push is POST and PUT, or a single POST: the store can't tell them apart.
func (c *client) push(repo string, p []byte) error { return c.pushAs(repo, p, digest.FromBytes(p)) }

func (c *client) pushAs(repo string, p []byte, d digest.Digest) error {
	u, err := c.in(repo).StartUpload(d.Algorithm())
	if err != nil {
		return err
	}
	return c.putAs(repo, u, p, p, d)
}

// pushPatch is POST, PATCH and PUT, to repoA.
func (c *client) pushPatch(p []byte) error {
	u, err := c.in(repoA).StartUpload("")
	if err == nil {
		u, err = c.patch(repoA, u, p)
	}
	if err != nil {
		return err
	}
	return c.put(repoA, u, nil, p)
}

func (c *client) patch(repo string, u Upload, p []byte) (Upload, error) {
	return c.in(repo).AppendUpload(c.w.ctx, u.ID, u.State, streamOf(p))
}

func (c *client) mount(repo, from string, p []byte) error {
	return c.mountAs(repo, from, p, digest.FromBytes(p))
}

func (c *client) mountAs(repo, from string, p []byte, d digest.Digest) error {
	name, err := reference.WithName(from)
	if err != nil {
		return err
	}
	answered := c.w.ledger.pushing(repo, d, p)
	_, err = c.in(repo).Mount(c.w.ctx, name, d)
	answered(err)
	return err
}

func (c *client) delete(repo string, p []byte) error {
	answered := c.w.ledger.deleting(repo, p)
	err := c.in(repo).Delete(c.w.ctx, digest.FromBytes(p))
	answered(err)
	return err
}

func (c *client) cancel(repo string, u Upload) error {
	return c.in(repo).CancelUpload(c.w.ctx, u.ID, u.State)
}

func (c *client) status(repo string, u Upload) (Upload, error) {
	return c.in(repo).UploadStatus(c.w.ctx, u.ID, u.State)
}

// get reads a blob of repoA, and reports it if the bytes are others.
func (c *client) get(p []byte) error {
	got, err := c.in(repoA).Get(c.w.ctx, digest.FromBytes(p))
	if err == nil && !bytes.Equal(got, p) {
		return fmt.Errorf("%d bytes that are others", len(got))
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

// expect gives an error that is none of the expected ones.
func expect(err error, expected ...error) error {
	for _, e := range expected {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// contest is what a request of a session may have met if a rival was there.
func (c *client) contest(err error) error {
	if c.w.rivals {
		return expect(err, ErrOutOfOrder, ErrBlobUploadUnknown)
	}
	return err
}
