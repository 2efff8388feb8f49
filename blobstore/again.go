package blobstore

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/upload"
)

// finishAgain commits an upload that had ended before the request.
func (c commit) finishAgain(ctx context.Context, t upload.Token, ended *upload.EndedError) (Descriptor, error) {
	as, err := c.committedAs(ctx, ended)
	if err != nil {
		return Descriptor{}, err
	}
	// Reading bytes back may take longer than the client waits.
	ctx, cancel := c.due.Context(context.WithoutCancel(ctx))
	defer cancel()
	return c.again(ctx, t, ended, as)
}

// again commits an upload that has ended. A client that lost the response to its
// first commit gets it again if the blob is published, or can be published from the
// stored data.
func (c commit) again(ctx context.Context, t upload.Token, ended *upload.EndedError, as naming) (Descriptor, error) {
	existing, ok, err := c.r.links().published(ctx, c.due, as)
	if err != nil || ok {
		return descriptorOf(existing), err
	}
	stored, err := c.r.s.uploads.Committed(ctx, t, ended)
	if err == nil && !as.proven {
		err = c.prove(ctx, stored)
	}
	if err != nil {
		return Descriptor{}, err
	}
	return c.r.links().publish(ctx, c.due, contentOf(stored, c.desc.MediaType, ""), as.named)
}

// committedAs returns the canonical digest that the upload was committed as, if the
// client names a digest of the same bytes: one that the session recorded, or one
// that an alias maps to the canonical digest. If neither is known of a digest of
// another algorithm, committedAs returns it as a claim. Otherwise it returns ended.
func (c commit) committedAs(ctx context.Context, ended *upload.EndedError) (naming, error) {
	named := c.desc.Digest
	switch {
	case ended.Digest == "" && !ended.Gone:
		return naming{}, ended
	case named == ended.Digest || named == ended.RequestedDigest:
		return naming{ended.Digest, named, true}, nil
	}
	isClaim := named.Algorithm() != digest.Canonical && ended.Digest != "" && ended.RequestedDigest == ""
	canonical, _, err := c.r.s.resolve(ctx, named)
	isOther := err == nil && !ended.Gone && canonical != ended.Digest
	switch {
	case isClaim && errors.Is(err, ErrBlobUnknown):
		return naming{ended.Digest, named, false}, nil
	case isClaim && isOther:
		return naming{}, errOtherBytes(named, ended.Digest)
	case isOther, errors.Is(err, ErrBlobUnknown):
		return naming{}, ended
	}
	return naming{canonical, named, true}, err
}
