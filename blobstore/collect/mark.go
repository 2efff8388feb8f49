package collect

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/redirect/match"
)

// repository is a repository with a marker.
type repository struct {
	name  string
	index uint32 // the position of its marker in the listing

	whole     bool // everything in it was read
	condemned bool // its marker is
	collect   bool // its marker allows links to be removed
	kept      bool // the configuration keeps its links
	adopted   bool // from another registry

	keys   atomic.Int64 // manifests, tags and entries that are left
	linked atomic.Bool  // it has a link, by the walk over the blobs
	failed atomic.Bool  // one of its links could not be read or changed

	mu   sync.Mutex
	lost RepositoryReport
}

// markAll reads all repositories, and settles their manifests, tags and entries.
//
// A repository is left alone if anything in it cannot be read or parsed: what it names is
// not known then.
func (r *run) markAll(ctx context.Context) error {
	err := r.walk(ctx, span{prefix: catalog.MarkersPrefix}, func(_ context.Context, o listed) error {
		n, ok := catalog.ParseMarkerKey(o.Key)
		if !ok {
			r.failures.add(o.Key, errors.New("it is no marker"))
			return nil
		}
		repo := &repository{name: n, index: uint32(len(r.repos))}
		repo.kept = slices.ContainsFunc(r.keep, func(g match.Glob) bool { return g.Match(n) })
		r.repos, r.byName[n] = append(r.repos, repo), repo
		return nil
	})
	if err != nil {
		return err
	}
	for name, err := range r.catalog.Adoptions(ctx) {
		if err != nil {
			return err
		}
		if repo := r.byName[name]; repo != nil {
			repo.adopted = true
		}
	}
	return r.eachOf(ctx, "manifests", len(r.repos), func(ctx context.Context, i int) error {
		return r.mark(ctx, r.repos[i])
	})
}

// mark reads one repository, and settles what it has.
func (r *run) mark(ctx context.Context, repo *repository) error {
	m := &marking{run: r, repo: repo}
	marker, found, err := exists(r.catalog.ReadMarker(ctx, repo.name))
	if err == nil && !found { // it was removed
		return nil
	}
	if err == nil {
		m.marker = marker
		err = m.mark(ctx)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.failures.add("repository "+repo.name, err)
		return r.failures.tooMany()
	}
	repo.whole = true
	r.report.update(func(p *Report) { p.Repositories++ })
	return m.settle(ctx)
}

// marking is what is known of one repository while it is marked.
type marking struct {
	*run
	repo   *repository
	marker catalog.StoredMarker

	mu       sync.Mutex
	known    knownManifests
	named    digestSet // manifests that are named
	subjects []subject // of the manifests that have one
	ripe     bool      // a manifest allows links to be removed
	unread   []pending // what the manifests name, if only named ones name anything

	entries digestSet // that exist, by the hash of their keys

	deadTags    []string        // that resolve to no manifest that was read
	deadEntries []string        // keys of old entries of manifests that were not read
	missing     []missingEntry  // of manifests that were read
	pendingWork []digest.Digest // manifests that are deleted or condemned
}

// subject is a manifest with a subject.
type subject struct {
	manifest, subject digest.Digest
	child             bool // the manifest has its subject as a child
}

type missingEntry struct{ subject, referrer digest.Digest }

type pending struct {
	digest digest.Digest
	parsed manifest.Manifest
}

// mark reads the repository. It changes nothing in the bucket but the marker.
func (m *marking) mark(ctx context.Context) error {
	m.repo.condemned = m.marker.Value.State == catalog.Condemned
	m.repo.collect = m.marker.Value.Collect || m.cfg.Broken.CollectAlways
	if err := m.readManifests(ctx); err != nil {
		return err
	}
	m.known.sort()
	if err := m.readTags(ctx); err != nil {
		return err
	}
	if err := m.readEntries(ctx); err != nil {
		return err
	}
	m.nameReferrers()
	for _, p := range m.unread {
		if m.named.has(sum(p.digest)) {
			if err := m.nameRefs(ctx, p.parsed); err != nil {
				return err
			}
		}
	}
	return m.allowCollect(ctx)
}

// readManifests reads all manifests.
func (m *marking) readManifests(ctx context.Context) error {
	g, ctx := m.group(ctx)
	err := m.walk(ctx, span{prefix: catalog.ManifestsPrefix(m.repo.name)}, func(_ context.Context, o listed) error {
		m.repo.keys.Add(1)
		g.do(func() error {
			m.reads <- struct{}{}
			defer func() { <-m.reads }()
			err := m.readManifest(ctx, o.Key)
			if errors.Is(err, drivers.ErrNotFound) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("%s: %w", o.Key, err)
			}
			return nil
		})
		return ctx.Err()
	})
	if failed := g.wait(); failed != nil {
		return failed
	}
	return err
}

func (m *marking) readManifest(ctx context.Context, key string) error {
	_, d, ok := catalog.ParseManifestKey(key)
	if !ok {
		return errors.New("it is no manifest")
	}
	s, err := m.catalog.ReadManifest(ctx, m.repo.name, d)
	if err == nil && s.Value.Readable() && int64(len(s.Raw)) != s.RawSize {
		s, err = m.catalog.LoadManifest(ctx, m.repo.name, d)
	}
	if err != nil {
		return err
	}
	var parsed manifest.Manifest
	switch {
	case s.Value.State == catalog.Deleted:
	case !s.Value.Readable():
		return fmt.Errorf("it has the state %q", s.Value.State)
	case s.Value.Digest != d || d.Algorithm().FromBytes(s.Raw) != d:
		return errors.New("its bytes do not match its digest (push it again)")
	default:
		if parsed, err = manifest.Parse(s.Value.MediaType, s.Raw); err != nil {
			return err
		}
		if !m.cfg.Broken.OnlyNamedName {
			if err := m.nameRefs(ctx, parsed); err != nil {
				return err
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(d, s, parsed)
	return nil
}

// add adds a manifest that was read. A manifest that is not deleted names what it refers
// to, whether or not anything names the manifest.
func (m *marking) add(d digest.Digest, s catalog.StoredManifest, parsed manifest.Manifest) {
	if s.Value.State != catalog.Live {
		m.pendingWork = append(m.pendingWork, d)
	}
	if !s.Value.Readable() {
		return
	}
	m.known.add(d, s.Value.ID, s.Value.State == catalog.Live && m.old(s.Object))
	if s.Value.State == catalog.Live && m.old(s.Object) || m.cfg.Broken.CollectTooEarly {
		m.ripe = true
	}
	child := false
	if isIndex(parsed.MediaType) {
		for _, ref := range parsed.References {
			m.named.add(sum(ref.Digest))
			child = child || ref.Digest == parsed.Subject
		}
	}
	if parsed.Subject != "" {
		m.subjects = append(m.subjects, subject{d, parsed.Subject, child && !m.cfg.Broken.SubjectNamesParent})
	}
	if m.cfg.Broken.OnlyNamedName {
		m.unread = append(m.unread, pending{d, parsed})
	}
}

func isIndex(mediaType string) bool {
	return mediaType == manifest.MediaTypeIndex || mediaType == manifest.MediaTypeDockerList
}

// nameRefs names the blobs that a manifest refers to, by their canonical digests. A digest
// of another algorithm that has no alias names nothing.
func (m *marking) nameRefs(ctx context.Context, parsed manifest.Manifest) error {
	var all []name
	for _, ref := range parsed.References {
		d, err := m.aliases.canonical(ctx, m.run, ref.Digest)
		if err != nil {
			return err
		}
		if d == "" {
			continue
		}
		n, err := newName(d, m.repo.index)
		if err != nil {
			return err
		}
		all = append(all, n)
	}
	return m.names.add(all...)
}

// nameReferrers names the manifests whose subject can be read. A subject does not name an
// index that has it as a child: each of the two would keep the other for ever.
func (m *marking) nameReferrers() {
	for _, s := range m.subjects {
		if !s.child && m.known.has(s.subject) {
			m.named.add(sum(s.manifest))
		}
	}
}

// readTags reads all tags. One that resolves names its manifest.
func (m *marking) readTags(ctx context.Context) error {
	g, ctx := m.group(ctx)
	err := m.walk(ctx, span{prefix: catalog.TagsPrefix(m.repo.name)}, func(_ context.Context, o listed) error {
		m.repo.keys.Add(1)
		g.do(func() error {
			_, tag, ok := catalog.ParseTagKey(o.Key)
			if !ok {
				return fmt.Errorf("%s: it is no tag", o.Key)
			}
			s, found, err := exists(m.catalog.ReadTag(ctx, m.repo.name, tag))
			if err != nil || !found {
				return err
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.known.resolves(s.Value) {
				m.named.add(sum(s.Value.Digest))
			} else {
				m.deadTags = append(m.deadTags, tag)
			}
			return nil
		})
		return ctx.Err()
	})
	if failed := g.wait(); failed != nil {
		return failed
	}
	return err
}

// readEntries lists the entries, and finds those that are missing.
func (m *marking) readEntries(ctx context.Context) error {
	prefix := catalog.ReferrersPrefix(m.repo.name)
	err := m.walk(ctx, span{prefix: prefix}, func(_ context.Context, o listed) error {
		m.repo.keys.Add(1)
		_, _, referrer, ok := catalog.ParseEntryKey(o.Key)
		if !ok {
			return fmt.Errorf("%s: it is no entry", o.Key)
		}
		m.entries.add(sha256.Sum256([]byte(o.Key)))
		if (m.old(o.Object) || m.cfg.Broken.EntryOfAnyAge) && !m.known.has(referrer) {
			m.deadEntries = append(m.deadEntries, o.Key)
		}
		return nil
	})
	for _, s := range m.subjects {
		if key := catalog.EntryKey(m.repo.name, s.subject, s.manifest); !m.entries.has(sha256.Sum256([]byte(key))) {
			m.missing = append(m.missing, missingEntry{s.subject, s.manifest})
		}
	}
	return err
}

// allowCollect allows links to be removed from a repository that has a live manifest that
// is old enough. Only the collector does, and only then: a repository that is used for
// blobs alone, or that had one failed push, keeps everything.
func (m *marking) allowCollect(ctx context.Context) error {
	if m.repo.adopted {
		// What a manifest names that could not be taken over is not known.
		a, found, err := exists(m.catalog.ReadAdoption(ctx, m.repo.name))
		if err != nil {
			return err
		}
		if found && a.Value.Holds() {
			m.repo.collect = false
			return nil
		}
	}
	if m.repo.collect || !m.ripe {
		return nil
	}
	v := settle(ctx, m.run, object[catalog.Marker]{
		key:  m.marker.Object.Key,
		due:  m.deadline(),
		kind: new(Counts),
		decide: func(_ context.Context, s *catalog.StoredMarker) (verdict, error) {
			s.Value.Collect = true
			return restore, nil
		},
	})
	m.repo.collect = v == restore
	return nil
}

// aliasCache is the canonical digests of digests of other algorithms. An alias never leads
// to another digest, but one that was absent may appear.
type aliasCache struct {
	known *lru.Cache[digest.Digest, digest.Digest]
}

func newAliasCache() (*aliasCache, error) {
	known, err := lru.New[digest.Digest, digest.Digest](10_000)
	return &aliasCache{known}, err
}

// canonical returns the canonical digest, or an empty one if there is no alias.
func (a *aliasCache) canonical(ctx context.Context, r *run, d digest.Digest) (digest.Digest, error) {
	if d.Algorithm() == digest.Canonical {
		return d, nil
	}
	if r.cfg.Broken.OtherDigestsUnnamed {
		return "", nil
	}
	if c, ok := a.known.Get(d); ok {
		return c, nil
	}
	s, found, err := exists(envelope.Read[catalog.Alias](ctx, r.meter, catalog.AliasKey(d)))
	if err != nil || !found {
		return "", err
	}
	a.known.Add(d, s.Value.Digest)
	return s.Value.Digest, nil
}

// sum returns the 32 bytes that stand for a digest: its own if it is canonical.
func sum(d digest.Digest) (s [32]byte) {
	if d.Algorithm() == digest.Canonical && len(d.Encoded()) == 2*len(s) {
		if _, err := hex.Decode(s[:], []byte(d.Encoded())); err == nil {
			return s
		}
	}
	return sha256.Sum256([]byte(d))
}
