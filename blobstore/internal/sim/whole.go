package sim

import (
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
