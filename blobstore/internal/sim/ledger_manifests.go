package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/manifest"
)

// Outcome is the response to a request for a manifest or a tag.
type Outcome int

// The outcomes. Only Failed leaves open what happens.
const (
	Failed   Outcome = iota // it may have taken effect in part, and may still do so
	Done                    // it took effect
	Absent                  // there is no such manifest or tag
	Refused                 // a condition or a rule for immutable tags refused it
	Rejected                // the manifest was refused, and nothing was stored
)

// Put is a PUT of a manifest.
type Put struct {
	Repository string
	Digest     digest.Digest
	Content    []byte
	Tags       []string

	// The condition, as in blobstore.TagCondition.
	IfAbsent bool
	IfDigest digest.Digest
}

func (p Put) allows(now digest.Digest) bool {
	return (!p.IfAbsent || now == "") && (p.IfDigest == "" || now == p.IfDigest)
}

// repository is what the ledger holds of the manifests and tags of a repository.
type repository struct {
	history
	manifests map[digest.Digest]*account
	refs      map[digest.Digest]manifest.Manifest // of all that a client ever pushed
	gone      map[manifest.Reference]gone
	appeared  map[string]bool // ids of manifests
}

func (l *Ledger) repository(name string) *repository {
	if l.repositories == nil {
		l.repositories = map[string]*repository{}
	}
	r := l.repositories[name]
	if r == nil {
		r = &repository{
			history:   history{seen: map[string]string{}},
			manifests: map[digest.Digest]*account{},
			refs:      map[digest.Digest]manifest.Manifest{},
			gone:      map[manifest.Reference]gone{},
			appeared:  map[string]bool{},
		}
		l.repositories[name] = r
	}
	return r
}

// manifest returns the account of a manifest.
func (r *repository) manifest(d digest.Digest, content []byte) *account {
	a := r.manifests[d]
	if a == nil {
		a = &account{acked: map[digest.Digest]bool{}}
		r.manifests[d] = a
	}
	if content != nil {
		a.content = content
	}
	return a
}

// immutable reports whether a tag of a repository is immutable.
func (l *Ledger) immutable(repository, tag string) bool {
	return l.Immutable != nil && l.Immutable(repository, tag)
}

// Putting is called before a PUT of a manifest. The caller passes the response to the
// function that Putting returns.
func (l *Ledger) Putting(p Put) (answered func(Outcome)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.repository(p.Repository)
	if _, ok := r.refs[p.Digest]; !ok {
		r.refs[p.Digest], _ = manifest.Parse("", p.Content)
	}
	started := time.Now()
	acked := r.manifest(p.Digest, p.Content).push(p.Digest)
	had, before := l.hasAll(p.Repository, r.refs[p.Digest])
	stored := r.start(op{
		text:   "PUT " + short(p.Digest),
		step:   func(s state) (state, bool) { return s.touched(p.Digest, started), true },
		kind:   putManifest,
		digest: p.Digest,
	})
	var moves []*op
	for _, tag := range p.Tags {
		moves = append(moves, r.start(op{
			text:   fmt.Sprintf("move %s to %s", tag, short(p.Digest)),
			step:   func(s state) (state, bool) { return l.move(s, p, tag) },
			kind:   moveTag,
			tag:    tag,
			digest: p.Digest,
			after:  stored,
		}))
	}
	return func(o Outcome) {
		l.mu.Lock()
		defer l.mu.Unlock()
		acked(o == Done)
		if has, now := l.hasAll(p.Repository, r.refs[p.Digest]); o == Rejected && had && has && now == before {
			l.wrong.add("%s: manifest %s was refused, although all that it refers to was acknowledged", p.Repository, p.Digest)
		}
		l.answerPut(r, p, stored, moves, o)
	}
}

// answerPut enters the response to a PUT. Its steps are stored and moves.
func (l *Ledger) answerPut(r *repository, p Put, stored *op, moves []*op, o Outcome) {
	all := append(slices.Clone(moves), stored)
	switch o {
	case Done:
		for _, op := range all {
			r.finish(op)
		}
	case Failed:
		for _, op := range all {
			op.optional = true
		}
	case Refused:
		stored.optional = true // it stays if a tag was lost to another client last
		r.refused(p, moves, func(s state, tag string) bool {
			return !p.allows(s.tags[tag]) || l.immutable(p.Repository, tag) && s.tags[tag] != "" && s.tags[tag] != p.Digest
		})
	default:
		for _, op := range all {
			r.drop(op)
		}
	}
}

// hasAll reports whether everything that a manifest refers to must be readable, even if
// nothing names it. It also returns the number of deletions of that so far.
func (l *Ledger) hasAll(name string, m manifest.Manifest) (all bool, deletions int) {
	for _, ref := range m.References {
		a := l.referred(name, ref)
		if ref.Role == manifest.Foreign {
			continue
		}
		if a == nil || !l.must(a, ref.Digest) {
			return false, deletions
		}
		deletions += a.deletions
	}
	return true, deletions
}

// referred returns the account of what a manifest refers to, or nil.
func (l *Ledger) referred(name string, ref manifest.Reference) *account {
	if ref.Role == manifest.Child {
		if r := l.repositories[name]; r != nil {
			return r.manifests[ref.Digest]
		}
		return nil
	}
	for id, a := range l.blobs {
		if id.repository == name && (ref.Digest == id.digest || ref.Digest.Algorithm().FromBytes(a.content) == ref.Digest) {
			return a
		}
	}
	return nil
}

// move returns the state after a PUT has moved a tag.
func (l *Ledger) move(s state, p Put, tag string) (state, bool) {
	now := s.tags[tag]
	fixed := now != "" && now != p.Digest && l.immutable(p.Repository, tag)
	return s.with(tag, p.Digest), s.has(p.Digest) && !fixed && p.allows(now)
}

// refused replaces the moves of a PUT by one step that moves no tag, and is possible
// where one of the tags must not be moved.
func (r *repository) refused(p Put, moves []*op, forbids func(s state, tag string) bool) {
	if len(moves) == 0 {
		return
	}
	for _, move := range moves[1:] {
		r.drop(move)
	}
	o := moves[0]
	o.text, o.kind = fmt.Sprintf("refuse to move %v to %s", p.Tags, short(p.Digest)), readOp
	o.after = nil
	o.step = func(s state) (state, bool) {
		return s, slices.ContainsFunc(p.Tags, func(tag string) bool { return forbids(s, tag) })
	}
	r.finish(o)
}

// Tagging is called before a request that moves a tag to a manifest which the
// repository has.
func (l *Ledger) Tagging(name, tag string, d digest.Digest) (answered func(Outcome)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.repository(name)
	p := Put{Repository: name, Digest: d, Tags: []string{tag}}
	o := r.start(op{
		text:   fmt.Sprintf("move %s to %s", tag, short(d)),
		step:   func(s state) (state, bool) { return l.move(s, p, tag) },
		kind:   moveTag,
		tag:    tag,
		digest: d,
	})
	return l.answer(r, o, func(s state) bool { return !s.has(d) }, func(s state) bool {
		return l.immutable(name, tag) && s.tags[tag] != "" && s.tags[tag] != d
	})
}

// DeletingManifest is called before a DELETE by digest.
func (l *Ledger) DeletingManifest(name string, d digest.Digest) (answered func(Outcome)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.repository(name)
	holds := func(s state) bool { // an immutable tag
		for tag, of := range s.tags {
			if of == d && l.immutable(name, tag) {
				return true
			}
		}
		return false
	}
	deleted := r.manifest(d, nil).delete()
	o := r.start(op{text: "DELETE " + short(d), kind: deleteManifest, digest: d})
	o.step = func(s state) (state, bool) {
		return s.without(d), (s.has(d) || r.pushedTwice(o) || r.deletedTwice(o)) && !holds(s)
	}
	answer := l.answer(r, o, func(s state) bool { return !s.has(d) }, holds)
	return func(o Outcome) {
		answer(o)
		l.mu.Lock()
		defer l.mu.Unlock()
		deleted(o != Failed)
	}
}

// Untagging is called before a DELETE of a tag. If the process has a cache, cached is true.
// The deletion then may succeed although another process has deleted the manifest that
// the tag names.
func (l *Ledger) Untagging(name, tag string, cached bool) (answered func(Outcome)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.repository(name)
	o := r.start(op{text: "DELETE " + tag, kind: deleteTag, tag: tag})
	o.step = func(s state) (state, bool) {
		found := s.tags[tag] != "" || cached || r.deletedTwice(o) // the store's deletion of an absent key succeeds
		return s.with(tag, ""), found && !l.immutable(name, tag)
	}
	return l.answer(r, o, func(s state) bool { return s.tags[tag] == "" },
		func(s state) bool { return s.tags[tag] != "" && l.immutable(name, tag) })
}

// answer returns the function that gets the response to a request of one step. A 404 is
// possible where absent is true, and a refusal where forbidden is.
func (l *Ledger) answer(r *repository, o *op, absent, forbidden func(state) bool) func(Outcome) {
	return func(out Outcome) {
		l.mu.Lock()
		defer l.mu.Unlock()
		possible := absent
		switch out {
		case Done:
			r.finish(o)
			return
		case Failed:
			o.optional = true
			return
		case Rejected:
			r.drop(o)
			return
		case Refused:
			possible = forbidden
		}
		if o.text += ": refused"; out == Absent {
			o.text += ", because it is absent"
		}
		o.step = func(s state) (state, bool) { return s, possible(s) }
		o.kind = readOp
		r.finish(o)
	}
}
