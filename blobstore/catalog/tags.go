package catalog

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// ReadTag returns a tag, whether or not it resolves. It returns drivers.ErrNotFound if
// there is none.
func (c *Repositories) ReadTag(ctx context.Context, repository, tag string) (StoredTag, error) {
	return envelope.Read[Tag](ctx, c.bucket, TagKey(repository, tag))
}

// Tags returns the tags of a repository after the given one, which need not exist, in
// ascending order, whether or not they resolve. If after is empty, it returns all. It
// lists as the caller iterates, in pages of about want, or in the largest pages if want
// is 0. It ends with the first error.
func (c *Repositories) Tags(ctx context.Context, repository, after string, want int) iter.Seq2[string, error] {
	from := ""
	if after != "" {
		from = TagKey(repository, after)
	}
	return keysOf(ctx, c.bucket, TagsPrefix(repository), from, want, func(key string) (string, bool) {
		_, tag, ok := ParseTagKey(key)
		return tag, ok
	})
}

// WriteTag creates a tag if existing is zero, and otherwise replaces that version of
// it. It returns drivers.ErrExists or drivers.ErrChanged if another writer was first.
// That error also wraps drivers.ErrUnanswered if this write may have taken effect
// before. It returns drivers.ErrBusy if the deadline has passed. After any other error
// the tag may have been written, or may still become written later.
func (c *Repositories) WriteTag(ctx context.Context, due deadline.Deadline, repository, tag string, existing StoredTag, next Tag) (StoredTag, error) {
	if existing.Object.Key != "" {
		return replace(ctx, c.bucket, due, existing, next, nil)
	}
	if err := due.Check(); err != nil {
		return StoredTag{}, err
	}
	return envelope.Create(ctx, c.bucket, TagKey(repository, tag), next, drivers.Body{})
}

// DeleteTag deletes the version of a tag that the caller has read. It returns
// drivers.ErrChanged if the tag has changed since. That error also wraps
// drivers.ErrUnanswered if this deletion may have taken effect before. It returns
// drivers.ErrBusy if the deadline has passed. After any other error the tag may have
// been deleted, or may still become deleted later.
func (c *Repositories) DeleteTag(ctx context.Context, due deadline.Deadline, existing StoredTag) error {
	if err := due.Check(); err != nil {
		return err
	}
	key := existing.Object.Key
	err := c.bucket.DeleteIf(ctx, key, existing.Object.Tag)
	if err == nil || errors.Is(err, drivers.ErrChanged) {
		return err
	}
	now, readErr := envelope.Read[Tag](ctx, c.bucket, key)
	switch {
	case errors.Is(readErr, drivers.ErrNotFound):
		return nil
	case readErr == nil && now.Object.Tag != existing.Object.Tag:
		return fmt.Errorf("catalog: delete %s: %w: %w", key, drivers.ErrChanged, drivers.ErrUnanswered)
	}
	return err
}

// WriteEntry states that the manifest referrer names the manifest subject. An entry
// that exists already is replaced, so that the collector finds it new: it removes an old
// entry whose manifest does not exist, and this one's manifest does not exist yet.
//
// It returns drivers.ErrBusy if the deadline has passed before a write. After an error
// the entry may have been written. A retry is harmless.
func (c *Repositories) WriteEntry(ctx context.Context, due deadline.Deadline, repository string, subject, referrer digest.Digest) error {
	key, entry := EntryKey(repository, subject, referrer), Entry{subject, referrer}
	for {
		if err := due.Check(); err != nil {
			return err
		}
		existing, err := envelope.Create(ctx, c.bucket, key, entry, drivers.Body{})
		if !errors.Is(err, drivers.ErrExists) {
			return err
		}
		if _, err = replace(ctx, c.bucket, due, existing, entry, nil); !errors.Is(err, drivers.ErrChanged) {
			return err
		}
	}
}

// ReadMarker returns the marker of a repository, in any state. It returns
// drivers.ErrNotFound if there is none.
func (c *Repositories) ReadMarker(ctx context.Context, repository string) (StoredMarker, error) {
	return envelope.Read[Marker](ctx, c.bucket, MarkerKey(repository))
}

// EnsureMarker reads the marker of a repository. It creates a marker that is absent,
// and takes the collector's mark off a condemned one.
//
// It returns drivers.ErrBusy if the deadline has passed before a write. After an error
// the marker may have been written. A retry is harmless.
func (c *Repositories) EnsureMarker(ctx context.Context, due deadline.Deadline, repository string) error {
	for {
		m, err := c.ReadMarker(ctx, repository)
		if errors.Is(err, drivers.ErrNotFound) {
			if err := due.Check(); err != nil {
				return err
			}
			m, err = envelope.Create(ctx, c.bucket, MarkerKey(repository), Marker{State: Live}, drivers.Body{})
			if errors.Is(err, drivers.ErrExists) {
				err = nil // m is the marker of another push
			}
		}
		if err != nil || m.Value.State != Condemned {
			return err
		}
		next := m.Value
		next.State = Live
		if _, err = replace(ctx, c.bucket, due, m, next, nil); !errors.Is(err, drivers.ErrChanged) {
			return err
		}
	}
}
