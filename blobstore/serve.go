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

	"github.com/berthhq/berth/blobstore/activity"
	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/header"
)

// immutable is the Cache-Control of a blob: its bytes never change, because their
// digest names them. Only the client's own cache may store them, because other
// clients may not be allowed to read them.
const immutable = "private, max-age=31536000, immutable"

// ErrRange reports that a Range header is malformed, or that none of its ranges
// is in the blob.
type ErrRange struct {
	Size int64 // of the blob, in bytes
}

func (err ErrRange) Error() string {
	return fmt.Sprintf("no such range in a blob of %d bytes", err.Size)
}

// ServeBlob answers a GET or HEAD of a blob. It either writes a response and
// returns nil, or writes nothing and returns an error. It returns an [ErrRange]
// if the blob has none of the bytes that a Range header asks for.
//
// A HEAD takes the collector's marks off the blob, unless the repository is
// [Repository.ReadOnly]. It is never redirected: clients need the size and the digest, and a URL
// that is signed for GET does not work for HEAD. A GET is redirected as the
// redirect policy decides, unless the target would answer its Range or its
// conditions differently from this service.
func (r *Repository) ServeBlob(ctx context.Context, w http.ResponseWriter, req *http.Request, dgst digest.Digest) error {
	isHead := req.Method == http.MethodHead
	found, err := r.readable(ctx, dgst, !isHead)
	if err != nil {
		return err
	}
	if isHead && !r.readOnly {
		if err := r.links().keep(ctx, dgst, found); err != nil {
			return err
		}
	}
	b := foundBlob{rec: found.Record, raw: found.raw, digest: dgst, mediaType: headerSafeMediaType(found.MediaType)}
	p, err := r.planRead(ctx, req, b)
	if err != nil {
		return err
	}
	if !isHead && p.isPull() {
		activity.Of(ctx).Add(activity.Event{
			Action: activity.Pull, Repository: r.name, Digest: dgst.String(), MediaType: b.mediaType, Size: found.Size})
	}
	if (p.status == http.StatusOK || p.status == http.StatusPartialContent) && !isHead {
		return r.links().sendBlob(ctx, w, b, p)
	}
	b.setHeaders(w.Header(), p)
	if p.status == http.StatusOK {
		w.Header().Set("Content-Length", strconv.FormatInt(found.Size, 10))
	}
	w.WriteHeader(p.status)
	return nil
}

// foundBlob is a blob, with the digest that the client requested it by.
type foundBlob struct {
	rec       catalog.Record
	raw       []byte // of an inline blob
	digest    digest.Digest
	mediaType string
}

// etag returns the entity tag of responses that contain the bytes. The responses
// of a store or a CDN have other tags.
func (b foundBlob) etag() string { return `"` + b.digest.String() + `"` }

// setHeaders sets the headers of the planned response, except those that depend
// on its length.
func (b foundBlob) setHeaders(h http.Header, p readPlan) {
	h.Set("Docker-Content-Digest", b.digest.String())
	// A browser must not run pushed content as a page of this host.
	h.Set("Content-Security-Policy", "sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", p.cacheControl())

	if p.status == http.StatusTemporaryRedirect {
		h.Set("Location", p.redirect.URL)
		return // the target sends the headers below
	}
	h.Set("Accept-Ranges", "bytes")
	if !p.redirected {
		h.Set("Etag", b.etag())
	}
	if p.status != http.StatusNotModified {
		h.Set("Content-Type", b.mediaType)
	}
}

// isPull reports whether a GET with this plan gives the client bytes of the blob.
func (p readPlan) isPull() bool {
	return p.status == http.StatusOK || p.status == http.StatusPartialContent || p.status == http.StatusTemporaryRedirect
}

func (p readPlan) cacheControl() string {
	switch p.status {
	case http.StatusTemporaryRedirect:
		life := max(time.Until(p.redirect.Expires), 0)
		return fmt.Sprintf("private, max-age=%d", int64(life.Seconds()))
	case http.StatusNotModified:
		// The cached response may be a redirect. A cache updates it with these
		// headers (https://www.rfc-editor.org/rfc/rfc9111#section-4.3.4), but that
		// does not extend the life of its URL.
		return "private, no-cache"
	case http.StatusPreconditionFailed:
		return "no-store" // the blob itself can still be read
	default:
		return immutable
	}
}

// sendBlob answers with the blob or with the planned spans of it.
func (l links) sendBlob(ctx context.Context, w http.ResponseWriter, b foundBlob, p readPlan) error {
	spans, size := p.spans, b.rec.Size
	if spans == nil {
		spans = []header.Span{{Start: 0, End: size}}
	}
	reads := planReads(spans)
	data, err := l.openData(ctx, b.rec, b.raw, reads[0].Start, reads[0].End)
	if err != nil {
		return err
	}
	defer data.Close()
	h := w.Header()
	b.setHeaders(h, p)
	if len(spans) == 1 {
		if p.status == http.StatusPartialContent {
			h.Set("Content-Range", spans[0].ContentRange(size))
		}
		h.Set("Content-Length", strconv.FormatInt(spans[0].Len(), 10))
		w.WriteHeader(p.status)
		err = copySpan(data, w, spans[0])
	} else {
		body := newByteranges(spans, b.mediaType, size)
		h.Set("Content-Type", body.contentType())
		h.Set("Content-Length", strconv.FormatInt(body.length(), 10))
		w.WriteHeader(p.status)
		err = body.send(w, spanCopier(data, reads))
	}
	if d, ok := data.(*dataReader); ok && err != nil {
		if err := d.failure(); err != nil {
			// The client only sees that the response is too short.
			l.s.cfg.Log.ErrorContext(ctx, "a blob was sent only in part", "digest", b.digest, "error", err)
		}
	}
	return nil
}

// headerSafeMediaType returns the media type if it can be sent in a header and in
// a URL. Otherwise it returns the default media type, because a store refuses
// signed URLs that request a media type with other characters.
func headerSafeMediaType(mediaType string) string {
	for i := range len(mediaType) {
		if c := mediaType[i]; c < ' ' || c > '~' {
			return defaultMediaType
		}
	}
	return mediaType
}

// copyAll is io.Copy, except that it returns the errors of this package.
func copyAll(w io.Writer, r io.Reader) error {
	_, err := io.Copy(w, r)
	if err != nil && !errors.Is(err, ErrBlobUnknown) {
		err = fmt.Errorf("blobstore: %w", err)
	}
	return publicError(err)
}
