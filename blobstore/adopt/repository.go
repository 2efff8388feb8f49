package adopt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/pace"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// adoption takes over one repository.
type adoption struct {
	*run

	repository string
	state      catalog.StoredAdoption
	unreadable atomic.Int64
}

// start records that the repository is not taken over yet.
func (a *adoption) start(ctx context.Context) error {
	return pace.Retry(ctx, func() (err error) {
		if !a.cfg.DryRun {
			a.state, err = a.catalog.StartAdoption(ctx, a.repository)
			return err
		}
		a.state, err = a.catalog.ReadAdoption(ctx, a.repository)
		if errors.Is(err, drivers.ErrNotFound) {
			err = nil
		}
		return err
	})
}

// finish writes the marker, and records that the repository was taken over.
func (a *adoption) finish(ctx context.Context) error {
	if a.cfg.DryRun {
		return nil
	}
	return pace.Retry(ctx, func() error {
		if err := a.catalog.EnsureMarker(ctx, a.deadline(), a.repository); err != nil {
			return err
		}
		return a.catalog.FinishAdoption(ctx, a.state, int(a.unreadable.Load()))
	})
}

func (a *adoption) deadline() deadline.Deadline { return deadline.New(a.cfg.RequestLimit) }

// isNew reports whether no finished run can have taken this link.
func (a *adoption) isNew(modified time.Time) bool { return !modified.Before(a.state.Value.Since) }

func (a *adoption) skipItem(kind, name, reason string) {
	a.skipped(Skip{a.repository, kind, name, reason})
}

// link is a link of the old registry.
type link struct {
	digest   digest.Digest // in its key, of a link to a blob or a manifest
	tag      string        // in its key, of a tag
	key      string
	size     int64
	modified time.Time
}

// layers is step 1.
func (a *adoption) layers(ctx context.Context) error {
	prefix := catalog.DistributionLayers(a.repository)
	return each(ctx, a.run, prefix, func(o drivers.Object) (link, bool) {
		d, ok := catalog.ParseDistributionLink(o.Key, prefix)
		return link{digest: d, key: o.Key, size: o.Size, modified: o.Modified}, a.isOf(ok, o)
	}, a.layer)
}

// isOf reports whether an object is a link that this run takes.
func (a *adoption) isOf(isLink bool, o drivers.Object) bool {
	if isLink && !a.isNew(o.Modified) {
		a.add(func(rep *Report) { rep.Older++ })
		return false
	}
	return isLink
}

// layer lets the repository read one blob.
func (a *adoption) layer(ctx context.Context, l link) error {
	target, reason, err := a.target(ctx, l)
	switch {
	case err != nil:
		return err
	case reason == "" && l.digest.Algorithm() != digest.SHA256:
		reason = "berth finds blobs by sha256, and the bytes were not hashed by " + l.digest.Algorithm().String() + " here: push the blob again by this digest"
	case reason == "" && target != l.digest:
		reason = "the link names " + target.String()
	}
	if reason != "" {
		a.skipItem("blob", l.digest.String(), reason)
		return nil
	}
	if known, ok := a.known.Get(l.digest); ok && !known.due.IsNear() {
		return a.writeLink(ctx, known)
	}
	known, reason, err := a.record(ctx, l.digest)
	if err != nil {
		return err
	}
	if reason != "" {
		a.skipItem("blob", l.digest.String(), reason)
		return nil
	}
	if len(known.rec.Raw) == 0 { // so that the known records take little memory
		a.known.Add(l.digest, known)
	}
	return a.writeLink(ctx, known)
}

// maxLink is more than the length of any digest.
const maxLink = 1 << 10

// target returns the digest that a link names. It returns a reason if it names none.
func (a *adoption) target(ctx context.Context, l link) (d digest.Digest, reason string, err error) {
	content, reason, err := a.read(ctx, l.key, maxLink)
	if err != nil || reason != "" {
		return "", reason, err
	}
	d = digest.Digest(bytes.TrimSpace(content))
	if d.Validate() == nil {
		return d, "", nil
	}
	return "", "the link is broken: it holds no digest", nil
}

// read returns the bytes of a small object. It returns a reason if the object is missing,
// empty or longer than limit.
func (a *adoption) read(ctx context.Context, key string, limit int64) (content []byte, reason string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*envelope.SmallCallTimeout)
	defer cancel()
	r, o, err := a.bucket.Open(ctx, key, 0, -1)
	switch {
	case errors.Is(err, drivers.ErrNotFound):
		return nil, "its bytes are missing, or empty", nil
	case err != nil:
		return nil, "", err
	}
	defer r.Close()
	if o.Size > limit {
		return nil, "it is longer than " + sizeOf(limit), nil
	}
	content, err = io.ReadAll(r)
	return content, "", err
}

// record makes sure of the record of a blob. It returns a reason if the blob cannot be
// taken over.
func (a *adoption) record(ctx context.Context, d digest.Digest) (known knownRecord, reason string, err error) {
	known.due = a.deadline()
	size, reason, err := a.dataSize(ctx, d)
	if err != nil || reason != "" {
		return known, reason, err
	}
	if a.cfg.DryRun {
		return a.foresee(ctx, d, size)
	}
	rec, created, err := a.catalog.EnsureAdopted(ctx, known.due, d, size, catalog.DistributionDataKey(d))
	switch {
	case errors.Is(err, catalog.ErrDamaged):
		return known, "the blob is marked as damaged: push it again", nil
	case errors.Is(err, drivers.ErrNotFound):
		return known, "its data is missing: push the blob again", nil
	case err != nil:
		return known, "", err
	}
	if created {
		a.add(func(rep *Report) { rep.Blobs++; rep.BlobBytes += size })
	}
	known.rec = rec
	return known, "", nil
}

// foresee is record for a dry run.
func (a *adoption) foresee(ctx context.Context, d digest.Digest, size int64) (known knownRecord, reason string, err error) {
	known.due = a.deadline()
	rec, err := a.catalog.ReadRecord(ctx, d)
	switch {
	case errors.Is(err, drivers.ErrNotFound):
		a.add(func(rep *Report) { rep.Blobs++; rep.BlobBytes += size })
		return known, "", nil
	case err == nil && rec.Value.State == catalog.Damaged:
		return known, "the blob is marked as damaged: push it again", nil
	}
	return known, "", err
}

// dataSize returns the size of the bytes of a blob of the old registry.
func (a *adoption) dataSize(ctx context.Context, d digest.Digest) (size int64, reason string, err error) {
	ctx, cancel := context.WithTimeout(ctx, envelope.SmallCallTimeout)
	defer cancel()
	isEmpty := d == digest.FromBytes(nil)
	o, err := a.bucket.Stat(ctx, catalog.DistributionDataKey(d))
	switch {
	case errors.Is(err, drivers.ErrNotFound) && isEmpty: // some drivers hide empty objects
		return 0, "", nil
	case errors.Is(err, drivers.ErrNotFound):
		return 0, "its bytes are missing, or empty", nil
	case err != nil:
		return 0, "", err
	case (o.Size == 0) != isEmpty:
		return 0, "its bytes do not have its digest", nil
	}
	return o.Size, "", nil
}

// writeLink lets the repository read the blob of a record.
func (a *adoption) writeLink(ctx context.Context, known knownRecord) error {
	if !a.cfg.DryRun {
		if _, err := a.catalog.WriteLink(ctx, known.due, a.repository, known.rec); err != nil {
			return err
		}
	}
	a.add(func(rep *Report) { rep.Links++ })
	return nil
}
