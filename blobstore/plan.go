package blobstore

import (
	"context"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/redirect"
)

// reply is how a read is answered.
type reply struct {
	status    int
	elsewhere bool              // of a HEAD: a GET would be redirected
	redirect  redirect.Decision // of a 307
	spans     []span            // of a 206
}

// plan decides how a read is answered, and writes nothing
// (https://www.rfc-editor.org/rfc/rfc9110#section-13.2.2).
//
// The target of a redirect has an entity tag that is unknown here. So a client
// that names the tag of this service is answered here, and one that names
// another tag is sent to the target, if there is one, which may know it. Dates
// are the target's alone: no answer from here has a Last-Modified.
func (r *Repository) plan(ctx context.Context, req *http.Request, b found) (reply, error) {
	read := redirect.Request{
		Repository:  r.name,
		Size:        b.rec.Size,
		UserAgent:   req.UserAgent(),
		Client:      r.s.cfg.Redirect.ClientAddr(req),
		Key:         b.rec.Data,
		Unverified:  b.rec.State == catalog.Unverified,
		ContentType: b.mediaType,
	}
	head, cond := req.Method == http.MethodHead, readConditions(req.Header, b.etag())
	elsewhere := (head || cond.ifMatch == otherTag) && r.s.cfg.Redirect.Redirects(read, r.s.signs)
	switch {
	case cond.ifMatch == otherTag && !elsewhere:
		return reply{status: http.StatusPreconditionFailed}, nil
	case cond.ifMatch != otherTag && cond.ifNoneMatch >= anyTag:
		return reply{status: http.StatusNotModified}, nil
	case head:
		return reply{status: http.StatusOK, elsewhere: elsewhere}, nil
	}

	want := wanted{plain: true}
	if cond.ifRange != otherTag {
		var err error
		if want, err = parseRange(req.Header.Get("Range"), b.rec.Size); err != nil {
			return reply{}, err
		}
	}
	if cond.ifMatch != thisTag && cond.ifRange != thisTag {
		read.Ranges = !want.plain && cond.ifMatch != otherTag
		decision, err := r.decide(ctx, read, b.digest)
		if err != nil {
			return reply{}, err
		}
		if !decision.Direct() {
			return reply{status: http.StatusTemporaryRedirect, redirect: decision}, nil
		}
	}
	switch {
	case cond.ifMatch == otherTag: // there is no target after all
		return reply{status: http.StatusPreconditionFailed}, nil
	case want.spans == nil:
		return reply{status: http.StatusOK}, nil
	}
	return reply{status: http.StatusPartialContent, spans: want.spans}, nil
}

// decide decides whether a read is redirected. A signer that fails is no reason
// to fail.
func (r *Repository) decide(ctx context.Context, read redirect.Request, dgst digest.Digest) (redirect.Decision, error) {
	decision, err := r.s.cfg.Redirect.Decide(ctx, r.s.bucket, read)
	switch {
	case err != nil && ctx.Err() != nil: // the client is gone
		return redirect.Decision{}, translate(ctx.Err())
	case err != nil:
		r.s.cfg.Log.WarnContext(ctx, "no redirect", "digest", dgst, "error", err)
		return redirect.Decision{}, nil
	}
	return decision, nil
}
