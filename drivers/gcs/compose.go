package gcs

import (
	"context"
	"encoding/base64"
	"encoding/binary"
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
	// errOvertaken reports that another replica is completing the same upload
	// and is further: the walk starts again at the root.
	errOvertaken = errors.New("overtaken")

	// errMissing reports that neither a part nor any node made of it exists.
	errMissing = errors.New("missing")
)

func errTag(p drivers.Part) error {
	return fmt.Errorf("part %d has a tag that is none: %w", p.Number, drivers.ErrChanged)
}

// Complete composes the parts, with ⌈(n-1)/31⌉ requests for n parts. If the
// object exists already, Complete returns it without regard to the parts. It
// returns ErrChanged if a part is missing or has another tag, ErrNotFound if
// the upload is gone.
func (b *bucket) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc32c uint32) (drivers.Object, error) {
	o, err := b.complete(ctx, u, parts, crc32c)
	if err != nil {
		return drivers.Object{}, fmt.Errorf("gcs: complete %s: %w", u.Key, err)
	}
	return o, nil
}

// complete creates the nodes from the leaves up, independent ones in parallel.
// It does not check first which nodes exist, because as a rule there are none.
// If a compose fails because a source is gone or the node exists, another
// replica has worked on the same upload, and may still be working.
//
// No coordination between them is needed. The sources of a node are deleted
// only by the request that creates the node. So if a source is gone, then the
// node existed at that moment, and now either the node or one above it exists.
// complete looks for the nodes from this one upwards. If there is none, a part
// is missing for good. The nodes are the same for all replicas, since only one
// content completes an upload; size and CRC-32C are compared only as a guard
// against accidents.
func (b *bucket) complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc32c uint32) (drivers.Object, error) {
	if err := checkUpload(u); err != nil {
		return drivers.Object{}, err
	}
	if err := checkParts(parts); err != nil {
		return drivers.Object{}, err
	}
	root, err := plan(u, parts)
	if err == nil && root.crc32c != crc32c {
		err = fmt.Errorf("the parts have CRC-32C %08x, want %08x", root.crc32c, crc32c)
	}
	if err == nil {
		var done *raw.Object
		if done, err = b.ensureRoot(ctx, root); err == nil {
			b.dropSources(ctx, u)
			return rawObject(u.Key, done)
		}
	}
	// An existing object is the answer, even if the parts are wrong.
	switch o, there := b.stat(ctx, u.Key); {
	case there == nil:
		return o, nil
	case !errors.Is(there, drivers.ErrNotFound):
		return drivers.Object{}, there
	case errors.Is(err, errMissing):
		return drivers.Object{}, b.missing(ctx, u, err)
	default:
		return drivers.Object{}, err
	}
}

// dropSources deletes the parts of a completed upload if the store does not
// delete the sources of a compose. If that fails, they are left to the
// collector.
func (b *bucket) dropSources(ctx context.Context, u drivers.Upload) {
	if !b.keepsSources {
		return
	}
	if err := b.abort(ctx, u); err != nil {
		b.cfg.Log.Warn("the parts of a completed upload are left to the collector", slog.String("key", u.Key), slog.Any("error", err))
	}
}

func checkParts(parts []drivers.Part) error {
	if len(parts) == 0 || len(parts) > maxParts {
		return fmt.Errorf("%d parts, want 1 to %d", len(parts), maxParts)
	}
	for i, p := range parts[1:] {
		if p.Number <= parts[i].Number {
			return fmt.Errorf("part %d comes after part %d", p.Number, parts[i].Number)
		}
	}
	return nil
}

// missing returns ErrNotFound if the upload is gone, and ErrChanged if it only
// lacks a part.
func (b *bucket) missing(ctx context.Context, u drivers.Upload, err error) error {
	for _, listErr := range b.list(ctx, uploadKey(u), "", "") {
		if listErr != nil {
			return listErr
		}
		return fmt.Errorf("%w: %w", drivers.ErrChanged, err)
	}
	return fmt.Errorf("%w: nothing is left of the upload", drivers.ErrNotFound)
}

// ensureRoot returns the object of the root, and creates it if necessary.
func (b *bucket) ensureRoot(ctx context.Context, root *node) (*raw.Object, error) {
	c := newCompletion(b)
	for range 1 + root.composes() { // overtaken at most once for each node
		o, err := c.ensure(ctx, root)
		if !errors.Is(err, errOvertaken) {
			return o, err
		}
		c.look = true
	}
	return nil, fmt.Errorf("others that complete it are always ahead: %w", drivers.ErrBusy)
}

// completion is a sequence of walks through the tree.
type completion struct {
	*bucket
	slots chan struct{} // one for each request
	look  bool          // whether to look for a node before creating it
}

func newCompletion(b *bucket) *completion {
	return &completion{bucket: b, slots: make(chan struct{}, parallel)}
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
	case n.parent != nil && (int64(o.Size) != n.size || o.Crc32c != encodeCRC(n.crc32c)):
		return nil, fmt.Errorf("%s has %d bytes with CRC-32C %s, not those of the parts: %w", n.key, o.Size, o.Crc32c, drivers.ErrChanged)
	}
	return o, nil
}

// compose creates the node if it does not exist. It uses the API's own client,
// since the SDK's Composer sends no KMS key.
func (c *completion) compose(ctx context.Context, n *node, sources []*raw.ComposeRequestSourceObjects) (*raw.Object, error) {
	call := c.raw.Objects.Compose(c.cfg.Bucket, c.name(n.key), &raw.ComposeRequest{
		SourceObjects: sources,
		// It also waives the fee for early deletion of the sources:
		// https://cloud.google.com/storage/docs/composite-objects.
		DeleteSourceObjects: true,
		Destination: &raw.Object{
			ContentType:  "application/octet-stream",
			Crc32c:       encodeCRC(n.crc32c),
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

// request waits for a slot and calls f, which again may call more than once.
func (c *completion) request(ctx context.Context, f func() error) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
		return again(ctx, f)
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

// encodeCRC returns a CRC-32C in the form of the JSON API.
func encodeCRC(crc uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
}

func rawObject(key string, o *raw.Object) (drivers.Object, error) {
	updated, err := time.Parse(time.RFC3339Nano, o.Updated)
	if err != nil {
		return drivers.Object{}, fmt.Errorf("the time of %s: %w", o.Name, err)
	}
	return object(key, &storage.ObjectAttrs{Size: int64(o.Size), Generation: o.Generation, Updated: updated}), nil
}
