package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/redirect"
)

// immutable is what a cache may do with bytes that are named by their digest.
// Only the caller's own may keep them: others may not be allowed to read them.
const immutable = "private, max-age=31536000, immutable"

// maxRanges is how many ranges of a blob one request may ask for. One that asks
// for more is answered with the whole blob, which
// https://www.rfc-editor.org/rfc/rfc9110#section-14.2 allows: each range may
// cost a request to the store.
const maxRanges = 16

// ServeBlob answers GET or HEAD.
//
// HEAD is answered here: clients want the length and the digest, and a
// signature for GET is not good for HEAD. A GET goes where the redirect policy
// says; the Range header is then the target's business.
func (r *Repository) ServeBlob(ctx context.Context, w http.ResponseWriter, req *http.Request, dgst digest.Digest) error {
	rec, raw, err := r.readable(ctx, dgst, req.Method != http.MethodHead)
	if err != nil {
		return err
	}
	etag, mediaType := `"`+dgst.String()+`"`, sendable(rec.MediaType)
	h := w.Header()
	describe := func() {
		h.Set("Docker-Content-Digest", dgst.String())
		h.Set("Etag", etag)
		h.Set("Cache-Control", immutable)
		h.Set("Content-Type", mediaType)
		h.Set("Accept-Ranges", "bytes")
		// A browser must not run what somebody pushed as a page of this host.
		h.Set("Content-Security-Policy", "sandbox")
		h.Set("X-Content-Type-Options", "nosniff")
	}
	ifMatch := req.Header.Get("If-Match")
	unmatched := ifMatch != "" && !matches(ifMatch, etag, true)
	refuse := func() {
		describe()
		h.Set("Cache-Control", "no-store") // the blob itself is as good as ever
		w.WriteHeader(http.StatusPreconditionFailed)
	}
	switch {
	case !unmatched && matches(req.Header.Get("If-None-Match"), etag, false):
		describe()
		h.Del("Content-Type")
		// What is kept may be a redirect. A cache takes these headers over into
		// it (https://www.rfc-editor.org/rfc/rfc9111#section-4.3.4), and its URL
		// lives no longer for that.
		h.Set("Cache-Control", "private, no-cache")
		w.WriteHeader(http.StatusNotModified)
		return nil
	case unmatched && (req.Method == http.MethodHead || rec.Data == ""):
		refuse()
		return nil
	case req.Method == http.MethodHead:
		describe()
		h.Set("Content-Length", strconv.FormatInt(rec.Size, 10))
		w.WriteHeader(http.StatusOK)
		return nil
	case rec.Data == "":
		describe()
		serveContent(w, req, wantedRanges(req.Header.Get("Range")), bytes.NewReader(raw))
		return nil
	}

	decision, err := r.s.cfg.Redirect.Decide(ctx, r.s.bucket, redirect.Request{
		Repository:  r.name,
		Size:        rec.Size,
		UserAgent:   req.UserAgent(),
		Client:      r.s.cfg.Redirect.ClientAddr(req),
		Key:         rec.Data,
		Unverified:  rec.State == unverified,
		ContentType: mediaType,
	})
	switch {
	case err != nil && ctx.Err() != nil: // there is nobody to answer
		return translate(ctx.Err())
	case err != nil: // the bytes can be had from here all the same
		r.s.cfg.Log.WarnContext(ctx, "no redirect", "digest", dgst, "error", err)
		decision = redirect.Decision{}
	}
	if !decision.Direct() {
		describe()
		h.Del("Content-Type")
		h.Del("Accept-Ranges")
		life := max(time.Until(decision.Expires), 0)
		h.Set("Cache-Control", fmt.Sprintf("private, max-age=%d", int64(life.Seconds())))
		h.Set("Location", decision.URL)
		w.WriteHeader(http.StatusTemporaryRedirect)
		return nil
	}
	if unmatched { // elsewhere the tag may be the target's own
		refuse()
		return nil
	}

	ranges := wantedRanges(req.Header.Get("Range"))
	first, end := oneRange(ranges, rec.Size)
	if first == rec.Size && req.Header.Get("If-Range") != "" { // perhaps all is sent, and must be there
		first, end = 0, rec.Size
	}
	data, err := r.openData(ctx, rec, raw, first, end)
	if err != nil {
		return err
	}
	defer data.Close()
	describe()
	serveContent(w, req, ranges, data)
	if d, ok := data.(*dataReader); ok {
		if err := d.broken(); err != nil {
			// The client sees that the answer is too short, and no more.
			r.s.cfg.Log.ErrorContext(ctx, "a blob was sent in part", "digest", dgst, "error", err)
		}
	}
	return nil
}

// serveContent answers with the bytes, or with these ranges of them, which the
// request asks for.
func serveContent(w http.ResponseWriter, req *http.Request, ranges string, content io.ReadSeeker) {
	if ranges != req.Header.Get("Range") {
		req = req.Clone(req.Context())
		req.Header.Set("Range", ranges)
	}
	http.ServeContent(w, req, "", time.Time{}, content)
}

// wantedRanges is a Range header as net/http understands it, or empty if it is
// to be ignored: of a unit other than bytes, however that is spelled
// (https://www.rfc-editor.org/rfc/rfc9110#section-14.1), or of too many ranges.
// The last no bytes are a range that isn't there
// (https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2), and net/http would
// send them (https://github.com/golang/go/issues/81262).
func wantedRanges(header string) string {
	unit, ranges, ok := strings.Cut(header, "=")
	if !ok || !strings.EqualFold(unit, "bytes") || strings.Count(ranges, ",") >= maxRanges {
		return ""
	}
	specs := strings.Split(ranges, ",")
	for i, spec := range specs {
		from, last, _ := strings.Cut(spec, "-")
		last = strings.TrimSpace(last)
		n, err := strconv.ParseInt(last, 10, 64)
		if strings.TrimSpace(from) == "" && !strings.HasPrefix(last, "-") && err == nil && n == 0 {
			specs[i] = strconv.FormatInt(math.MaxInt64, 10) + "-" // past the end, too
		}
	}
	return "bytes=" + strings.Join(specs, ",")
}

// sendable is the media type, if a header and a URL can carry it. A store would
// refuse each read by a URL that asks for another.
func sendable(mediaType string) string {
	for i := range len(mediaType) {
		if c := mediaType[i]; c < ' ' || c > '~' {
			return defaultMediaType
		}
	}
	return mediaType
}

// matches says whether an If-None-Match header names the tag
// (https://www.rfc-editor.org/rfc/rfc9110#section-13.1.2), or an If-Match
// header, which must be strong: a weak tag doesn't count there. As in net/http,
// neither does what follows something that is no tag.
func matches(header, etag string, strong bool) bool {
	for {
		header = strings.TrimLeft(header, " \t\r\n,")
		if strings.HasPrefix(header, "*") {
			return true
		}
		named, weak := strings.CutPrefix(header, "W/")
		tag, rest := cutTag(named)
		if tag == "" {
			return false
		}
		if tag == etag && (!weak || !strong) {
			return true
		}
		header = rest
	}
}

// cutTag is the tag at the begin of s, with its quotes, and what follows it.
func cutTag(s string) (tag, rest string) {
	if !strings.HasPrefix(s, `"`) {
		return "", ""
	}
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return s[:i+1], s[i+1:]
		case c <= ' ' || c == 0x7f:
			return "", ""
		}
	}
	return "", ""
}

// oneRange is where reading will begin and end, if the header asks for one range.
// It is a guess that saves requests and connections: where it is wrong, the
// reader finds out.
func oneRange(header string, size int64) (first, end int64) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	from, to, isRange := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok || !isRange || strings.Contains(spec, ",") {
		return 0, size
	}
	if from == "" {
		last, err := strconv.ParseInt(to, 10, 64)
		if err != nil || last <= 0 {
			return 0, size
		}
		return max(size-last, 0), size
	}
	first, err := strconv.ParseInt(from, 10, 64)
	switch {
	case err != nil || first < 0:
		return 0, size
	case first >= size: // the answer will be 416
		return size, size
	}
	if last, err := strconv.ParseInt(to, 10, 64); err == nil && first <= last && last < size {
		return first, last + 1
	}
	return first, size
}

// copyAll is io.Copy, with its errors in this package's terms.
func copyAll(w io.Writer, r io.Reader) error {
	_, err := io.Copy(w, r)
	if err != nil && !errors.Is(err, ErrBlobUnknown) {
		err = fmt.Errorf("blobstore: %w", err)
	}
	return translate(err)
}
