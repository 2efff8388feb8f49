package blobstore

import (
	"context"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/activity"
	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/header"
	"github.com/berthhq/berth/redirect"
)

// readPlan is how a GET or HEAD of a blob is answered, before anything is
// written. A Range that the blob does not have is an error instead.
type readPlan struct {
	status   int               // 200, 206, 304, 307 or 412
	redirect redirect.Decision // of 307
	spans    []header.Span     // of 206

	// redirected reports, for a HEAD, that a GET would be redirected.
	redirected bool
}

// planRead decides how a read is answered
// (https://www.rfc-editor.org/rfc/rfc9110#section-13.2.2).
//
// The target of a redirect has an entity tag of its own, which this service does
// not know. So a client that sends the tag of this service is answered here, and
// a client that sends another tag is redirected, if there is a target, because
// the target may know the tag. Conditions about dates are left to the target:
// no response of this service has a Last-Modified.
func (r *Repository) planRead(ctx context.Context, req *http.Request, b foundBlob) (readPlan, error) {
	read := redirect.Request{
		Repository:  r.name,
		Size:        b.rec.Size,
		UserAgent:   req.UserAgent(),
		Client:      r.s.cfg.Redirect.ClientAddr(req),
		Key:         b.rec.Data,
		Unverified:  b.rec.State == catalog.Unverified,
		ContentType: b.mediaType,
	}
	cond := header.ParseConditions(req.Header, b.etag())
	isHead, otherTag := req.Method == http.MethodHead, cond.IfMatch == header.OtherTag
	redirected := (isHead || otherTag) && r.s.cfg.Redirect.Redirects(read, r.s.signs)
	switch {
	case otherTag && !redirected:
		return readPlan{status: http.StatusPreconditionFailed}, nil
	case !otherTag && cond.IfNoneMatch.Matches():
		return readPlan{status: http.StatusNotModified}, nil
	case isHead:
		return readPlan{status: http.StatusOK, redirected: redirected}, nil
	}
	return r.planGet(ctx, req, b, read, cond)
}

// planGet decides how a GET is answered if its conditions allow an answer with
// the blob.
func (r *Repository) planGet(ctx context.Context, req *http.Request, b foundBlob, read redirect.Request, cond header.Conditions) (readPlan, error) {
	want := header.Ranges{Plain: true}
	if cond.IfRange != header.OtherTag {
		var ok bool
		if want, ok = header.ParseRange(req.Header.Get("Range"), b.rec.Size); !ok {
			return readPlan{}, ErrRange{b.rec.Size}
		}
	}
	if cond.IfMatch != header.ThisTag && cond.IfRange != header.ThisTag {
		read.Ranges = !want.Plain && cond.IfMatch != header.OtherTag
		decision, err := r.s.decide(ctx, read, b.digest)
		if err != nil {
			return readPlan{}, err
		}
		if !decision.Direct() {
			return readPlan{status: http.StatusTemporaryRedirect, redirect: decision}, nil
		}
	}
	switch {
	case cond.IfMatch == header.OtherTag: // the URL could not be signed
		return readPlan{status: http.StatusPreconditionFailed}, nil
	case want.Spans == nil:
		return readPlan{status: http.StatusOK}, nil
	}
	return readPlan{status: http.StatusPartialContent, spans: want.Spans}, nil
}

// decide returns where a read is redirected to, if it is. If the signer fails,
// the read is served directly.
func (s *Store) decide(ctx context.Context, read redirect.Request, dgst digest.Digest) (redirect.Decision, error) {
	decision, err := s.cfg.Redirect.Decide(ctx, s.bucket, read)
	switch {
	case err != nil && ctx.Err() != nil: // the client disconnected
		return redirect.Decision{}, publicError(ctx.Err())
	case err != nil:
		s.cfg.Log.WarnContext(ctx, "no redirect", "digest", dgst, "error", err)
		return redirect.Decision{}, nil
	}
	if !decision.Direct() {
		activity.Of(ctx).Redirected(decision.Target)
	}
	return decision, nil
}
