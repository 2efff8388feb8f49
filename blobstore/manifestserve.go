package blobstore

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/activity"
	"github.com/berthhq/berth/blobstore/internal/header"
)

// ServeManifest answers a GET or HEAD with a manifest. See [ManifestServer]. The
// reference is a digest if it contains a colon, which no tag does.
//
// A HEAD takes the collector's mark off the manifest, unless the repository is
// [Repository.ReadOnly], because a client that was told that the manifest exists may
// refer to it without pushing it.
func (m *Manifests) ServeManifest(ctx context.Context, w http.ResponseWriter, r *http.Request, ref string) error {
	isHead := r.Method == http.MethodHead
	found, isTag, err := m.findReference(ctx, ref, !isHead)
	if err != nil {
		return publicError(err)
	}
	defer found.close()
	if isHead && !m.readOnly {
		kept, err := m.unmark(ctx, found)
		if errors.Is(err, ErrManifestUnknown) && isTag { // it may name another manifest by now
			return m.ServeManifest(ctx, w, r, ref)
		}
		if err != nil {
			return publicError(err)
		}
		found.StoredManifest = kept.StoredManifest
	}
	status := manifestStatus(r.Header, found.Value.Digest)
	found.setHeaders(w.Header(), status, isTag)
	w.WriteHeader(status)
	if isHead || status != http.StatusOK {
		return nil
	}
	pull := activity.Event{Action: activity.Pull, Manifest: true, Repository: m.repository,
		Digest: found.Value.Digest.String(), MediaType: found.Value.MediaType, Size: found.Value.Size}
	if isTag {
		pull.Tag = ref
	}
	activity.Of(ctx).Add(pull)
	m.send(ctx, w, found)
	return nil
}

// findReference returns the manifest that a tag or a digest names, and reports whether
// it is a tag.
func (m *Manifests) findReference(ctx context.Context, ref string, wantBytes bool) (found foundManifest, isTag bool, err error) {
	if strings.Contains(ref, ":") {
		found, err = m.find(ctx, digest.Digest(ref), wantBytes)
		return found, false, err
	}
	_, found, err = (&Tags{m.s, m.repository, m.readOnly}).resolve(ctx, ref, wantBytes)
	return found, true, err
}

// manifestStatus returns the status that the conditions of a request lead to. A client
// may send the digest as If-None-Match without quotes, as some do.
func manifestStatus(h http.Header, d digest.Digest) int {
	c := header.ParseConditions(h, `"`+d.String()+`"`)
	switch {
	case c.IfMatch == header.OtherTag:
		return http.StatusPreconditionFailed
	case c.IfNoneMatch.Matches(), h.Get("If-None-Match") == d.String():
		return http.StatusNotModified
	default:
		return http.StatusOK
	}
}

// setHeaders sets the headers of a response with this status. A response by tag must be
// asked for again, because the tag may be moved.
func (f foundManifest) setHeaders(h http.Header, status int, isTag bool) {
	h.Set("Docker-Content-Digest", f.Value.Digest.String())
	h.Set("Etag", `"`+f.Value.Digest.String()+`"`)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", immutable)
	if isTag {
		h.Set("Cache-Control", "no-cache")
	}
	if status == http.StatusPreconditionFailed {
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Length", "0")
	}
	if status == http.StatusOK {
		h.Set("Content-Type", f.Value.MediaType)
		h.Set("Content-Length", strconv.FormatInt(f.Value.Size, 10))
	}
}

// send sends the bytes of a manifest. Those of a long one are hashed as they are sent. If
// they turn out to be damaged, the last ones are not sent, and net/http drops the
// connection because the response is too short.
func (m *Manifests) send(ctx context.Context, w http.ResponseWriter, found foundManifest) {
	if found.long == nil {
		_, _ = w.Write(found.Raw) // an error means that the client has disconnected
		return
	}
	verifier := found.Value.Digest.Verifier()
	buf := make([]byte, 32<<10)
	for left := found.RawSize; left > 0; {
		chunk := buf[:min(left, int64(len(buf)))]
		if _, err := io.ReadFull(found.long, chunk); err != nil {
			if ctx.Err() == nil {
				m.s.cfg.Log.ErrorContext(ctx, "a manifest was sent only in part",
					"repository", m.repository, "digest", found.Value.Digest, "error", err)
			}
			return
		}
		_, _ = verifier.Write(chunk) // a hash never fails
		left -= int64(len(chunk))
		if left == 0 && !verifier.Verified() {
			m.reportDamage(ctx, found.StoredManifest)
			return
		}
		if _, err := w.Write(chunk); err != nil {
			return // the client has disconnected
		}
	}
}
