package sim

import (
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// collectManifests condemns, removes and makes good the manifests that were marked.
func (c *collection) collectManifests() error {
	for _, r := range sorted(c.repositories) {
		for d, m := range sorted(r.manifests) {
			named := r.named[d]
			if !c.concerns(named, m) {
				continue
			}
			settle(c, m.Object.Key, func(s *catalog.StoredManifest) verdict {
				switch {
				case s.Object.Tag != m.Object.Tag:
					return keep
				case s.Value.State == catalog.Deleted:
					return remove
				case s.Value.State == catalog.Live:
					s.Value.State = catalog.Condemned
					return rewrite
				case named:
					s.Value.State = catalog.Live
					return rewrite
				}
				return remove
			})
		}
	}
	return nil
}

// concerns reports whether something is to be done with a manifest.
func (c *collection) concerns(named bool, m Manifest) bool {
	switch {
	case m.Value.State == catalog.Deleted:
		return c.old(m.Object)
	case c.UntaggedAfter == 0: // no tag was read
		return false
	case named:
		return m.Value.State == catalog.Condemned
	case m.Value.State == catalog.Condemned:
		return c.olderThan(m.Object, max(c.Grace, c.UntaggedAfter))
	default:
		return c.old(m.Object)
	}
}

// collectLinks condemns, removes and makes good the links of repositories whose markers
// allow it.
func (c *collection) collectLinks() error {
	for o, err := range c.Bucket.List(c.ctx, catalog.BlobsPrefix, "", 0) {
		if err != nil {
			return err
		}
		d, name, ok := catalog.ParseLinkKey(o.Key)
		r := c.repositories[name]
		if !ok || r == nil {
			continue
		}
		r.links++
		if r.marker.Value.Collect {
			c.collectLink(r, o, c.names[blob{name, d}])
		}
	}
	return nil
}

func (c *collection) collectLink(r *collected, o drivers.Object, named bool) {
	switch {
	case !named && !c.old(o):
		return
	case named && c.Finished != nil && o.Modified.Before(c.Finished.start[r.name].Add(-c.Grace)):
		return
	}
	settle(c, o.Key, func(s *catalog.StoredRecord) verdict {
		switch {
		case named:
			if !s.Value.Condemned {
				return keep
			}
			s.Value.Condemned = false
			return rewrite
		case s.Value.State == catalog.Damaged && c.old(s.Object):
			return remove
		case c.UnreferencedAfter == 0:
			return keep
		case s.Value.Condemned:
			if !c.olderThan(s.Object, max(c.Grace, c.UnreferencedAfter)) {
				return keep
			}
			return remove
		case c.old(s.Object):
			s.Value.Condemned = true
			return rewrite
		}
		return keep
	})
}

// collectRepositories removes tags that do not resolve, entries without a manifest, and
// the markers of empty repositories.
func (c *collection) collectRepositories() error {
	for _, r := range sorted(c.repositories) {
		empty := true
		for o, err := range c.Bucket.List(c.ctx, catalog.RepoPrefix(r.name), "", 0) {
			if err != nil {
				return err
			}
			empty = false
			if _, _, ok := catalog.ParseTagKey(o.Key); ok {
				c.collectTag(r, o.Key)
			}
			if _, _, referrer, ok := catalog.ParseEntryKey(o.Key); ok && c.old(o) {
				c.collectEntry(r, o.Key, referrer)
			}
		}
		c.collectMarker(r, empty)
	}
	return nil
}

// collectTag removes a tag that does not resolve. An id never comes back, so the tag's
// age is of no importance.
func (c *collection) collectTag(r *collected, key string) {
	settle(c, key, func(tag *catalog.StoredTag) verdict {
		m, found, ok := find[catalog.Manifest](c, catalog.ManifestKey(r.name, tag.Value.Digest))
		if !ok || found && m.Value.Readable() && tag.Value.Names(m.Value) {
			return keep
		}
		return remove
	})
}

func (c *collection) collectEntry(r *collected, key string, referrer digest.Digest) {
	settle(c, key, func(e *catalog.StoredEntry) verdict {
		m, found, ok := find[catalog.Manifest](c, catalog.ManifestKey(r.name, referrer))
		if !ok || !c.old(e.Object) || found && m.Value.Readable() {
			return keep
		}
		return remove
	})
}

func (c *collection) collectMarker(r *collected, empty bool) {
	inUse := !empty || r.marker.Value.Collect && r.links > 0
	if inUse && r.marker.Value.State == catalog.Live {
		return
	}
	settle(c, r.marker.Object.Key, func(s *catalog.StoredMarker) verdict {
		switch {
		case inUse:
			s.Value.State = catalog.Live
			return rewrite
		case s.Value.State != catalog.Condemned:
			s.Value.State = catalog.Condemned
			return rewrite
		case c.old(s.Object):
			return remove
		}
		return keep
	})
}

// collectAliases condemns and removes the aliases of blobs that have no record.
func (c *collection) collectAliases() error {
	for o, err := range c.Bucket.List(c.ctx, catalog.AliasesPrefix, "", 0) {
		if err != nil {
			return err
		}
		if !c.old(o) {
			continue
		}
		settle(c, o.Key, func(s *catalog.StoredAlias) verdict {
			_, found, ok := find[catalog.Record](c, catalog.RecordKey(s.Value.Digest))
			switch {
			case !ok || found && !s.Value.Condemned || !c.old(s.Object):
				return keep
			case found:
				s.Value.Condemned = false
				return rewrite
			case s.Value.Condemned:
				return remove
			case c.olderThan(s.Object, c.Lifetime+c.Grace):
				s.Value.Condemned = true
				return rewrite
			}
			return keep
		})
	}
	return nil
}

// collectRecords condemns and removes the records of blobs that no repository has, and
// removes links without a record.
func (c *collection) collectRecords() error {
	var links []drivers.Object // of the digest that the walk has reached
	var of digest.Digest
	for o, err := range c.Bucket.List(c.ctx, catalog.BlobsPrefix, "", 0) {
		if err != nil {
			return err
		}
		if d, _, ok := catalog.ParseLinkKey(o.Key); ok {
			if d != of {
				c.collectOrphans(of, links)
				links, of = nil, d
			}
			links = append(links, o)
			continue
		}
		d, _ := catalog.ParseRecordKey(o.Key)
		if d != of || len(links) == 0 {
			c.collectRecord(o)
		} else {
			links = nil // they have a record
		}
	}
	c.collectOrphans(of, links)
	return nil
}

// collectRecord condemns a record without links, or removes it and enters its data in
// the dead list.
func (c *collection) collectRecord(o drivers.Object) {
	if !c.old(o) {
		return
	}
	settle(c, o.Key, func(s *catalog.StoredRecord) verdict {
		if !c.old(s.Object) {
			return keep
		}
		if s.Value.State == catalog.Live {
			s.Value.State = catalog.Condemned
			return rewrite
		}
		if strings.HasPrefix(s.Value.Data, drivers.BulkPrefix) {
			dead := catalog.Dead{Digest: s.Value.Digest, Data: s.Value.Data}
			if _, err := envelope.Create(c.ctx, c.Bucket, catalog.NewDeadKey(), dead, drivers.Body{}); err != nil {
				c.left.add("%s: %w", o.Key, err)
				return keep
			}
		}
		return remove
	})
}

// collectOrphans removes links to a blob if it has no record.
func (c *collection) collectOrphans(d digest.Digest, links []drivers.Object) {
	for _, o := range links {
		if !c.old(o) {
			continue
		}
		settle(c, o.Key, func(*catalog.StoredRecord) verdict {
			if _, found, ok := find[catalog.Record](c, catalog.RecordKey(d)); !ok || found {
				return keep
			}
			return remove
		})
	}
}
