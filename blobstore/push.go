package blobstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// push is one request that stores a manifest and moves tags to it. Its steps are numbered
// as in the package documentation, which has the reasons for their order.
type push struct {
	m   *Manifests
	due deadline.Deadline

	want       catalog.Manifest // what is to be stored, without an ID and hints
	content    []byte
	references []manifest.Reference
	moves      []*move

	// existing means that the manifest must be in the repository already. Then content
	// and references are empty at first, and content is read from the store.
	existing bool

	// found is the manifest as the push has read or written it last.
	found    catalog.StoredManifest
	presence presence
	same     bool   // found has the bytes of content
	since    moment // the read or the write of found started

	checked     bool // the references were checked, and cannot disappear during this push
	tagMoved    bool // a tag was written, or may have been
	unconfirmed bool // an immutable tag was written; see confirm

	release func() // gives back the memory of a long manifest; nil if there is none
}

// presence is what a push knows about the manifest in the store.
type presence int

const (
	unread  presence = iota // the store was not asked
	absent                  // there was none
	present                 // found is what was there, in any state
)

// run takes the steps 2 to 7. [Manifests.Put] has taken the first.
func (p *push) run(ctx context.Context) error {
	if err := p.read(ctx); err != nil {
		return err
	}
	if err := p.prepare(ctx); err != nil {
		return err
	}
	for {
		if err := p.store(ctx); err != nil {
			return p.late(err)
		}
		done, err := p.moveAll(ctx)
		if err != nil {
			return p.late(err)
		}
		if done {
			break
		}
		if err := p.readAgain(ctx); err != nil {
			return p.late(err)
		}
	}
	p.remember()
	return p.due.Check()
}

// read is step 2. It reads the tags, then the manifest unless it is likely to be new, and
// decides whether the tags may be moved. It stores nothing.
//
// The manifest is read after the tags. Otherwise a deletion of the manifest, and a push
// that moves a tag, could both complete between the two reads, and this push would move
// the tag back to a manifest that is deleted.
func (p *push) read(ctx context.Context) error {
	if err := eachOf(ctx, p.moves, p.readTag); err != nil {
		return err
	}
	if p.existing || p.needsManifest() {
		if err := p.readManifest(ctx); err != nil {
			return err
		}
	}
	return eachOf(ctx, p.moves, p.decide)
}

// needsManifest reports whether reading the manifest can save requests, or is needed to
// find out whether a tag resolves.
func (p *push) needsManifest() bool {
	if _, ok := p.m.s.cache.manifest(p.id()); ok {
		return true
	}
	for _, ref := range p.references {
		if !p.m.knows(ref) {
			return true
		}
	}
	for _, mv := range p.moves {
		if mv.guarded() && mv.names(p.want.Digest) {
			return true
		}
	}
	return false
}

func (p *push) id() manifestID { return manifestID{p.m.repository, p.want.Digest} }

// readManifest asks the store for the manifest.
func (p *push) readManifest(ctx context.Context) (err error) {
	p.since = p.m.s.cache.start()
	if p.existing {
		err = p.load(ctx)
	} else {
		p.found, p.same, err = p.m.s.catalog.CompareManifest(ctx, p.m.repository, p.want.Digest, p.content)
	}
	switch {
	case errors.Is(err, drivers.ErrNotFound):
		p.presence = absent
		return nil
	case err != nil:
		return err
	}
	p.presence = present
	if s := p.found.Value.State; s != catalog.Live && s != catalog.Condemned && s != catalog.Deleted {
		return fmt.Errorf("blobstore: %s: unknown state %q", p.found.Object.Key, s)
	}
	return nil
}

// load reads an existing manifest with its bytes, which a change of its hints needs.
func (p *push) load(ctx context.Context) (err error) {
	p.found, err = p.m.s.catalog.ReadManifest(ctx, p.m.repository, p.want.Digest)
	if err == nil && p.found.RawSize > envelope.MaxRaw {
		if p.release == nil {
			if p.release, err = p.m.s.loads.acquire(ctx); err != nil {
				return err
			}
		}
		p.found, err = p.m.s.catalog.LoadManifest(ctx, p.m.repository, p.want.Digest)
	}
	p.content, p.same = p.found.Raw, true
	return err
}

// vouches reports whether the manifest was found live with the bytes of this push. Then
// the repository has what it refers to.
func (p *push) vouches() bool {
	return p.presence == present && p.found.Value.State == catalog.Live && p.same
}

// prepare is the steps 3 to 5. It checks the references, and writes what must be there
// before the manifest: the marker and the referrers entry.
//
// The entry is written even if there is one already. The collector removes an old entry
// whose manifest does not exist, and this one's may not exist yet.
func (p *push) prepare(ctx context.Context) error {
	if p.existing {
		p.checked = true // a manifest that was not deleted holds what it refers to
		if p.presence == absent || !p.found.Value.Readable() {
			return errUnknownManifest(p.want.Digest)
		}
	}
	if !p.vouches() {
		if err := p.check(ctx); err != nil {
			return err
		}
	}
	if err := p.m.s.ensureMarker(ctx, p.due, p.m.repository); err != nil {
		return err
	}
	if p.want.Subject == "" || p.existing {
		return nil
	}
	return p.m.s.catalog.WriteEntry(ctx, p.due, p.m.repository, p.want.Subject, p.want.Digest)
}

// store is step 6. It makes the manifest live, with the tags of this push among its hints.
// Afterwards found is live, and was found so after the tags were read.
//
// If step 3 was skipped because the manifest was live, and it no longer is, the references
// are checked first.
func (p *push) store(ctx context.Context) error {
	for {
		if !p.vouches() {
			if err := p.check(ctx); err != nil {
				return err
			}
		}
		var stored catalog.StoredManifest
		var err error
		if p.presence == present {
			next, changed := p.next()
			if !changed {
				return nil
			}
			stored, err = p.replace(ctx, next)
		} else {
			stored, err = p.create(ctx)
		}
		switch {
		case err == nil:
			p.found, p.presence, p.same = stored, present, true
			return nil
		case !errors.Is(err, drivers.ErrExists) && !errors.Is(err, drivers.ErrChanged):
			return err
		}
		if err := p.readManifest(ctx); err != nil {
			return err
		}
	}
}

func (p *push) create(ctx context.Context) (catalog.StoredManifest, error) {
	if p.existing {
		return catalog.StoredManifest{}, errUnknownManifest(p.want.Digest)
	}
	p.since = p.m.s.cache.start()
	return p.m.s.catalog.CreateManifest(ctx, p.due, p.m.repository, p.reborn(), p.content)
}

func (p *push) replace(ctx context.Context, next catalog.Manifest) (catalog.StoredManifest, error) {
	if p.existing && !p.found.Value.Readable() {
		return catalog.StoredManifest{}, errUnknownManifest(p.want.Digest)
	}
	p.since = p.m.s.cache.start()
	return p.m.s.catalog.ReplaceManifest(ctx, p.due, p.found, next, p.content)
}

// reborn returns the manifest with a new ID, as it is after it was absent or deleted.
func (p *push) reborn() catalog.Manifest {
	m := p.want.WithHints(tagsOf(p.moves)...)
	m.ID = catalog.NewID()
	return m
}

// next returns what the manifest that was found has to become, and reports whether that
// is a change.
func (p *push) next() (next catalog.Manifest, changed bool) {
	found := p.found.Value
	if !found.Readable() {
		return p.reborn(), true
	}
	next = p.want
	if p.existing {
		next = found
		next.State = catalog.Live
	}
	next.ID, next.Hints, next.MoreHints = found.ID, found.Hints, found.MoreHints
	next = next.WithHints(tagsOf(p.moves)...)
	return next, !p.vouches() || next.MediaType != found.MediaType || !found.Hinted(tagsOf(p.moves)...)
}

// free gives back the memory of a long manifest that the push has read.
func (p *push) free() {
	if p.release != nil {
		p.release()
	}
}

// late returns err for a request that has written. If a tag may have been moved already, an
// error that denies every effect becomes ErrUnavailable.
func (p *push) late(err error) error {
	_, missing := errors.AsType[ErrManifestBlobUnknown](err)
	if p.tagMoved && (missing || errors.Is(err, ErrTagChanged) || errors.Is(err, ErrTagImmutable) || errors.Is(err, ErrManifestUnknown)) {
		return fmt.Errorf("%w: a tag was moved before another request changed the repository: %s", ErrUnavailable, err.Error())
	}
	return err
}

// remember lets this process answer reads of the manifest, unless the push has read its
// bytes, which were not hashed.
func (p *push) remember() {
	if p.existing {
		return
	}
	p.found.Raw = nil
	if len(p.content) <= envelope.MaxRaw {
		p.found.Raw = p.content
	}
	p.m.s.cache.putManifest(p.since, p.id(), p.found)
}
