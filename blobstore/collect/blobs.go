package collect

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
)

// collectBlobs walks over all blobs once: over the links of a digest, and then its record.
// The names of the manifests are in the same order, so the walk needs no table of them.
func (r *run) collectBlobs(ctx context.Context) error {
	shards := r.shards(catalog.BlobsPrefix, catalog.BlobsPrefix+"sha256/")
	err := r.walkShards(ctx, "blobs", shards, r.collectShard)
	for _, repo := range r.repos {
		r.report.close(repo.name, repo.lost)
	}
	return err
}

func (r *run) collectShard(ctx context.Context, s span) error {
	w := &blobWalk{run: r, names: r.names.cursor(firstByte(s))}
	if err := r.walk(ctx, s, w.object); err != nil {
		return err
	}
	w.next(ctx, "")
	return r.failures.tooMany()
}

// firstByte returns the least first byte of a digest in a shard.
func firstByte(s span) byte {
	if s.from == "" {
		return 0
	}
	n, _ := newName(digest.NewDigestFromEncoded(digest.Canonical, s.from[len(s.from)-2:]), 0)
	return n[0]
}

// blobWalk is the walk over one shard.
type blobWalk struct {
	*run
	names *cursor

	// Of the digest that the walk has reached.
	digest  digest.Digest
	links   int         // that the listing shows
	orphans bool        // one of them is old
	record  bool        // it has a record
	goes    *repository // the first that loses its link
	stays   bool        // a link stays
	size    int64       // of the blob, as the link of goes has it
}

// next ends the present digest, and starts another one.
func (w *blobWalk) next(ctx context.Context, d digest.Digest) {
	if w.digest == d {
		return
	}
	if w.links > 0 && !w.record && w.orphans {
		w.collectOrphans(ctx, w.digest)
	}
	if w.goes != nil && !w.stays {
		w.goes.mu.Lock()
		w.goes.lost.Frees += w.size
		w.goes.mu.Unlock()
	}
	*w = blobWalk{run: w.run, names: w.names, digest: d}
}

func (w *blobWalk) object(ctx context.Context, o listed) error {
	if d, repository, ok := catalog.ParseLinkKey(o.Key); ok {
		w.next(ctx, d)
		w.links++
		w.orphans = w.orphans || w.old(o.Object)
		return w.link(ctx, o, d, repository)
	}
	d, ok := catalog.ParseRecordKey(o.Key)
	if !ok {
		w.failures.add(o.Key, errors.New("it is neither a record nor a link"))
		return nil
	}
	w.next(ctx, d)
	w.record = true
	if w.links == 0 && w.old(o.Object) {
		w.collectRecord(ctx, o, d)
	}
	return ctx.Err()
}
