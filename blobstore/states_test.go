package blobstore

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// recordState is what the collector, scrub, adopt or an accident may have left
// of a blob that was once pushed to one repository.
type recordState struct {
	name string

	// readable says that the blob can be read there still.
	readable bool

	// make does it. It is nil if nothing has happened.
	make func(ctx context.Context, b drivers.Bucket, repo string, d digest.Digest) error

	// data says that it can only happen to a blob that isn't in its record.
	data bool

	// lost says that the blob's bytes are gone or wrong.
	lost bool

	// none says that there is no blob.
	none bool

	// often says that tests that go through all states at great length should
	// take this one. The others are much like one of these.
	often bool
}

func recordStates() []recordState {
	marked := func(s state) func(context.Context, drivers.Bucket, string, digest.Digest) error {
		return func(ctx context.Context, b drivers.Bucket, repo string, d digest.Digest) error {
			return editBoth(ctx, b, repo, d, func(r *record) { r.State = s })
		}
	}
	return []recordState{
		{name: "no record", often: true, none: true},
		{name: "live", readable: true, often: true},
		{name: "condemned", often: true, make: func(ctx context.Context, b drivers.Bucket, repo string, d digest.Digest) error {
			if err := b.Delete(ctx, layout{}.link(d, repo)); err != nil {
				return err
			}
			return edit(ctx, b, layout{}.record(d), func(r *record) { r.State = condemned })
		}},
		{name: "damaged", often: true, make: marked(damaged)},
		{name: "unverified", readable: true, make: marked(unverified)},
		{name: "unverified, adopted", readable: true, data: true, often: true, make: adopted},
		{name: "of another life", readable: true, often: true, make: func(ctx context.Context, b drivers.Bucket, _ string, d digest.Digest) error {
			return edit(ctx, b, layout{}.record(d), func(r *record) { r.ID = randomID() })
		}},
		{name: "live, data gone", data: true, lost: true, often: true, make: func(ctx context.Context, b drivers.Bucket, _ string, d digest.Digest) error {
			s, err := envelope.Read[record](ctx, b, layout{}.record(d))
			if err != nil {
				return err
			}
			return b.Delete(ctx, s.Value.Data)
		}},
		{name: "live, data cut short", data: true, lost: true, make: func(ctx context.Context, b drivers.Bucket, _ string, d digest.Digest) error {
			s, err := envelope.Read[record](ctx, b, layout{}.record(d))
			if err == nil {
				err = b.Delete(ctx, s.Value.Data)
			}
			if err == nil {
				_, err = b.Create(ctx, s.Value.Data, drivers.NewBody([]byte("short")))
			}
			return err
		}},
	}
}

// adopted puts the bytes where another registry had them.
func adopted(ctx context.Context, b drivers.Bucket, repo string, d digest.Digest) error {
	s, err := envelope.Read[record](ctx, b, layout{}.record(d))
	if err != nil {
		return err
	}
	p, err := readAll(ctx, b, s.Value.Data)
	if err != nil {
		return err
	}
	at := "docker/registry/v2/blobs/sha256/" + d.Encoded()[:2] + "/" + d.Encoded() + "/data"
	if _, err := b.Create(ctx, at, drivers.NewBody(p)); err != nil {
		return err
	}
	if err := b.Delete(ctx, s.Value.Data); err != nil {
		return err
	}
	return editBoth(ctx, b, repo, d, func(r *record) { r.State, r.Data = unverified, at })
}

// edit changes a record or link.
func edit(ctx context.Context, b drivers.Bucket, key string, change func(*record)) error {
	s, err := envelope.Read[record](ctx, b, key)
	if err != nil {
		return err
	}
	change(&s.Value)
	_, err = envelope.Replace(ctx, b, key, s.Object.Tag, s.Value, drivers.NewBody(s.Raw))
	return err
}

// editBoth changes a record and a link to it.
func editBoth(ctx context.Context, b drivers.Bucket, repo string, d digest.Digest, change func(*record)) error {
	if err := edit(ctx, b, layout{}.record(d), change); err != nil {
		return err
	}
	return edit(ctx, b, layout{}.link(d, repo), change)
}

// leave brings the blob p, which c pushes to a repository, into this state.
func (s recordState) leave(c *client, repo string, p []byte) error {
	ctx, b, d := c.w.ctx, c.w.bucket, digest.FromBytes(p)
	if s.none {
		return nil
	}
	if err := c.push(repo, p); err != nil || s.make == nil {
		return err
	}
	if !s.readable {
		c.w.ledger.deleting(repo, p)(nil)
	}
	r, err := envelope.Read[record](ctx, b, layout{}.record(d))
	if err != nil {
		return err
	}
	if s.lost {
		c.w.lost[r.Value.Data] = true
	}
	return s.make(ctx, b, repo, d)
}
