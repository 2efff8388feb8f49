package adopt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
)

// manifests is step 2. If an earlier run has found unreadable manifests, all are read
// again, so that their number is right.
func (a *adoption) manifests(ctx context.Context) error {
	prefix := catalog.DistributionRevisions(a.repository)
	return each(ctx, a.run, prefix, func(o drivers.Object) (link, bool) {
		d, ok := catalog.ParseDistributionLink(o.Key, prefix)
		if ok && a.state.Value.Unreadable == 0 {
			ok = a.isOf(ok, o)
		}
		return link{digest: d, key: o.Key, size: o.Size, modified: o.Modified}, ok
	}, a.manifest)
}

// manifest takes over one manifest.
func (a *adoption) manifest(ctx context.Context, l link) error {
	select {
	case a.loads <- struct{}{}:
		defer func() { <-a.loads }()
	case <-ctx.Done():
		return ctx.Err()
	}
	m, content, reason, err := a.readManifest(ctx, l)
	switch {
	case err != nil:
		return err
	case reason != "":
		a.unreadable.Add(1)
		a.skipItem("manifest", l.digest.String(), reason)
		return nil
	case !a.isNew(l.modified):
		a.add(func(rep *Report) { rep.Older++ })
		return nil
	}
	var kept bool
	if !a.cfg.DryRun {
		due := a.deadline()
		if m.Subject != "" {
			if err := a.catalog.WriteEntry(ctx, due, a.repository, m.Subject, m.Digest); err != nil {
				return err
			}
		}
		if kept, err = a.storeManifest(ctx, due, l, m, content); err != nil {
			return err
		}
	}
	a.add(func(rep *Report) {
		switch {
		case kept:
			rep.Kept++
			return
		case m.Subject != "":
			rep.Referrers++
		}
		rep.Manifests++
	})
	return nil
}

// readManifest reads a manifest of the old registry, and checks its digest. It returns a
// reason if the manifest cannot be taken over.
func (a *adoption) readManifest(ctx context.Context, l link) (m catalog.Manifest, content []byte, reason string, err error) {
	target, reason, err := a.target(ctx, l)
	if err != nil || reason != "" {
		return m, nil, reason, err
	}
	content, reason, err = a.read(ctx, catalog.DistributionDataKey(target), a.cfg.MaxManifest)
	if err != nil || reason != "" {
		return m, nil, reason, err
	}
	if l.digest.Algorithm().FromBytes(content) != l.digest {
		return m, nil, "its bytes do not have its digest", nil
	}
	parsed, err := manifest.Parse(mediaType(content), content)
	if err != nil {
		invalid, ok := errors.AsType[*manifest.InvalidError](err)
		if !ok {
			return m, nil, "", err
		}
		return m, nil, invalid.Reason, nil
	}
	return catalog.Manifest{
		Digest:       l.digest,
		Size:         int64(len(content)),
		MediaType:    parsed.MediaType,
		Subject:      parsed.Subject,
		ArtifactType: parsed.ArtifactType,
		State:        catalog.Live,
	}, content, "", nil
}

// mediaType returns the media type with which the old registry serves a manifest that does
// not state its own. It returns "" if the manifest does.
func mediaType(content []byte) string {
	var doc struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     string          `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
	}
	err := json.Unmarshal(content, &doc)
	switch {
	case err != nil || doc.MediaType != "" || doc.SchemaVersion != 2:
		return ""
	case len(doc.Manifests) > 0 && !bytes.Equal(doc.Manifests, []byte("null")):
		return manifest.MediaTypeIndex
	}
	return manifest.MediaTypeImage
}

// storeManifest makes a manifest live, as a push does. It reports whether the manifest was
// kept as it is, because a client deleted it here after the old registry wrote it.
func (a *adoption) storeManifest(ctx context.Context, due deadline.Deadline, l link, m catalog.Manifest, content []byte) (kept bool, err error) {
	for {
		m.ID = catalog.NewID()
		_, err := a.catalog.CreateManifest(ctx, due, a.repository, m, content)
		if !errors.Is(err, drivers.ErrExists) {
			return false, err
		}
		existing, equal, err := a.catalog.CompareManifest(ctx, a.repository, m.Digest, content)
		if errors.Is(err, drivers.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		next := existing.Value
		switch {
		case existing.Value.State == catalog.Live && equal:
			return false, nil
		case existing.Value.State == catalog.Deleted && !l.modified.After(existing.Object.Modified):
			return true, nil
		case existing.Value.State == catalog.Deleted:
			next = m // with a new ID
		case !existing.Value.Readable():
			return false, fmt.Errorf("%s: unknown state %q", existing.Object.Key, existing.Value.State)
		}
		next.State = catalog.Live
		_, err = a.catalog.ReplaceManifest(ctx, due, existing, next, content)
		if !errors.Is(err, drivers.ErrChanged) {
			return false, err
		}
	}
}

// tags is step 3.
func (a *adoption) tags(ctx context.Context) error {
	return each(ctx, a.run, catalog.DistributionTags(a.repository), func(o drivers.Object) (link, bool) {
		tag, ok := catalog.ParseDistributionTag(o.Key, a.repository)
		return link{tag: tag, key: o.Key, size: o.Size, modified: o.Modified}, a.isOf(ok, o)
	}, a.tag)
}

// tag takes over one tag.
func (a *adoption) tag(ctx context.Context, l link) error {
	if !catalog.IsTag(l.tag) {
		a.skipItem("tag", l.tag, "it is not a valid tag")
		return nil
	}
	target, reason, err := a.target(ctx, l)
	if err == nil && reason == "" && !a.cfg.DryRun {
		due := a.deadline()
		var kept bool
		kept, reason, err = a.moveTag(ctx, due, l, target)
		if kept {
			a.add(func(rep *Report) { rep.Kept++ })
			return nil
		}
	}
	switch {
	case err != nil:
		return err
	case reason != "":
		a.skipItem("tag", l.tag, reason)
	default:
		a.add(func(rep *Report) { rep.Tags++ })
	}
	return nil
}

// moveTag writes one tag. It reads the tag before the manifest, as a push does. It returns
// a reason if there is no such manifest, and reports whether the tag was kept as it is,
// because it was written here after the old registry wrote it.
func (a *adoption) moveTag(ctx context.Context, due deadline.Deadline, l link, target digest.Digest) (kept bool, reason string, err error) {
	for {
		existing, err := a.catalog.ReadTag(ctx, a.repository, l.tag)
		if err != nil && !errors.Is(err, drivers.ErrNotFound) {
			return false, "", err
		}
		if err == nil {
			keep, reason, err := a.keeps(ctx, l, existing, target)
			if err != nil || keep || reason != "" {
				return keep, reason, err
			}
		} else {
			existing = catalog.StoredTag{}
		}
		m, reason, err := a.hint(ctx, due, l.tag, target)
		if err != nil || reason != "" {
			return false, reason, err
		}
		if done, err := a.writeTag(ctx, due, l.tag, existing, m); done || err != nil {
			return false, "", err
		}
	}
}

// writeTag writes a tag by the version that was read. It reports false if another writer
// has changed the tag or the manifest, which must be read again.
func (a *adoption) writeTag(ctx context.Context, due deadline.Deadline, tag string, existing catalog.StoredTag, m catalog.StoredManifest) (done bool, err error) {
	_, err = a.catalog.WriteTag(ctx, due, a.repository, tag, existing, catalog.TagOf(m.Value))
	done = err == nil
	if done && a.cfg.Immutable(a.repository, tag) {
		done, err = a.confirm(ctx, due, m)
	}
	if errors.Is(err, drivers.ErrExists) || errors.Is(err, drivers.ErrChanged) {
		return false, nil
	}
	return done, err
}

// confirm replaces the manifest of an immutable tag that was just written. A deletion of
// the manifest that has not seen the tag then fails, and reads the tags again. confirm
// reports false if the manifest was deleted before.
func (a *adoption) confirm(ctx context.Context, due deadline.Deadline, named catalog.StoredManifest) (bool, error) {
	m, err := a.catalog.LoadManifest(ctx, a.repository, named.Value.Digest)
	switch {
	case errors.Is(err, drivers.ErrNotFound):
		return false, nil
	case err != nil || !m.Value.Readable() || m.Value.ID != named.Value.ID:
		return false, err
	}
	next := m.Value
	next.State = catalog.Live
	_, err = a.catalog.ReplaceManifest(ctx, due, m, next, m.Raw)
	return err == nil, err
}

// keeps reports whether a tag that berth has must stay as it is: it resolves, and it names
// the manifest already, or was written later than that of the old registry. Both times are
// of the same store. keeps returns a reason if the tag is immutable.
func (a *adoption) keeps(ctx context.Context, l link, existing catalog.StoredTag, target digest.Digest) (keep bool, reason string, err error) {
	m, err := a.catalog.ReadManifest(ctx, a.repository, existing.Value.Digest)
	switch {
	case errors.Is(err, drivers.ErrNotFound):
		return false, "", nil
	case err != nil:
		return false, "", err
	case !m.Value.Readable() || !existing.Value.Names(m.Value):
		return false, "", nil
	case existing.Value.Digest == target, existing.Object.Modified.After(l.modified):
		return true, "", nil
	case a.cfg.Immutable(a.repository, l.tag):
		return false, "the tag is immutable here, and names " + existing.Value.Digest.String(), nil
	}
	return false, "", nil
}

// hint returns the live manifest that a tag is about to name, with the tag among its
// hints. It returns a reason if there is none.
func (a *adoption) hint(ctx context.Context, due deadline.Deadline, tag string, target digest.Digest) (m catalog.StoredManifest, reason string, err error) {
	for {
		m, err = a.catalog.LoadManifest(ctx, a.repository, target)
		switch {
		case errors.Is(err, drivers.ErrNotFound) || err == nil && !m.Value.Readable():
			return m, "it names " + target.String() + ", which the repository does not have", nil
		case err != nil:
			return m, "", err
		case m.Value.State == catalog.Live && m.Value.Hinted(tag):
			return m, "", nil
		}
		next := m.Value.WithHints(tag)
		next.State = catalog.Live
		m, err = a.catalog.ReplaceManifest(ctx, due, m, next, m.Raw)
		if !errors.Is(err, drivers.ErrChanged) {
			return m, "", err
		}
	}
}

// sizeOf returns a number of bytes for people.
func sizeOf(n int64) string {
	if n >= 1<<20 && n%(1<<20) == 0 {
		return strconv.FormatInt(n>>20, 10) + " MiB"
	}
	return strconv.FormatInt(n, 10) + " bytes"
}
