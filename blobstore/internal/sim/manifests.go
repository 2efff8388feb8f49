package sim

import "github.com/berthhq/berth/blobstore/catalog"

// checkManifests checks the manifests and tags of all repositories.
func (c *Invariants) checkManifests(f *findings, inv *Inventory) {
	if c.ended == nil {
		c.ended = map[string]bool{}
	}
	for key, m := range inv.Manifests {
		c.checkManifest(f, inv, key, m)
	}
	for key, tag := range inv.Tags {
		name, text, _ := catalog.ParseTagKey(key)
		m := inv.Manifests[catalog.ManifestKey(name, tag.Value.Digest)]
		if !m.Value.Readable() || !tag.Value.Names(m.Value) {
			continue // it does not resolve
		}
		if !m.Value.Hinted(text) {
			f.add("tag %s: resolves to %s, whose hints are %v", key, tag.Value.Digest, m.Value.Hints)
		}
		if tag.Value.Size != m.Value.Size {
			f.add("tag %s: has size %d, and its manifest %d", key, tag.Value.Size, m.Value.Size)
		}
	}
	for key, e := range inv.Entries {
		if _, subject, referrer, _ := catalog.ParseEntryKey(key); e.Value.Subject != subject || e.Value.Referrer != referrer {
			f.add("entry %s: is of %s and %s", key, e.Value.Subject, e.Value.Referrer)
		}
	}
}

func (c *Invariants) checkManifest(f *findings, inv *Inventory, key string, m Manifest) {
	name, d, _ := catalog.ParseManifestKey(key)
	v := m.Value
	if v.Digest != d || v.ID == "" || len(v.Hints) > catalog.MaxHints {
		f.add("manifest %s: has digest %s, id %q and %d hints", key, v.Digest, v.ID, len(v.Hints))
	}
	life := key + " " + v.ID
	switch {
	case v.State == catalog.Deleted:
		if c.ended[life] = true; m.RawSize != 0 {
			f.add("manifest %s: is deleted, and has %d bytes", key, m.RawSize)
		}
		return
	case !v.Readable():
		f.add("manifest %s: has state %q", key, v.State)
		return
	case c.ended[life]:
		f.add("manifest %s: its id %s was deleted, and is back", key, v.ID)
	}
	if _, ok := inv.Markers[name]; !ok {
		f.add("manifest %s: its repository has no marker", key)
	}
	if _, ok := inv.Entries[entryOf(name, v)]; !ok && v.Subject != "" {
		f.add("manifest %s: has no entry among the referrers of %s", key, v.Subject)
	}
	if !c.Lost[key] {
		checkContent(f, key, m)
	}
}

// entryOf returns the key of the entry of a manifest, or nothing if it has no subject.
func entryOf(repository string, m catalog.Manifest) string {
	if m.Subject == "" {
		return ""
	}
	return catalog.EntryKey(repository, m.Subject, m.Digest)
}

// checkContent compares the bytes of a manifest with what it is described as.
func checkContent(f *findings, key string, m Manifest) {
	v, p, of := m.Value, m.Parsed, m.Content.SHA256
	if v.Digest.Algorithm() != of.Algorithm() {
		of = m.Content.SHA512
	}
	if of != v.Digest || m.Content.Size != v.Size {
		f.add("manifest %s: its bytes are %v, want size %d", key, m.Content, v.Size)
	}
	if m.Err != nil || p.MediaType != v.MediaType || p.Subject != v.Subject || p.ArtifactType != v.ArtifactType {
		f.add("manifest %s: is described as %+v, but parsed as %+v, %v", key, v, p, m.Err)
	}
}
