package blobstore

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/upload"
)

// finishAgain answers a PUT of an upload that has ended.
func (r *Repository) finishAgain(ctx context.Context, due deadline.Deadline, t upload.Token, ended *upload.EndedError, desc Descriptor) (Descriptor, error) {
	as, err := r.committedAs(ctx, ended, desc.Digest)
	if err != nil {
		return Descriptor{}, err
	}
	// The client may be gone before its bytes are read back.
	ctx, cancel := due.Context(context.WithoutCancel(ctx))
	defer cancel()
	return r.commitAgain(ctx, due, t, ended, as, desc)
}

// commitAgain answers a commit of an upload that has ended. A client that lost
// the answer to its first commit gets it again if the blob is there, or can be
// made of the data that is stored.
func (r *Repository) commitAgain(ctx context.Context, due deadline.Deadline, t upload.Token, ended *upload.EndedError, as naming, desc Descriptor) (Descriptor, error) {
	there, ok, err := r.published(ctx, due, as)
	if err != nil || ok {
		return descriptorOf(there), err
	}
	c, err := r.s.uploads.Committed(ctx, t, ended)
	if err == nil && !as.proven {
		err = r.prove(ctx, due, c, as.named)
	}
	if err != nil {
		return Descriptor{}, err
	}
	return r.publish(ctx, due, contentOf(c, desc, ""), as.named)
}

// committedAs returns the canonical digest that the upload was committed as, if
// the digest that the client names is that one, is known to be of the same
// bytes, or may be: a digest of another algorithm, which the session does not
// have, is a claim. Otherwise it returns the EndedError.
func (r *Repository) committedAs(ctx context.Context, ended *upload.EndedError, named digest.Digest) (naming, error) {
	switch {
	case ended.Digest == "" && !ended.Gone:
		return naming{}, ended
	case named == ended.Digest || named == ended.Named:
		return naming{ended.Digest, named, true}, nil
	}
	isClaim := named.Algorithm() != digest.Canonical && ended.Digest != "" && ended.Named == ""
	canonical, err := r.s.canonical(ctx, named, true)
	isOthers := err == nil && !ended.Gone && canonical != ended.Digest
	switch {
	case isClaim && errors.Is(err, ErrBlobUnknown):
		return naming{ended.Digest, named, false}, nil
	case isClaim && isOthers:
		return naming{}, notOf(named, ended.Digest)
	case isOthers, errors.Is(err, ErrBlobUnknown):
		return naming{}, ended
	}
	return naming{canonical, named, true}, err
}
