package scrub

import (
	"context"
	"errors"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/pace"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/drivers"
)

// repositories is the second phase.
func (r *run) repositories(ctx context.Context) error {
	for name, err := range r.catalog.Marked(ctx, r.state.Value.Repository, 0) {
		if err != nil {
			return err
		}
		if err := r.repository(ctx, name); err != nil {
			return errors.Join(err, r.save(ctx))
		}
		r.state.Value.Repository = name
		if err := r.saveSometimes(ctx); err != nil {
			return err
		}
	}
	return nil
}

// images is what a run knows of the manifests of one repository.
type images struct {
	*run

	name string
	mu   sync.Mutex
	here map[digest.Digest]bool     // manifests that can be read
	in   map[digest.Digest][]parent // indexes, by their children
	bad  map[digest.Digest][]string // keys of the findings that break a manifest
}

// parent is an index that refers to a manifest.
type parent struct {
	digest digest.Digest
	needs  bool // the repository must have the child
}

func (r *run) repository(ctx context.Context, name string) error {
	i := &images{run: r, name: name, here: map[digest.Digest]bool{}, in: map[digest.Digest][]parent{}, bad: map[digest.Digest][]string{}}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(r.cfg.Concurrency)
	for d, err := range r.catalog.Manifests(groupCtx, name) {
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		group.Go(func() error {
			return pace.Retry(groupCtx, func() error { return i.manifest(groupCtx, d) })
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	i.children()
	return i.tags(ctx)
}

// manifest reads one manifest, and checks that the blobs that it refers to are there.
func (i *images) manifest(ctx context.Context, d digest.Digest) error {
	m, err := i.catalog.LoadManifest(ctx, i.name, d)
	switch {
	case errors.Is(err, drivers.ErrNotFound) || err == nil && !m.Value.Readable():
		return nil
	case err != nil && (ctx.Err() != nil || errors.Is(err, drivers.ErrRefused) || errors.Is(err, drivers.ErrBusy)):
		return err
	case err != nil:
		i.broken(d, Finding{Problem: Unreadable, Kind: "manifest", Digest: d, Reason: err.Error()})
		return nil //nolint:nilerr // it is in the report
	}
	i.add(func(rep *Report) { rep.Manifests++ })
	i.mu.Lock()
	i.here[d] = true
	i.mu.Unlock()
	if d.Algorithm().FromBytes(m.Raw) != d {
		i.broken(d, Finding{Problem: Damaged, Kind: "manifest", Digest: d, Reason: "its bytes do not have its digest: push it again"})
		return nil
	}
	parsed, err := manifest.Parse(m.Value.MediaType, m.Raw)
	if err != nil {
		i.broken(d, Finding{Problem: Damaged, Kind: "manifest", Digest: d, Reason: err.Error()})
		return nil //nolint:nilerr // it is in the report
	}
	for _, ref := range parsed.References {
		switch ref.Role {
		case manifest.Child:
			i.mu.Lock()
			i.in[ref.Digest] = append(i.in[ref.Digest], parent{d, !i.cfg.SparseIndexes})
			i.mu.Unlock()
		case manifest.Blob:
			if err := i.blobOf(ctx, d, ref.Digest); err != nil {
				return err
			}
		}
	}
	return nil
}

// broken adds a finding that breaks the manifest d.
func (i *images) broken(d digest.Digest, f Finding) {
	f.Repositories = append(f.Repositories, i.name)
	i.found(f)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.bad[d] = append(i.bad[d], key(f.Kind, f.Digest))
}

// blobOf checks that the repository has a blob that the manifest d refers to.
func (i *images) blobOf(ctx context.Context, d, blob digest.Digest) error {
	canonical := blob
	if blob.Algorithm() != digest.SHA256 {
		alias, err := i.catalog.ReadAlias(ctx, blob)
		switch {
		case errors.Is(err, drivers.ErrNotFound):
			i.broken(d, Finding{Problem: Missing, Kind: "blob", Digest: blob, Reason: "no blob has this digest"})
			return nil
		case err != nil:
			return err
		}
		canonical = alias.Value.Digest
	}
	link, err := i.catalog.ReadLink(ctx, canonical, i.name)
	switch {
	case errors.Is(err, drivers.ErrNotFound):
		i.broken(d, Finding{Problem: Missing, Kind: "blob", Digest: blob, Reason: "a manifest refers to it, but the repository does not have it"})
	case err != nil:
		return err
	case link.Value.State == catalog.Damaged:
		i.broken(d, Finding{Problem: Damaged, Kind: "blob", Digest: canonical, Reason: "it is marked as damaged", Quarantined: true})
	case i.isBad("blob", canonical):
		i.mu.Lock()
		i.bad[d] = append(i.bad[d], key("blob", canonical))
		i.mu.Unlock()
	}
	return nil
}

// children finds manifests that an index refers to and that are not there, and marks the
// indexes of all broken manifests as broken.
func (i *images) children() {
	for child, parents := range i.in {
		for _, p := range parents {
			if p.needs && !i.here[child] {
				i.broken(p.digest, Finding{Problem: Missing, Kind: "manifest", Digest: child, Reason: "an index refers to it, but the repository does not have it"})
			}
		}
	}
	var queue []digest.Digest
	for d := range i.bad {
		queue = append(queue, d)
	}
	for len(queue) > 0 {
		child := queue[0]
		queue = queue[1:]
		for _, p := range i.in[child] {
			if before := len(i.bad[p.digest]); i.inherit(p.digest, child) > before {
				queue = append(queue, p.digest)
			}
		}
	}
}

// inherit adds what breaks a child to what breaks its parent, and returns the number.
func (i *images) inherit(parent, child digest.Digest) int {
	known := map[string]bool{}
	for _, k := range i.bad[parent] {
		known[k] = true
	}
	for _, k := range i.bad[child] {
		if !known[k] {
			i.bad[parent] = append(i.bad[parent], k)
		}
	}
	return len(i.bad[parent])
}

// tags adds the tags of broken manifests to the findings.
func (i *images) tags(ctx context.Context) error {
	if len(i.bad) == 0 {
		return nil
	}
	for tag, err := range i.catalog.Tags(ctx, i.name, "", 0) {
		if err != nil {
			return err
		}
		var stored catalog.StoredTag
		err := pace.Retry(ctx, func() (err error) {
			stored, err = i.catalog.ReadTag(ctx, i.name, tag)
			return err
		})
		if err != nil && !errors.Is(err, drivers.ErrNotFound) {
			return err
		}
		for _, k := range i.bad[stored.Value.Digest] {
			i.breaks(k, i.name+":"+tag)
		}
	}
	return nil
}
