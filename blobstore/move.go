package blobstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
)

// move is what one push does to one tag.
type move struct {
	tag       string
	cond      TagCondition
	immutable bool

	// existing is the tag as this push has read or written it last. It is zero if there
	// was none.
	existing catalog.StoredTag

	// written is the tag as this push has written it. It is zero before.
	written catalog.StoredTag

	lost bool // another writer has changed the tag since it was read
}

func (mv *move) exists() bool { return mv.existing.Object.Key != "" }

// names reports whether the tag was found to name this digest, in any life of it.
func (mv *move) names(d digest.Digest) bool { return mv.exists() && mv.existing.Value.Digest == d }

// guarded reports whether it depends on the tag's present meaning if it may be moved.
// Such a tag must not be written twice by one request.
func (mv *move) guarded() bool { return mv.cond != (TagCondition{}) || mv.immutable }

// isOwn reports whether the tag was found as this push has written it.
func (mv *move) isOwn() bool {
	return mv.exists() && mv.existing.Object.Tag == mv.written.Object.Tag
}

// tagsOf returns the names of the tags that a push moves.
func tagsOf(moves []*move) []string {
	names := make([]string, len(moves))
	for i, mv := range moves {
		names[i] = mv.tag
	}
	return names
}

func (p *push) readTag(ctx context.Context, mv *move) (err error) {
	mv.existing, err = p.m.s.catalog.ReadTag(ctx, p.m.repository, mv.tag)
	if errors.Is(err, drivers.ErrNotFound) {
		mv.existing, err = catalog.StoredTag{}, nil
	}
	return err
}

// decide returns an error if a tag that was just read may not be moved. A tag that does
// not resolve counts as absent. What this push has written counts as what it replaced,
// which was allowed.
func (p *push) decide(ctx context.Context, mv *move) error {
	if !mv.guarded() || mv.isOwn() {
		return nil
	}
	resolves, err := p.resolves(ctx, mv)
	switch {
	case err != nil:
		return err
	case mv.cond.Absent && resolves:
		return fmt.Errorf("%w: %s exists", ErrTagChanged, mv.tag)
	case mv.cond.Digest != "" && (!resolves || !mv.names(mv.cond.Digest)):
		return fmt.Errorf("%w: %s does not name %s", ErrTagChanged, mv.tag, mv.cond.Digest)
	case mv.immutable && resolves && !mv.names(p.want.Digest):
		return fmt.Errorf("%w: %s", ErrTagImmutable, mv.tag)
	}
	return nil
}

// resolves reports whether the tag names a manifest that can be read. It asks the store.
func (p *push) resolves(ctx context.Context, mv *move) (bool, error) {
	if !mv.exists() {
		return false, nil
	}
	named, isPresent := p.found.Value, p.presence == present
	if !mv.names(p.want.Digest) {
		m, err := p.m.s.catalog.ReadManifest(ctx, p.m.repository, mv.existing.Value.Digest)
		if err != nil && !errors.Is(err, drivers.ErrNotFound) {
			return false, err
		}
		named, isPresent = m.Value, err == nil
	}
	return isPresent && named.Readable() && mv.existing.Value.Names(named), nil
}

// moveAll is step 7. It writes the tags, one after the other. It reports false if the push has to
// read again: another writer has changed a tag, or has deleted the manifest.
//
// It writes a tag even if the tag names the manifest already, because another push may
// have read the tag before and be about to move it. That push then fails, and reads the
// tag again.
func (p *push) moveAll(ctx context.Context) (done bool, err error) {
	for _, mv := range p.moves {
		if mv.isOwn() && mv.existing.Value.Names(p.found.Value) {
			continue // it was written in an earlier pass
		}
		if err := p.write(ctx, mv); err != nil || mv.lost {
			return false, err
		}
		p.unconfirmed = p.unconfirmed || mv.immutable
	}
	if p.unconfirmed {
		return p.confirm(ctx)
	}
	return true, nil
}

// write writes one tag.
func (p *push) write(ctx context.Context, mv *move) error {
	written, err := p.m.s.catalog.WriteTag(ctx, p.due, p.m.repository, mv.tag, mv.existing, catalog.TagOf(p.found.Value))
	isConflict := errors.Is(err, drivers.ErrExists) || errors.Is(err, drivers.ErrChanged)
	switch {
	case err == nil:
		mv.existing, mv.written, p.tagMoved = written, written, true
		return nil
	case isConflict && errors.Is(err, drivers.ErrUnanswered) && (mv.guarded() || !mv.exists()),
		!isConflict && !errors.Is(err, drivers.ErrFull):
		// The tag may have been moved, and may have been changed by another writer
		// since. A second write would move it twice.
		return fmt.Errorf("%w: the store has not confirmed that it has written the tag %s: %w", ErrUnavailable, mv.tag, err)
	case !isConflict:
		return err
	}
	mv.lost = true
	p.tagMoved = p.tagMoved || errors.Is(err, drivers.ErrUnanswered) // perhaps it was
	return nil
}

// confirm replaces the manifest once more after an immutable tag was written. A
// deletion of the manifest that has not seen the tag then fails, and reads the tags
// again. It reports false if the manifest was deleted before.
func (p *push) confirm(ctx context.Context) (bool, error) {
	id := p.found.Value.ID
	for {
		confirmed, err := p.replace(ctx, p.found.Value)
		if err == nil {
			p.found, p.unconfirmed = confirmed, false
			return true, nil
		}
		if !errors.Is(err, drivers.ErrChanged) {
			return false, err
		}
		if err := p.readManifest(ctx); err != nil {
			return false, err
		}
		if !p.vouches() || p.found.Value.ID != id {
			return false, nil
		}
	}
}

// readAgain is step 2 once more, for the tags that another writer has changed. Then the
// push continues with step 6.
func (p *push) readAgain(ctx context.Context) error {
	var lost []*move
	for _, mv := range p.moves {
		if mv.lost {
			mv.lost = false
			lost = append(lost, mv)
		}
	}
	if err := eachOf(ctx, lost, p.readTag); err != nil {
		return err
	}
	if err := p.readManifest(ctx); err != nil {
		return err
	}
	return eachOf(ctx, lost, p.decide)
}
