// Package origin opens what images are copied from: other registries, and OCI image layouts
// on disk. It uses the client of oras, which needs few other modules, also for the
// credentials of docker.
package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"

	"github.com/berthhq/berth/blobstore"
)

// maxManifest is the size in bytes of the largest manifest that is read. Larger ones
// cannot be stored.
const maxManifest = 64 << 20

// Registry is a repository of another registry.
type Registry struct {
	repo *remote.Repository
}

// RegistryConfig says how to reach a registry.
type RegistryConfig struct {
	// PlainHTTP uses HTTP without TLS. A registry on this host is always reached so,
	// unless TLS is set.
	PlainHTTP bool
	TLS       bool

	UserAgent string
}

// OpenRegistry opens the repository that is named by HOST/REPOSITORY, HOST/REPOSITORY:TAG
// or HOST/REPOSITORY@DIGEST, and returns the tag or digest, which may be empty. It sends
// no request. Credentials are those of docker login, from its configuration file or
// credential helper.
func OpenRegistry(name string, cfg RegistryConfig) (r *Registry, ref string, err error) {
	host, path, _ := strings.Cut(name, "/")
	if host == "docker.io" && path != "" && !strings.Contains(path, "/") {
		name = host + "/library/" + path
	}
	parsed, err := registry.ParseReference(name)
	if err != nil {
		return nil, "", fmt.Errorf("docker://%.300s: want docker://HOST/REPOSITORY:TAG or docker://HOST/REPOSITORY@DIGEST: %w", name, err)
	}
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return nil, "", fmt.Errorf("the credentials of docker: %w", err)
	}
	client := &auth.Client{
		Client:     retry.NewClient(),
		Cache:      auth.NewCache(),
		Credential: credentials.Credential(store),
		Header:     http.Header{"User-Agent": {cfg.UserAgent}},
	}
	repo := &remote.Repository{Client: client, Reference: parsed, PlainHTTP: cfg.PlainHTTP}
	if isLoopback(parsed.Registry) {
		repo.PlainHTTP = !cfg.TLS
		client.BlockedRealmPrefixes = []netip.Prefix{} // its token service may be on this host too
	}
	return &Registry{repo}, parsed.Reference, nil
}

// isLoopback reports whether a host, with or without a port, is this one.
func isLoopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Manifest returns a manifest by its tag or digest. It returns
// blobstore.ErrManifestUnknown if there is none.
func (r *Registry) Manifest(ctx context.Context, ref string) (blobstore.Manifest, error) {
	desc, rc, err := r.repo.Manifests().FetchReference(ctx, ref)
	if errors.Is(err, errdef.ErrNotFound) {
		return blobstore.Manifest{}, fmt.Errorf("%w: %s at %s", blobstore.ErrManifestUnknown, ref, r.repo.Reference.Registry)
	}
	if err != nil {
		return blobstore.Manifest{}, r.explain(err)
	}
	defer rc.Close()
	return readManifest(desc, rc)
}

// readManifest reads a manifest, and checks its size and digest.
func readManifest(desc ocispec.Descriptor, r io.Reader) (blobstore.Manifest, error) {
	if desc.Size > maxManifest {
		return blobstore.Manifest{}, fmt.Errorf("manifest %s has %d bytes, want at most %d", desc.Digest, desc.Size, maxManifest)
	}
	p, err := content.ReadAll(r, desc)
	if err != nil {
		return blobstore.Manifest{}, fmt.Errorf("read manifest %s: %w", desc.Digest, err)
	}
	return blobstore.Manifest{
		Descriptor: blobstore.Descriptor{MediaType: desc.MediaType, Size: desc.Size, Digest: desc.Digest},
		Content:    p,
	}, nil
}

// Open returns the bytes of a blob from off. It returns blobstore.ErrBlobUnknown if there
// is no such blob.
func (r *Registry) Open(ctx context.Context, desc blobstore.Descriptor, off int64) (io.ReadCloser, error) {
	rc, err := r.repo.Blobs().Fetch(ctx, describe(desc))
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s at %s", blobstore.ErrBlobUnknown, desc.Digest, r.repo.Reference.Registry)
	}
	if err != nil {
		return nil, r.explain(err)
	}
	return from(rc, off)
}

// from skips the bytes before off.
func from(rc io.ReadCloser, off int64) (_ io.ReadCloser, err error) {
	if off == 0 {
		return rc, nil
	}
	if seeker, ok := rc.(io.Seeker); ok {
		_, err = seeker.Seek(off, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, rc, off)
	}
	if err != nil {
		return nil, errors.Join(err, rc.Close())
	}
	return rc, nil
}

func describe(desc blobstore.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
}

// Mount mounts the blob from any repository of the bucket that has it.
func (r *Registry) Mount(ctx context.Context, to *blobstore.Repository, d digest.Digest) error {
	return mountAny(ctx, to, d)
}

// mountAny mounts the blob from any repository of the bucket that has it. A person with
// the bucket's credentials may read all of them.
func mountAny(ctx context.Context, to *blobstore.Repository, d digest.Digest) error {
	_, err := to.MountAny(ctx, d, func(context.Context, string) bool { return true })
	return err
}

var errStop = errors.New("stop")

// Referrers returns the digests of the manifests with this subject, also those that an old
// registry lists under a tag.
func (r *Registry) Referrers(ctx context.Context, subject blobstore.Descriptor) iter.Seq2[digest.Digest, error] {
	return func(yield func(digest.Digest, error) bool) {
		err := r.repo.Referrers(ctx, describe(subject), "", func(page []ocispec.Descriptor) error {
			for _, desc := range page {
				if !yield(desc.Digest, nil) {
					return errStop
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield("", r.explain(err))
		}
	}
}

// explain adds what to do to an error of the registry.
func (r *Registry) explain(err error) error {
	host := r.repo.Reference.Registry
	switch text := err.Error(); {
	case strings.Contains(text, "401") || strings.Contains(text, "403") || errors.Is(err, auth.ErrBasicCredentialNotFound):
		return fmt.Errorf("%w (docker login %s stores credentials)", err, host)
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return fmt.Errorf("%w (use --src-plain-http)", err)
	}
	return err
}
