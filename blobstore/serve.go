package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
)

// immutable is what a cache may do with bytes that are named by their digest.
// It must be the client's own, since other clients may not be allowed to read
// them.
const immutable = "private, max-age=31536000, immutable"

// ServeBlob answers GET or HEAD.
//
// HEAD is answered here: clients want the length and the digest, and a
// signature for GET is not good for HEAD. A GET goes where the redirect policy
// says, unless its Range or its conditions mean something here that they don't
// mean there. If its Range header asks for nothing that the blob has, it returns
// an [ErrRange].
func (r *Repository) ServeBlob(ctx context.Context, w http.ResponseWriter, req *http.Request, dgst digest.Digest) error {
	rec, raw, err := r.readable(ctx, dgst, req.Method != http.MethodHead)
	if err != nil {
		return err
	}
	b := found{rec: rec, raw: raw, digest: dgst, mediaType: sendable(rec.MediaType)}
	a, err := r.plan(ctx, req, b)
	if err != nil {
		return err
	}
	h := w.Header()
	switch a.status {
	case http.StatusNotModified:
		b.describe(h)
		h.Del("Content-Type")
		// What is kept may be a redirect. A cache takes these headers over into
		// it (https://www.rfc-editor.org/rfc/rfc9111#section-4.3.4), and its URL
		// lives no longer for that.
		h.Set("Cache-Control", "private, no-cache")
	case http.StatusPreconditionFailed:
		b.describe(h)
		h.Set("Cache-Control", "no-store") // the blob itself is as good as ever
	case http.StatusTemporaryRedirect:
		b.describe(h)
		h.Del("Etag") // the target has its own
		h.Del("Content-Type")
		h.Del("Accept-Ranges")
		life := max(time.Until(a.redirect.Expires), 0)
		h.Set("Cache-Control", fmt.Sprintf("private, max-age=%d", int64(life.Seconds())))
		h.Set("Location", a.redirect.URL)
	default:
		if req.Method != http.MethodHead {
			return r.send(ctx, w, b, a)
		}
		b.describe(h)
		if a.elsewhere {
			h.Del("Etag")
		}
		h.Set("Content-Length", strconv.FormatInt(rec.Size, 10))
	}
	w.WriteHeader(a.status)
	return nil
}

// found is a blob by the digest that the client asked for.
type found struct {
	rec       catalog.Record
	raw       []byte // of an inline blob
	digest    digest.Digest
	mediaType string
}

// etag returns the entity tag of the answers that have the bytes in them.
// A store has tags of its own, and a CDN passes on the store's or makes others.
func (b found) etag() string { return `"` + b.digest.String() + `"` }

func (b found) describe(h http.Header) {
	h.Set("Docker-Content-Digest", b.digest.String())
	h.Set("Etag", b.etag())
	h.Set("Cache-Control", immutable)
	h.Set("Content-Type", b.mediaType)
	h.Set("Accept-Ranges", "bytes")
	// A browser must not run what a client pushed as a page of this host.
	h.Set("Content-Security-Policy", "sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
}

// send answers with the blob, or with spans of it.
func (r *Repository) send(ctx context.Context, w http.ResponseWriter, b found, a reply) error {
	spans, size := a.spans, b.rec.Size
	if spans == nil {
		spans = []span{{0, size}}
	}
	reads := planReads(spans)
	data, err := r.openData(ctx, b.rec, b.raw, reads[0].start, reads[0].end)
	if err != nil {
		return err
	}
	defer data.Close()
	h := w.Header()
	b.describe(h)
	if len(spans) == 1 {
		if a.status == http.StatusPartialContent {
			h.Set("Content-Range", spans[0].contentRange(size))
		}
		h.Set("Content-Length", strconv.FormatInt(spans[0].end-spans[0].start, 10))
		w.WriteHeader(a.status)
		err = copySpan(data, w, spans[0])
	} else {
		body := newByteranges(spans, b.mediaType, size)
		h.Set("Content-Type", body.contentType())
		h.Set("Content-Length", strconv.FormatInt(body.length(), 10))
		w.WriteHeader(a.status)
		err = body.send(w, spanCopier(data, reads))
	}
	if d, ok := data.(*dataReader); ok && err != nil {
		if err := d.broken(); err != nil {
			// The client sees that the answer is too short, and no more.
			r.s.cfg.Log.ErrorContext(ctx, "a blob was sent in part", "digest", b.digest, "error", err)
		}
	}
	return nil
}

// sendable returns the media type if a header and a URL can carry it, and the
// default otherwise. A store would refuse each read by a URL that asks for
// another type.
func sendable(mediaType string) string {
	for i := range len(mediaType) {
		if c := mediaType[i]; c < ' ' || c > '~' {
			return defaultMediaType
		}
	}
	return mediaType
}

// copyAll is io.Copy, with its errors in this package's terms.
func copyAll(w io.Writer, r io.Reader) error {
	_, err := io.Copy(w, r)
	if err != nil && !errors.Is(err, ErrBlobUnknown) {
		err = fmt.Errorf("blobstore: %w", err)
	}
	return translate(err)
}
