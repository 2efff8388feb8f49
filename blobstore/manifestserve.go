package blobstore

import (
	"context"
	"errors"
	"net/http"
)

// ServeManifest answers a GET or HEAD with a manifest. See [ManifestServer].
func (m *Manifests) ServeManifest(ctx context.Context, w http.ResponseWriter, r *http.Request, ref string) error {
	return errors.ErrUnsupported
}
