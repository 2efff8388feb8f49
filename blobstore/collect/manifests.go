package collect

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// settle settles what the repository has, once all of it was read.
func (m *marking) settle(ctx context.Context) error {
	for _, all := range []struct {
		n  int
		do func(context.Context, int) error
	}{
		{len(m.missing), func(ctx context.Context, i int) error { m.createEntry(ctx, m.missing[i]); return nil }},
		{len(m.deadTags), func(ctx context.Context, i int) error { m.collectTag(ctx, m.deadTags[i]); return nil }},
		{len(m.deadEntries), func(ctx context.Context, i int) error { m.collectEntry(ctx, m.deadEntries[i]); return nil }},
	} {
		if err := m.parallel(ctx, all.n, all.do); err != nil {
			return err
		}
	}
	if err := m.collectManifests(ctx); err != nil {
		return err
	}
	return ctx.Err()
}

// collectManifests condemns, removes and restores manifests.
func (m *marking) collectManifests(ctx context.Context) error {
	g, ctx := m.group(ctx)
	for _, d := range m.pendingWork {
		g.do(func() error { m.collectManifest(ctx, d); return ctx.Err() })
	}
	if m.cfg.UntaggedAfter > 0 {
		for _, k := range m.known.all {
			if !k.old || m.named.has(k.digest) {
				continue
			}
			g.do(func() error { m.collectManifest(ctx, m.known.digestOf(k)); return ctx.Err() })
		}
	}
	return g.wait()
}

func (m *marking) collectManifest(ctx context.Context, d digest.Digest) {
	m.reads <- struct{}{}
	defer func() { <-m.reads }()
	named := m.isNamed(d)
	v := settle(ctx, m.run, object[catalog.Manifest]{
		key:  catalog.ManifestKey(m.repo.name, d),
		due:  m.deadline(),
		kind: &m.report.total.Manifests,
		read: func(ctx context.Context) (catalog.StoredManifest, error) {
			return m.catalog.LoadManifest(ctx, m.repo.name, d)
		},
		decide: func(_ context.Context, s *catalog.StoredManifest) (verdict, error) {
			return m.decideManifest(named, s), nil
		},
	})
	m.repo.count(func(lost *RepositoryReport) *Counts { return &lost.Manifests }, v, 0)
	m.repo.less(v)
}

// isNamed reports whether something names a manifest.
func (m *marking) isNamed(d digest.Digest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.named.has(sum(d))
}

// decideManifest decides by what was read just now. A manifest that is old now is the one
// that was read when the repository was marked.
func (m *marking) decideManifest(named bool, s *catalog.StoredManifest) verdict {
	removes := m.cfg.UntaggedAfter > 0
	switch {
	case s.Value.State == catalog.Deleted:
		if m.old(s.Object) {
			return remove
		}
	case s.Value.State == catalog.Condemned && named:
		if !m.cfg.Broken.KeepNamedMarks {
			s.Value.State = catalog.Live
			return restore
		}
	case !removes || named:
	case s.Value.State == catalog.Condemned:
		if m.before(s.Object, max(m.cfg.Grace, m.cfg.UntaggedAfter)) {
			return remove
		}
	case s.Value.State == catalog.Live && m.old(s.Object):
		if m.cfg.Broken.RemoveAtOnce {
			return remove
		}
		s.Value.State = catalog.Condemned
		return condemn
	}
	return keep
}

// collectTag removes a tag that does not resolve. The tag is read before the manifest. An
// id never comes back, so the age of the tag is of no importance.
func (m *marking) collectTag(ctx context.Context, tag string) {
	late := m.readLate(ctx, m.cfg.Broken.TagAfterManifest, func(ctx context.Context) (catalog.StoredManifest, error) {
		t, err := m.catalog.ReadTag(ctx, m.repo.name, tag)
		if err != nil {
			return catalog.StoredManifest{}, err
		}
		return m.catalog.ReadManifest(ctx, m.repo.name, t.Value.Digest)
	})
	v := settle(ctx, m.run, object[catalog.Tag]{
		key:  catalog.TagKey(m.repo.name, tag),
		due:  m.deadline(),
		kind: &m.report.total.Tags,
		decide: func(ctx context.Context, t *catalog.StoredTag) (verdict, error) {
			found, ok, err := late(ctx, t.Value.Digest)
			if err != nil || ok && found.Value.Readable() && t.Value.Names(found.Value) {
				return keep, err
			}
			return remove, nil
		},
	})
	m.repo.count(func(lost *RepositoryReport) *Counts { return &lost.Tags }, v, 0)
	m.repo.less(v)
}

// readLate returns a function that reads a manifest. If the rule is broken, the manifest
// was read already.
func (m *marking) readLate(ctx context.Context, broken bool, early func(context.Context) (catalog.StoredManifest, error)) func(context.Context, digest.Digest) (catalog.StoredManifest, bool, error) {
	if broken {
		s, ok, err := exists(early(ctx))
		return func(context.Context, digest.Digest) (catalog.StoredManifest, bool, error) { return s, ok, err }
	}
	return func(ctx context.Context, d digest.Digest) (catalog.StoredManifest, bool, error) {
		return exists(m.catalog.ReadManifest(ctx, m.repo.name, d))
	}
}

// collectEntry removes an old entry of a manifest that is absent or deleted. The entry is
// read before the manifest, and it is old: a push writes the entry before its manifest.
func (m *marking) collectEntry(ctx context.Context, key string) {
	_, _, referrer, _ := catalog.ParseEntryKey(key)
	late := m.readLate(ctx, m.cfg.Broken.EntryAfterManifest, func(ctx context.Context) (catalog.StoredManifest, error) {
		return m.catalog.ReadManifest(ctx, m.repo.name, referrer)
	})
	v := settle(ctx, m.run, object[catalog.Entry]{
		key:  key,
		due:  m.deadline(),
		kind: &m.report.total.Entries,
		decide: func(ctx context.Context, e *catalog.StoredEntry) (verdict, error) {
			if !m.old(e.Object) && !m.cfg.Broken.EntryOfAnyAge {
				return keep, nil
			}
			found, ok, err := late(ctx, referrer)
			if err != nil || ok && found.Value.Readable() {
				return keep, err
			}
			return remove, nil
		},
	})
	m.repo.less(v)
}

// createEntry creates the entry of a manifest that has none, if the manifest can be read
// still.
func (m *marking) createEntry(ctx context.Context, e missingEntry) {
	due, key := m.deadline(), catalog.EntryKey(m.repo.name, e.subject, e.referrer)
	s, found, err := exists(m.catalog.ReadManifest(ctx, m.repo.name, e.referrer))
	if err == nil && (!found || !s.Value.Readable()) {
		return
	}
	if err == nil && !m.cfg.DryRun {
		if err = due.Check(); err == nil {
			ctx, cancel := due.Context(ctx)
			defer cancel()
			_, err = envelope.Create(ctx, m.meter, key, catalog.Entry{Subject: e.subject, Referrer: e.referrer}, drivers.Body{})
		}
		if errors.Is(err, drivers.ErrExists) {
			return
		}
	}
	if err != nil {
		m.failures.add(key, err)
		return
	}
	m.report.count(&m.report.total.Entries, restore, 0)
}

// less counts a key that was removed.
func (repo *repository) less(v verdict) {
	if v == remove {
		repo.keys.Add(-1)
	}
}

// count counts what the repository loses.
func (repo *repository) count(of func(*RepositoryReport) *Counts, v verdict, bytes int64) {
	repo.mu.Lock()
	defer repo.mu.Unlock()
	c := of(&repo.lost)
	switch v {
	case condemn:
		c.Condemned++
	case restore:
		c.Restored++
	case remove:
		c.Removed++
		c.Bytes += bytes
	}
}
