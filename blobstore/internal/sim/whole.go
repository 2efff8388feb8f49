package sim

import (
	"math"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/manifest"
)

// checkManifests adds a finding for each acknowledged manifest that cannot be read, and
// for each manifest that refers to something which cannot be read, unless a deletion by a
// client explains it. It enters in the histories what it sees in the bucket.
func (l *Ledger) checkManifests(f *findings, inv *Inventory) {
	for name, r := range l.repositories {
		for d, a := range r.manifests {
			m, ok := inv.Manifests[catalog.ManifestKey(name, d)]
			if l.must(a, d) && (!ok || !m.Value.Readable()) {
				f.add("%s: manifest %s was acknowledged, but it is %q", name, d, m.Value.State)
			}
		}
		r.observe(inv, name)
		l.checkNew(f, inv, name, r)
	}
	for key, m := range inv.Manifests {
		name, d, _ := catalog.ParseManifestKey(key)
		if !m.Value.Readable() {
			continue
		}
		for _, ref := range m.Parsed.References {
			if !inv.reaches(name, ref) && !l.explains(name, ref) {
				f.add("%s: manifest %s (%s) refers to %s, which cannot be read", name, d, m.Value.State, ref.Digest)
			}
		}
	}
}

// gone is the moment since which a repository was seen without something.
type gone struct {
	now int // of the history
	at  time.Time
}

// checkNew adds a finding for each manifest that has appeared although something that it
// refers to was gone before the push started. A push may rely on a blob that its process
// has known for less than MaxAge.
func (l *Ledger) checkNew(f *findings, inv *Inventory, name string, r *repository) {
	for d := range r.manifests {
		r.see(inv, name, manifest.Reference{Digest: d, Role: manifest.Child})
	}
	for id := range l.blobs {
		if id.repository == name {
			r.see(inv, name, manifest.Reference{Digest: id.digest, Role: manifest.Blob})
		}
	}
	for d, parsed := range r.refs {
		m := inv.Manifests[catalog.ManifestKey(name, d)].Value
		if !m.Readable() || r.appeared[m.ID] {
			continue
		}
		r.appeared[m.ID] = true
		push := r.firstPush(d)
		if push == nil {
			continue
		}
		for _, ref := range parsed.References {
			since, missing := r.gone[ref]
			if ref.Role == manifest.Blob && push.at.Sub(since.at) < l.MaxAge {
				continue
			}
			if missing && since.now < push.start {
				f.add("%s: manifest %s was stored, although %s was gone before its push started", name, d, ref.Digest)
			}
		}
	}
}

// see records whether a repository is without something.
func (r *repository) see(inv *Inventory, name string, ref manifest.Reference) {
	if inv.reaches(name, ref) {
		delete(r.gone, ref)
	} else if _, ok := r.gone[ref]; !ok {
		r.gone[ref] = gone{r.now, time.Now()}
	}
}

// firstPush returns the push of a manifest that was the first to start of those that may
// still have an effect.
func (r *repository) firstPush(d digest.Digest) *op {
	for _, o := range r.ops {
		if o.kind == putManifest && o.digest == d && (o.end == math.MaxInt || o.end == r.now) {
			return o
		}
	}
	return nil
}

// observe enters what the tags and digests of a history lead to, where that has changed.
func (r *repository) observe(inv *Inventory, name string) {
	for _, ref := range r.subjects() {
		d := inv.Resolve(name, ref)
		if r.seen[ref] == string(d) {
			continue
		}
		r.seen[ref] = string(d)
		r.read(r.start(op{}), ref, d)
	}
}

// Resolve returns the digest of the manifest that a repository has under a tag or a
// digest. It returns an empty digest if there is none that can be read.
func (inv *Inventory) Resolve(repository, ref string) digest.Digest {
	d := digest.Digest(ref)
	if d.Validate() == nil {
		if inv.Manifests[catalog.ManifestKey(repository, d)].Value.Readable() {
			return d
		}
		return ""
	}
	tag, ok := inv.Tags[catalog.TagKey(repository, ref)]
	if !ok {
		return ""
	}
	m := inv.Manifests[catalog.ManifestKey(repository, tag.Value.Digest)].Value
	if !m.Readable() || !tag.Value.Names(m) {
		return ""
	}
	return m.Digest
}

// reaches reports whether a repository can read what a manifest refers to.
func (inv *Inventory) reaches(name string, ref manifest.Reference) bool {
	switch ref.Role {
	case manifest.Foreign:
		return true
	case manifest.Child:
		return inv.Manifests[catalog.ManifestKey(name, ref.Digest)].Value.Readable()
	}
	d := ref.Digest
	if d.Algorithm() != digest.Canonical {
		alias, ok := inv.Aliases[d]
		if !ok {
			return false
		}
		d = alias.Digest
	}
	link, ok := inv.Links[catalog.LinkKey(d, name)]
	if !ok || link.Value.State == catalog.Damaged {
		return false
	}
	_, ok = inv.contentOf(link)
	return ok
}

// explains reports whether a deletion by a client explains that a repository does not
// have what a manifest refers to.
func (l *Ledger) explains(name string, ref manifest.Reference) bool {
	a := l.referred(name, ref)
	return a != nil && a.deletedByClient()
}
