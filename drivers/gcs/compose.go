package gcs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"cloud.google.com/go/storage"
	"golang.org/x/sync/errgroup"
	raw "google.golang.org/api/storage/v1"

	"github.com/berthhq/berth/drivers"
)

var (
	// errOvertaken reports that another replica is ahead in completing the same
	// upload. The walk starts again at the root.
	errOvertaken = errors.New("overtaken")

	// errMissing reports that neither a part nor any node made of it exists.
	errMissing = errors.New("missing")
)

// errTag returns the error for a tag that this driver cannot have returned.
func errTag(p drivers.Part) error {
	return fmt.Errorf("part %d has the tag %q, which no PutPart returned: %w", p.Number, p.Tag, drivers.ErrChanged)
}

// Complete composes the parts, with ⌈(n-1)/31⌉ requests for n parts. If the
// object exists already, Complete returns it without regard to the parts. It
// returns ErrChanged if a part is missing or has another tag, and ErrNotFound if
// the upload is gone.
//
// Complete creates the nodes from the leaves up, independent ones in parallel.
// It does not check first which nodes exist, because as a rule there are none.
// If a compose fails because a source is gone or the node exists, another
// replica has worked on the same upload, and may still be working.
//
// No coordination between them is needed. The sources of a node are deleted
// only by the request that creates the node. So if a source is gone, then the
// node existed at that moment, and now either the node or one above it exists.
// Complete looks for the nodes from this one upwards. If there is none, a part
// is missing and will not come back. The nodes are the same for all replicas, since only one
// content completes an upload; size and CRC-32C are compared only as a guard
// against accidents.
func (s *uploadStore) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc32c uint32) (_ drivers.Object, err error) {
	defer func() { err = failed("complete", u.Key, err) }()
	if err := checkUpload(u); err != nil {
		return drivers.Object{}, err
	}
	if _, err := drivers.CheckParts(parts, crc32c, limits()); err != nil {
		return drivers.Object{}, err
	}
	root, err := plan(u, parts)
	if err == nil {
		var done *raw.Object
		if done, err = s.ensureRoot(ctx, root); err == nil {
			s.dropSources(ctx, u)
			return rawObject(u.Key, done)
		}
	}
	// If the object exists, it is the result, even if a tag is wrong.
	existing, statErr := s.stat(ctx, u.Key)
	switch {
	case statErr == nil:
		return existing, nil
	case !errors.Is(statErr, drivers.ErrNotFound):
		return drivers.Object{}, statErr
	case errors.Is(err, errMissing):
		return drivers.Object{}, s.missing(ctx, u, err)
	default:
		return drivers.Object{}, err
	}
}

// dropSources deletes the parts of a completed upload if the store does not
// delete the sources of a compose. If that fails, they are left to the
// collector.
func (s *uploadStore) dropSources(ctx context.Context, u drivers.Upload) {
	if !s.keepsSources {
		return
	}
	if err := s.abort(ctx, u); err != nil {
		s.cfg.Log.Warn("the parts of a completed upload are left to the collector", slog.String("key", u.Key), slog.Any("error", err))
	}
}

// missing returns ErrNotFound if the upload is gone, and ErrChanged if it only
// lacks a part.
func (s *uploadStore) missing(ctx context.Context, u drivers.Upload, err error) error {
	for _, listErr := range s.list(ctx, uploadKey(u), "", "", 0) {
		if listErr != nil {
			return listErr
		}
		return fmt.Errorf("%w: %w", drivers.ErrChanged, err)
	}
	return fmt.Errorf("%w: nothing is left of the upload", drivers.ErrNotFound)
}

// ensureRoot returns the object of the root, and creates it if necessary.
func (s *uploadStore) ensureRoot(ctx context.Context, root *node) (*raw.Object, error) {
	c := newCompletion(s.store)
	for range 1 + root.composes() { // overtaken at most once for each node
		o, err := c.ensure(ctx, root)
		if !errors.Is(err, errOvertaken) {
			return o, err
		}
		c.look = true
	}
	return nil, fmt.Errorf("other replicas that complete the upload are always ahead: %w", drivers.ErrBusy)
}

// completion is a sequence of walks through the tree.
type completion struct {
	*store
	slots chan struct{} // one for each request
	look  bool          // whether to look for a node before creating it
}

func newCompletion(s *store) *completion {
	return &completion{store: s, slots: make(chan struct{}, parallel)}
}

// ensure returns the node's object, and creates it if necessary. It returns
// errOvertaken or errMissing if a source of the node is gone.
func (c *completion) ensure(ctx context.Context, n *node) (*raw.Object, error) {
	if c.look {
		if o, err := c.find(ctx, n); err != nil || o != nil {
			return o, err
		}
	}
	sources := make([]*raw.ComposeRequestSourceObjects, len(n.sources))
	g, below := errgroup.WithContext(ctx)
	for i, s := range n.sources {
		if s.sources == nil {
			sources[i] = c.source(s, s.generation)
			continue
		}
		g.Go(func() error {
			o, err := c.ensure(below, s)
			if err == nil {
				sources[i] = c.source(s, o.Generation)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	o, err := c.compose(ctx, n, sources)
	switch status(err) {
	case http.StatusNotFound, http.StatusPreconditionFailed:
		return c.climb(ctx, n, err)
	}
	return o, c.cfg.classify(ctx, err, nil)
}

// climb looks for the node, and then for the nodes above it, after a compose of
// it was refused. It returns errOvertaken if only a node above exists, and
// errMissing if none does.
func (c *completion) climb(ctx context.Context, from *node, refused error) (*raw.Object, error) {
	for n := from; n != nil; n = n.parent {
		o, err := c.find(ctx, n)
		switch {
		case err != nil:
			return nil, err
		case o != nil && n == from:
			return o, nil
		case o != nil:
			return nil, errOvertaken
		}
	}
	return nil, fmt.Errorf("a part of %s is %w: %w", from.key, errMissing, refused)
}

// source returns a node as a source of a compose.
func (c *completion) source(n *node, generation int64) *raw.ComposeRequestSourceObjects {
	return &raw.ComposeRequestSourceObjects{
		Name:                c.name(n.key),
		ObjectPreconditions: &raw.ComposeRequestSourceObjectsObjectPreconditions{IfGenerationMatch: generation},
	}
}

// find returns the node's object, or nil if there is none.
func (c *completion) find(ctx context.Context, n *node) (*raw.Object, error) {
	var o *raw.Object
	err := c.request(ctx, func() (err error) {
		o, err = c.raw.Objects.Get(c.cfg.Bucket, c.name(n.key)).Context(ctx).Do()
		return err
	})
	switch {
	case status(err) == http.StatusNotFound:
		return nil, nil
	case err != nil:
		return nil, c.cfg.classify(ctx, err, nil)
	case n.parent != nil && (int64(o.Size) != n.size || o.Crc32c != drivers.EncodeCRC32C(n.crc32c)):
		return nil, fmt.Errorf("%s has %d bytes with CRC-32C %s, not those of the parts: %w", n.key, o.Size, o.Crc32c, drivers.ErrChanged)
	}
	return o, nil
}

// compose creates the node if it does not exist. It uses the API's own client,
// since the SDK's Composer sends no KMS key.
func (c *completion) compose(ctx context.Context, n *node, sources []*raw.ComposeRequestSourceObjects) (*raw.Object, error) {
	call := c.raw.Objects.Compose(c.cfg.Bucket, c.name(n.key), &raw.ComposeRequest{
		SourceObjects: sources,
		// This also waives the fee for early deletion of the sources:
		// https://cloud.google.com/storage/docs/composite-objects.
		DeleteSourceObjects: true,
		Destination: &raw.Object{
			ContentType:  "application/octet-stream",
			Crc32c:       drivers.EncodeCRC32C(n.crc32c),
			StorageClass: c.class(rootOf(n).key),
		},
	}).IfGenerationMatch(0).Context(ctx)
	if c.cfg.KMSKey != "" {
		call = call.KmsKeyName(c.cfg.KMSKey)
	}
	var o *raw.Object
	err := c.request(ctx, func() (err error) {
		o, err = call.Do()
		return err
	})
	return o, err
}

// request waits for a slot and calls f, more than once if retry does.
func (c *completion) request(ctx context.Context, f func() error) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
		return retry(ctx, f)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func rootOf(n *node) *node {
	for n.parent != nil {
		n = n.parent
	}
	return n
}

// rawObject returns the object that an answer of the API's own client describes.
func rawObject(key string, o *raw.Object) (drivers.Object, error) {
	updated, err := time.Parse(time.RFC3339Nano, o.Updated)
	if err != nil {
		return drivers.Object{}, fmt.Errorf("the time of %s: %w", o.Name, err)
	}
	return object(key, &storage.ObjectAttrs{Size: int64(o.Size), Generation: o.Generation, Updated: updated}), nil
}
