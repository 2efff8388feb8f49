// Package transfer moves bytes into a bucket, out of it and within it: blobs from and to
// files, and whole images with everything that they refer to.
//
// Everything goes through package blobstore, so that its rules hold: blobs are published
// once they are verified and durable, and before the manifests that refer to them.
package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/cmd/berth/tools/progress"
)

// Source is where images are copied from: a repository of this bucket, of another
// registry, or a directory.
type Source interface {
	// Manifest returns a manifest by its tag or digest. It returns
	// blobstore.ErrManifestUnknown if there is none.
	Manifest(ctx context.Context, ref string) (blobstore.Manifest, error)

	// Open returns the bytes of a blob from off. It returns blobstore.ErrBlobUnknown if
	// there is no such blob.
	Open(ctx context.Context, desc blobstore.Descriptor, off int64) (io.ReadCloser, error)

	// Mount makes the blob one of the repository to, and copies no byte. It returns
	// blobstore.ErrBlobUnknown if that is not possible.
	Mount(ctx context.Context, to *blobstore.Repository, d digest.Digest) error

	// Referrers returns the digests of the manifests with this subject.
	Referrers(ctx context.Context, subject blobstore.Descriptor) iter.Seq2[digest.Digest, error]
}

// Copier copies images. It is for one goroutine.
type Copier struct {
	From      Source
	To        *blobstore.Repository
	Referrers bool // also copy the manifests that refer to those that are copied
	Parallel  int  // number of blobs to copy at a time
	Progress  *progress.Reporter

	mu     sync.Mutex
	result Result
	seen   map[digest.Digest]bool // manifests
}

// Result is what a Copier has done.
type Result struct {
	Manifests int64 `json:"manifests"` // including those that were there
	Copied    int64 `json:"copied"`    // blobs
	Bytes     int64 `json:"bytes"`     // of the copied blobs
	Mounted   int64 `json:"mounted"`   // blobs that are in the bucket already
	Present   int64 `json:"present"`   // blobs that are in the repository already
	Foreign   int64 `json:"foreign"`   // layers that clients fetch from elsewhere
}

// Result returns what was done so far.
func (c *Copier) Result() Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.result
}

func (c *Copier) count(add func(*Result)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	add(&c.result)
}

// MaxManifests is the largest number of manifests that one Copier copies. Indexes and
// referrers of a hostile source could have no end.
const MaxManifests = 100_000

// maxDepth is the largest depth of indexes in indexes, and of referrers of referrers.
const maxDepth = 100

// Copy copies the manifest that ref names, with everything below it, and then moves the
// tags to it. It returns the manifest. What is there already is not copied, so that
// another call continues a copy that was interrupted.
func (c *Copier) Copy(ctx context.Context, ref string, tags []string) (blobstore.Manifest, error) {
	m, err := c.From.Manifest(ctx, ref)
	if err != nil {
		return blobstore.Manifest{}, err
	}
	if c.seen == nil {
		c.seen = map[digest.Digest]bool{}
	}
	return m, c.manifest(ctx, m, tags, 0)
}

// manifest copies a manifest and everything below it.
func (c *Copier) manifest(ctx context.Context, m blobstore.Manifest, tags []string, depth int) error {
	if c.seen[m.Digest] && len(tags) == 0 {
		return nil
	}
	if len(c.seen) == MaxManifests || depth > maxDepth {
		return fmt.Errorf("%s: the image has more than %d manifests, or more than %d levels", m.Digest, MaxManifests, maxDepth)
	}
	c.seen[m.Digest] = true
	parsed, err := manifest.Parse(m.MediaType, m.Content)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Digest, err)
	}
	for _, ref := range parsed.References {
		if ref.Role == manifest.Child {
			if err := c.below(ctx, ref.Digest, depth); err != nil {
				return err
			}
		}
	}
	if err := c.put(ctx, m, parsed, tags); err != nil {
		return fmt.Errorf("%s: %w", m.Digest, err)
	}
	c.count(func(r *Result) { r.Manifests++ })
	return c.referrers(ctx, m, depth)
}

// put copies the blobs of a manifest, unless the repository has the manifest, and then the
// manifest.
func (c *Copier) put(ctx context.Context, m blobstore.Manifest, parsed manifest.Manifest, tags []string) error {
	put := blobstore.ManifestPut{MediaType: m.MediaType, Content: m.Content, Digest: m.Digest, Tags: tags}
	// A manifest that is there has its blobs. Put finds out if they are about to be
	// removed, or if the manifest is.
	there, err := c.To.Manifests().Exists(ctx, m.Digest)
	if err == nil && there {
		_, err = c.To.Manifests().Put(ctx, put)
	}
	if _, incomplete := errors.AsType[blobstore.ErrManifestBlobUnknown](err); incomplete || err == nil && !there {
		if err = c.blobs(ctx, m, parsed); err == nil {
			_, err = c.To.Manifests().Put(ctx, put)
		}
	}
	return err
}

// below copies a manifest that another one names.
func (c *Copier) below(ctx context.Context, d digest.Digest, depth int) error {
	if c.seen[d] {
		return nil
	}
	m, err := c.From.Manifest(ctx, d.String())
	if err != nil {
		return err
	}
	return c.manifest(ctx, m, nil, depth+1)
}

func (c *Copier) referrers(ctx context.Context, m blobstore.Manifest, depth int) error {
	if !c.Referrers {
		return nil
	}
	for d, err := range c.From.Referrers(ctx, m.Descriptor) {
		if err != nil {
			return fmt.Errorf("list the referrers of %s: %w", m.Digest, err)
		}
		if err := c.below(ctx, d, depth); err != nil {
			return err
		}
	}
	return nil
}

// blobs copies the blobs that a manifest names.
func (c *Copier) blobs(ctx context.Context, m blobstore.Manifest, parsed manifest.Manifest) error {
	sizes, err := descriptors(m.Content)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Digest, err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(c.Parallel, 1))
	for _, ref := range parsed.References {
		switch ref.Role {
		case manifest.Foreign:
			c.count(func(r *Result) { r.Foreign++ })
		case manifest.Blob:
			group.Go(func() error {
				if err := c.blob(ctx, sizes[ref.Digest]); err != nil {
					return fmt.Errorf("blob %s: %w", ref.Digest, err)
				}
				return nil
			})
		}
	}
	return group.Wait()
}

// descriptors returns the descriptors in a manifest by their digests.
func descriptors(content []byte) (map[digest.Digest]blobstore.Descriptor, error) {
	var doc struct {
		Config                   *blobstore.Descriptor
		Layers, Blobs, Manifests []blobstore.Descriptor
	}
	if err := json.Unmarshal(content, &doc); err != nil {
		return nil, err
	}
	all := map[digest.Digest]blobstore.Descriptor{}
	if doc.Config != nil {
		all[doc.Config.Digest] = *doc.Config
	}
	for _, desc := range slices.Concat(doc.Layers, doc.Blobs, doc.Manifests) {
		all[desc.Digest] = desc
	}
	return all, nil
}

// blob copies a blob, unless it is there.
func (c *Copier) blob(ctx context.Context, desc blobstore.Descriptor) error {
	_, err := c.To.Stat(ctx, desc.Digest)
	if err == nil {
		c.count(func(r *Result) { r.Present++ })
		return nil
	}
	if !errors.Is(err, blobstore.ErrBlobUnknown) {
		return err
	}
	switch err = c.From.Mount(ctx, c.To, desc.Digest); {
	case err == nil:
		c.count(func(r *Result) { r.Mounted++ })
		c.Progress.Print("mounted " + string(desc.Digest))
		return nil
	case !errors.Is(err, blobstore.ErrBlobUnknown):
		return err
	}
	if err := c.bytes(ctx, desc); err != nil {
		return err
	}
	c.count(func(r *Result) { r.Copied++; r.Bytes += desc.Size })
	return nil
}

// bytes copies the bytes of a blob.
func (c *Copier) bytes(ctx context.Context, desc blobstore.Descriptor) (err error) {
	work := c.Progress.Bytes(string(desc.Digest[:min(len(desc.Digest), 19)]), desc.Size)
	ended := ""
	defer func() { work.End(ended) }()
	w, err := c.To.Create(ctx, withAlgorithm(desc.Digest.Algorithm()))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Cancel(context.WithoutCancel(ctx)))
		}
	}()
	body := &steadyReader{ctx: ctx, from: c.From, desc: desc}
	defer body.Close()
	if _, err := w.ReadFrom(work.Reader(body)); err != nil {
		return err
	}
	if w.Size() != desc.Size {
		return fmt.Errorf("the source has %d bytes, but the manifest names %d", w.Size(), desc.Size)
	}
	if _, err := w.Commit(ctx, blobstore.Descriptor{Digest: desc.Digest}); err != nil {
		return err
	}
	ended = fmt.Sprintf("copied %s  %s", desc.Digest, units.BytesSize(float64(desc.Size)))
	return nil
}
