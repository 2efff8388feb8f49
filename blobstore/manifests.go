package blobstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/manifest"
)

// Manifests is the manifests of one repository. It is safe for concurrent use.
// [Repository.Manifests] returns it.
type Manifests struct {
	s          *Store
	repository string
	readOnly   bool // see Repository.ReadOnly
}

// Put stores a manifest and moves tags to it. See [ManifestService]. It also returns
// ErrManifestTooLarge, ErrTagInvalid and ErrBlobInvalidDigest.
//
// If it returns ErrUnavailable, the manifest may have been stored, and some of the tags
// may have been moved. With a condition, a retry then may find that the tag names the
// manifest already.
func (m *Manifests) Put(ctx context.Context, put ManifestPut) (ManifestDescriptor, error) {
	due := m.s.newDeadline()
	ctx, cancel := due.Context(ctx)
	defer cancel()
	parsed, dgst, err := m.check(put)
	if err != nil {
		return ManifestDescriptor{}, err
	}
	p := &push{
		m: m, due: due,
		references: parsed.References,
		content:    put.Content,
		want: catalog.Manifest{
			Digest:       dgst,
			Size:         int64(len(put.Content)),
			MediaType:    parsed.MediaType,
			Subject:      parsed.Subject,
			ArtifactType: parsed.ArtifactType,
			State:        catalog.Live,
		},
	}
	p.moveTags(put.Tags, put.Condition)
	if err := p.run(ctx); err != nil {
		return ManifestDescriptor{}, publicError(err)
	}
	return describeManifest(p.want), nil
}

// check parses a manifest, and returns its digest. It sends no request.
func (m *Manifests) check(put ManifestPut) (manifest.Manifest, digest.Digest, error) {
	if limit := m.s.cfg.Manifests.MaxSize; int64(len(put.Content)) > limit {
		return manifest.Manifest{}, "", ErrManifestTooLarge{limit}
	}
	if len(put.Tags) > MaxTags {
		return manifest.Manifest{}, "", fmt.Errorf("%w: %d tags, want at most %d", ErrTagInvalid, len(put.Tags), MaxTags)
	}
	for _, tag := range put.Tags {
		if err := checkTag(tag); err != nil {
			return manifest.Manifest{}, "", err
		}
	}
	dgst := put.Digest
	if dgst == "" {
		dgst = digest.FromBytes(put.Content)
	}
	if err := checkDigest(dgst); err != nil {
		return manifest.Manifest{}, "", err
	}
	if dgst.Algorithm().FromBytes(put.Content) != dgst {
		return manifest.Manifest{}, "", ErrBlobInvalidDigest{dgst, errors.New("it is not the digest of the manifest")}
	}
	parsed, err := manifest.Parse(put.MediaType, put.Content)
	if invalid, ok := errors.AsType[*manifest.InvalidError](err); ok {
		err = ErrManifestInvalid{invalid.Reason}
	}
	return parsed, dgst, err
}

func describeManifest(m catalog.Manifest) ManifestDescriptor {
	return ManifestDescriptor{
		Descriptor:   Descriptor{MediaType: m.MediaType, Size: m.Size, Digest: m.Digest},
		ArtifactType: m.ArtifactType,
		Subject:      m.Subject,
	}
}

// moveTags adds the tags that the push moves.
func (p *push) moveTags(tags []string, cond TagCondition) {
	immutable := p.m.s.immutable.of(p.m.repository)
	for _, tag := range slices.Compact(slices.Sorted(slices.Values(tags))) {
		p.moves = append(p.moves, &move{tag: tag, cond: cond, immutable: immutable.match(tag)})
	}
}
