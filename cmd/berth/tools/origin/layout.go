package origin

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/errdef"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/manifest"
)

// Layout is an OCI image layout: a directory, or a tar archive of one, as docker save and
// buildkit write it
// (https://github.com/opencontainers/image-spec/blob/main/image-layout.md).
type Layout struct {
	name  string
	store *oci.ReadOnlyStore
	index ocispec.Index
}

// maxIndex is the size in bytes of the largest index.json that is read.
const maxIndex = 4 << 20

// OpenLayout opens a layout.
func OpenLayout(ctx context.Context, name string) (*Layout, error) {
	l := &Layout{name: name}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	var index []byte
	if info.IsDir() {
		if l.store, err = oci.NewFromFS(ctx, os.DirFS(name)); err == nil {
			index, err = os.ReadFile(filepath.Join(name, ocispec.ImageIndexFile))
		}
	} else {
		if l.store, err = oci.NewFromTar(ctx, name); err == nil {
			index, err = readFromTar(name, ocispec.ImageIndexFile)
		}
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("%s is no OCI image layout: want a directory, or a tar archive without compression, with oci-layout and index.json, such as docker save writes since version 25: %w", name, err)
	}
	if err == nil {
		err = json.Unmarshal(index, &l.index)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return l, nil
}

// readFromTar returns the bytes of a file in an archive.
func readFromTar(archive, file string) ([]byte, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := tar.NewReader(f)
	for {
		header, err := r.Next()
		if err == io.EOF {
			return nil, fs.ErrNotExist
		}
		if err != nil {
			return nil, err
		}
		if path.Clean(header.Name) == file {
			return io.ReadAll(io.LimitReader(r, maxIndex))
		}
	}
}

// Root returns the digest of the manifest in index.json that has this name. If name is
// empty, it returns the only one. If there are several, it returns the one that is called
// tag.
func (l *Layout) Root(name, tag string) (string, error) {
	var names []string
	for _, desc := range l.index.Manifests {
		called := desc.Annotations[ocispec.AnnotationRefName]
		if called == "" {
			called = string(desc.Digest)
		}
		names = append(names, called)
		if name != "" && (name == called || name == string(desc.Digest)) || name == "" && len(l.index.Manifests) == 1 {
			return string(desc.Digest), nil
		}
	}
	for i, desc := range l.index.Manifests {
		if name == "" && tag != "" && names[i] == tag {
			return string(desc.Digest), nil
		}
	}
	if name != "" {
		return "", fmt.Errorf("%s: %w: %q (--ref is one of: %s)", l.name, blobstore.ErrManifestUnknown, name, strings.Join(names, ", "))
	}
	return "", fmt.Errorf("%s has %d images: choose one with --ref: %s", l.name, len(names), strings.Join(names, ", "))
}

// Manifest returns a manifest by its digest. It returns blobstore.ErrManifestUnknown if
// there is none.
func (l *Layout) Manifest(ctx context.Context, ref string) (blobstore.Manifest, error) {
	desc, err := l.store.Resolve(ctx, ref)
	if errors.Is(err, errdef.ErrNotFound) {
		return blobstore.Manifest{}, fmt.Errorf("%w: %s in %s", blobstore.ErrManifestUnknown, ref, l.name)
	}
	if err != nil {
		return blobstore.Manifest{}, fmt.Errorf("%s: %w", l.name, err)
	}
	rc, err := l.store.Fetch(ctx, desc)
	if err != nil {
		return blobstore.Manifest{}, fmt.Errorf("%s: %w", l.name, err)
	}
	defer rc.Close()
	m, err := readManifest(desc, rc)
	if err == nil {
		m.MediaType, err = MediaTypeOf(m.Content)
	}
	return m, err
}

// MediaTypeOf returns the media type of a manifest from its field mediaType. Images and
// indexes of OCI may have none, and are then told apart by their other fields.
func MediaTypeOf(content []byte) (string, error) {
	var doc struct {
		MediaType string          `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(content, &doc); err != nil {
		return "", fmt.Errorf("no manifest: %w", err)
	}
	switch {
	case doc.MediaType != "":
		return doc.MediaType, nil
	case doc.Manifests != nil:
		return manifest.MediaTypeIndex, nil
	}
	return manifest.MediaTypeImage, nil
}

// Open returns the bytes of a blob from off. It returns blobstore.ErrBlobUnknown if there
// is no such blob.
func (l *Layout) Open(ctx context.Context, desc blobstore.Descriptor, off int64) (io.ReadCloser, error) {
	rc, err := l.store.Fetch(ctx, describe(desc))
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s in %s", blobstore.ErrBlobUnknown, desc.Digest, l.name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.name, err)
	}
	return from(rc, off)
}

// Mount mounts the blob from any repository of the bucket that has it.
func (l *Layout) Mount(ctx context.Context, to *blobstore.Repository, d digest.Digest) error {
	return mountAny(ctx, to, d)
}

// Referrers returns the digests of the manifests with this subject.
func (l *Layout) Referrers(ctx context.Context, subject blobstore.Descriptor) iter.Seq2[digest.Digest, error] {
	return func(yield func(digest.Digest, error) bool) {
		parents, err := l.store.Predecessors(ctx, describe(subject))
		if err != nil {
			yield("", fmt.Errorf("%s: %w", l.name, err))
			return
		}
		for _, parent := range parents { // of which some are indexes that name the subject
			m, err := l.Manifest(ctx, string(parent.Digest))
			var parsed manifest.Manifest
			if err == nil {
				parsed, err = manifest.Parse(m.MediaType, m.Content)
			}
			if (err != nil || parsed.Subject == subject.Digest) && !yield(parent.Digest, err) {
				return
			}
		}
	}
}
