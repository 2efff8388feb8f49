package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// ReadManifest returns a manifest, in any state. Its Raw is nil if the manifest has
// more than envelope.MaxRaw bytes. It returns drivers.ErrNotFound if there is none.
func (c *Repositories) ReadManifest(ctx context.Context, repository string, d digest.Digest) (StoredManifest, error) {
	return envelope.Read[Manifest](ctx, c.bucket, ManifestKey(repository, d))
}

// OpenManifest is ReadManifest for a caller that streams the bytes of the manifest.
// The caller closes the reader of the RawSize bytes, and limits the time by ctx.
func (c *Repositories) OpenManifest(ctx context.Context, repository string, d digest.Digest) (StoredManifest, io.ReadCloser, error) {
	return envelope.Open[Manifest](ctx, c.bucket, ManifestKey(repository, d))
}

// readTimeout is how long the reading of all bytes of a manifest may take. The first
// line may take half of it.
const readTimeout = 2 * envelope.SmallCallTimeout

// CompareManifest reads a manifest, in any state, and reports whether its bytes equal
// content. It holds only a part of them in memory, and the result has no Raw. It
// returns drivers.ErrNotFound if there is none.
func (c *Repositories) CompareManifest(ctx context.Context, repository string, d digest.Digest, content []byte) (m StoredManifest, equal bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	m, r, err := c.OpenManifest(ctx, repository, d)
	if err != nil {
		return StoredManifest{}, false, err
	}
	defer r.Close()
	if m.RawSize != int64(len(content)) {
		return m, false, nil
	}
	buf := make([]byte, min(len(content), 32<<10))
	for len(content) > 0 {
		n, err := io.ReadFull(r, buf[:min(len(content), len(buf))])
		if err != nil {
			return StoredManifest{}, false, fmt.Errorf("catalog: read %s: %w", m.Object.Key, err)
		}
		if !bytes.Equal(buf[:n], content[:n]) {
			return m, false, nil
		}
		content = content[n:]
	}
	return m, true, nil
}

// CreateManifest creates a manifest. It returns drivers.ErrExists if another writer's
// manifest is there, in any state, and drivers.ErrBusy if the deadline has passed.
// After any other error the manifest may have been created.
func (c *Repositories) CreateManifest(ctx context.Context, due deadline.Deadline, repository string, m Manifest, content []byte) (StoredManifest, error) {
	draft, err := envelope.NewDraft(m, drivers.NewBody(content))
	if err == nil {
		err = due.Check()
	}
	if err != nil {
		return StoredManifest{}, err
	}
	// The caller reads an existing manifest itself, because it may be a long one.
	created, err := draft.Create(ctx, c.bucket, ManifestKey(repository, m.Digest))
	if err != nil {
		return StoredManifest{}, err
	}
	created.Raw = content
	return created, nil
}

// ReplaceManifest replaces the version of a manifest that the caller has read. It
// returns drivers.ErrChanged if the manifest has changed since, and drivers.ErrBusy if
// the deadline has passed. Both errors of a conflict wrap drivers.ErrUnanswered too, if
// this write may have taken effect. After any other error the manifest may have been
// replaced.
func (c *Repositories) ReplaceManifest(ctx context.Context, due deadline.Deadline, existing StoredManifest, next Manifest, content []byte) (StoredManifest, error) {
	return replace(ctx, c.bucket, due, existing, next, content)
}

// UnmarkManifest takes the collector's mark off a manifest that the caller has read,
// so that the manifest is not removed. It returns the manifest as it is then, which has
// another state than Condemned. A manifest that is not condemned costs no request.
//
// It returns drivers.ErrNotFound if the manifest is gone, and drivers.ErrBusy if the
// deadline has passed before a write. It holds all bytes of the manifest in memory. A
// retry is harmless.
func (c *Repositories) UnmarkManifest(ctx context.Context, due deadline.Deadline, m StoredManifest) (StoredManifest, error) {
	for m.Value.State == Condemned {
		var err error
		if int64(len(m.Raw)) != m.RawSize {
			if m, err = c.load(ctx, m.Object.Key); err != nil || m.Value.State != Condemned {
				return m, err
			}
		}
		next := m.Value
		next.State = Live
		unmarked, err := replace(ctx, c.bucket, due, m, next, m.Raw)
		if !errors.Is(err, drivers.ErrChanged) {
			return unmarked, err
		}
		if m, err = envelope.Read[Manifest](ctx, c.bucket, m.Object.Key); err != nil {
			return StoredManifest{}, err
		}
	}
	return m, nil
}

// LoadManifest is ReadManifest for a manifest of any length. It holds all its bytes in
// memory.
func (c *Repositories) LoadManifest(ctx context.Context, repository string, d digest.Digest) (StoredManifest, error) {
	return c.load(ctx, ManifestKey(repository, d))
}

func (c *Repositories) load(ctx context.Context, key string) (StoredManifest, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	m, r, err := envelope.Open[Manifest](ctx, c.bucket, key)
	if err != nil {
		return StoredManifest{}, err
	}
	defer r.Close()
	m.Raw = make([]byte, m.RawSize)
	if _, err := io.ReadFull(r, m.Raw); err != nil {
		return StoredManifest{}, fmt.Errorf("catalog: read %s: %w", key, err)
	}
	return m, nil
}

// replace replaces the version of an object that the caller has read, unless the
// deadline has passed.
func replace[T any](ctx context.Context, b drivers.Bucket, due deadline.Deadline, existing envelope.Stored[T], next T, raw []byte) (envelope.Stored[T], error) {
	if err := due.Check(); err != nil {
		return existing, err
	}
	replaced, err := envelope.Replace(ctx, b, existing.Object.Key, existing.Object.Tag, next, drivers.NewBody(raw))
	replaced.Raw = raw
	return replaced, err
}
