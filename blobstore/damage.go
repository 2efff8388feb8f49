package blobstore

import (
	"context"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/berthhq/berth/blobstore/catalog"
)

// verify returns ErrManifestUnknown if the bytes of a stored manifest do not have its
// digest, so that clients push the manifest again. That replaces its bytes.
func (m *Manifests) verify(ctx context.Context, stored catalog.StoredManifest, content []byte) error {
	d := stored.Value.Digest
	if d.Validate() == nil && d.Algorithm().FromBytes(content) == d {
		return nil
	}
	m.reportDamage(ctx, stored)
	return errUnknownManifest(d)
}

// reportDamage logs that the bytes of a stored manifest are damaged. Later reads do not
// find the manifest.
func (m *Manifests) reportDamage(ctx context.Context, stored catalog.StoredManifest) {
	d := stored.Value.Digest
	m.s.damaged.Add(manifestID{m.repository, d}, stored.Object.Tag)
	m.s.cache.forgetManifest(manifestID{m.repository, d})
	m.s.cfg.Log.ErrorContext(ctx, "the stored bytes of a manifest are damaged: push it again", "repository", m.repository, "digest", d)
}

// checkDamage returns ErrManifestUnknown if this process has found the bytes of this
// version of a manifest to be damaged. The bytes of a long manifest are hashed only as
// they are sent.
func (m *Manifests) checkDamage(stored catalog.StoredManifest) error {
	d := stored.Value.Digest
	if tag, ok := m.s.damaged.Get(manifestID{m.repository, d}); ok && tag == stored.Object.Tag {
		return errUnknownManifest(d)
	}
	return nil
}

// damagedManifests is the tags of the versions of manifests that are damaged. A push of
// the manifest makes another version.
type damagedManifests = lru.Cache[manifestID, string]

// maxDamaged is the number of manifests in damagedManifests.
const maxDamaged = 1000

func newDamagedManifests() (*damagedManifests, error) { return lru.New[manifestID, string](maxDamaged) }
