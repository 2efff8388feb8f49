package sim

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// mark finds what the manifests of all repositories name. A repository that cannot be
// read whole is left alone.
func (c *collection) mark() error {
	for o, err := range c.Bucket.List(c.ctx, catalog.MarkersPrefix, "", 0) {
		if err != nil {
			return err
		}
		name, ok := catalog.ParseMarkerKey(o.Key)
		if !ok {
			return fmt.Errorf("%s: no marker", o.Key)
		}
		r := &collected{name: name, manifests: map[digest.Digest]Manifest{}, named: map[digest.Digest]bool{}}
		if err := c.markRepository(r); err != nil {
			if !errors.Is(err, drivers.ErrNotFound) { // the marker was removed
				c.left.add("%s: %w", name, err)
			}
			continue
		}
		r.whole = true
		c.repositories[name] = r
	}
	return nil
}

func (c *collection) markRepository(r *collected) (err error) {
	if r.marker, err = envelope.Read[catalog.Marker](c.ctx, c.Bucket, catalog.MarkerKey(r.name)); err != nil {
		return err
	}
	for o, err := range c.Bucket.List(c.ctx, catalog.ManifestsPrefix(r.name), "", 0) {
		if err != nil {
			return err
		}
		if err := c.markManifest(r, o.Key); err != nil && !errors.Is(err, drivers.ErrNotFound) {
			return fmt.Errorf("%s: %w", o.Key, err)
		}
	}
	if c.UntaggedAfter > 0 {
		if err := c.markTags(r); err != nil {
			return err
		}
	}
	for _, m := range sorted(r.manifests) {
		if err := c.nameRefs(r, m); err != nil {
			return err
		}
	}
	return c.setCollect(r)
}

// markManifest reads a manifest, and creates its referrers entry if that is missing.
func (c *collection) markManifest(r *collected, key string) error {
	due := deadline.New(c.RequestLimit)
	m, err := readManifest(c.ctx, c.Bucket, key)
	if err := errors.Join(err, m.Err); err != nil {
		return err
	}
	v := m.Value
	r.manifests[v.Digest] = m
	if !v.Readable() || v.Subject == "" {
		return nil
	}
	entry := catalog.EntryKey(r.name, v.Subject, v.Digest)
	if _, found, err := exists(c.Bucket.Stat(c.ctx, entry)); found || err != nil {
		return err
	}
	if err := due.Check(); err != nil {
		return err
	}
	_, err = envelope.Create(c.ctx, c.Bucket, entry, catalog.Entry{Subject: v.Subject, Referrer: v.Digest}, drivers.Body{})
	if errors.Is(err, drivers.ErrExists) {
		return nil
	}
	return err
}

// markTags finds the manifests that tags name.
func (c *collection) markTags(r *collected) error {
	for o, err := range c.Bucket.List(c.ctx, catalog.TagsPrefix(r.name), "", 0) {
		if err != nil {
			return err
		}
		tag, found, err := exists(envelope.Read[catalog.Tag](c.ctx, c.Bucket, o.Key))
		if err != nil {
			return err
		}
		if m := r.manifests[tag.Value.Digest]; found && m.Value.Readable() && tag.Value.Names(m.Value) {
			r.named[m.Value.Digest] = true
		}
	}
	return nil
}

// nameRefs names what a manifest refers to, and the manifest itself if its subject
// exists. A subject does not name an index that has it as a child: each of the two
// would keep the other forever.
func (c *collection) nameRefs(r *collected, m Manifest) error {
	if !m.Value.Readable() {
		return nil
	}
	if s := r.manifests[m.Value.Subject]; s.Value.Readable() && !m.hasChild(m.Value.Subject) {
		r.named[m.Value.Digest] = true
	}
	for _, ref := range m.Parsed.References {
		if ref.Role == manifest.Child {
			r.named[ref.Digest] = true
		}
		canonical := ref.Digest
		if canonical.Algorithm() != digest.Canonical {
			alias, found, err := exists(envelope.Read[catalog.Alias](c.ctx, c.Bucket, catalog.AliasKey(ref.Digest)))
			if err != nil {
				return err
			}
			if !found {
				continue
			}
			canonical = alias.Value.Digest
		}
		c.names[blob{r.name, canonical}] = true
	}
	return nil
}

// setCollect allows links to be removed from a repository that has a live manifest
// which is old enough.
func (c *collection) setCollect(r *collected) error {
	if r.marker.Value.Collect {
		return nil
	}
	for _, m := range sorted(r.manifests) {
		if m.Value.State != catalog.Live || !c.old(m.Object) {
			continue
		}
		settle(c, r.marker.Object.Key, func(s *catalog.StoredMarker) verdict {
			s.Value.Collect = true
			r.marker.Value.Collect = true
			return rewrite
		})
		return nil
	}
	return nil
}
