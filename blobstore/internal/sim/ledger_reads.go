package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/manifest"
)

// Reading is called before a GET or HEAD of a tag or a digest that asks the store. The
// caller passes the digest that was returned, or an empty one after a 404, to the
// function that Reading returns. It does not call that function after a failure.
func (l *Ledger) Reading(name, ref string) (answered func(digest.Digest)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.repository(name)
	o := r.start(op{optional: true, step: func(s state) (state, bool) { return s, true }})
	return func(d digest.Digest) {
		l.mu.Lock()
		defer l.mu.Unlock()
		r.read(o, ref, d)
	}
}

// read ends a read of a tag or a digest.
func (r *repository) read(o *op, ref string, d digest.Digest) {
	o.text, o.optional = fmt.Sprintf("read %s: %s", short(digest.Digest(ref)), short(d)), false
	if of := digest.Digest(ref); of.Validate() == nil {
		o.kind, o.digest = readOp, of
		o.step = func(s state) (state, bool) { return s, s.has(of) == (d != "") }
	} else {
		o.kind, o.tag = readOp, ref
		o.step = func(s state) (state, bool) { return s, s.tags[ref] == d }
	}
	r.finish(o)
}

// Using is called before a HEAD of a manifest by a client who may push. Once that has
// succeeded, the manifest stays for a grace, less the age that the response may have.
func (l *Ledger) Using(name string, d digest.Digest, age time.Duration) (answered func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.repository(name)
	used := time.Now().Add(-age)
	o := r.start(op{optional: true, text: "use " + short(d), step: func(s state) (state, bool) {
		if age > 0 && !s.has(d) { // it was deleted meanwhile
			return s, true
		}
		return s.touched(d, used), s.has(d)
	}})
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		o.optional = false
		r.finish(o)
	}
}

// Collecting is called once a run of the collector has its start. The run may remove
// manifests that no tag names and that were not used for a grace before the start.
func (l *Ledger) Collecting() {
	l.mu.Lock()
	defer l.mu.Unlock()
	start := time.Now()
	for _, r := range l.repositories {
		for d := range r.refs {
			r.start(op{
				optional: true,
				text:     "collect " + short(d),
				step:     func(s state) (state, bool) { return s.without(d), r.mayCollect(s, d, start.Add(-l.Grace)) },
			})
		}
	}
}

// mayCollect reports whether nothing names a manifest that was not used since then.
func (r *repository) mayCollect(s state, d digest.Digest, since time.Time) bool {
	used, ok := s.manifests[d]
	if !ok || used.After(since) {
		return false
	}
	for _, of := range s.tags {
		if of == d {
			return false
		}
	}
	isChild := func(child, of digest.Digest) bool {
		return slices.Contains(r.refs[of].References, manifest.Reference{Digest: child, Role: manifest.Child})
	}
	for parent := range s.manifests {
		if isChild(d, parent) {
			return false
		}
	}
	subject := r.refs[d].Subject
	return subject == "" || !s.has(subject) || isChild(subject, d)
}

// ManifestFunc returns the digest and the bytes of a manifest, by a tag or a digest. It
// returns an empty digest if there is none.
type ManifestFunc func(ctx context.Context, repository, ref string) (digest.Digest, []byte, error)

// Settle is called once no request is in progress. It reads all tags and manifests, and
// returns an error unless the responses to all requests fit one order.
func (l *Ledger) Settle(ctx context.Context, read ManifestFunc) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var f findings
	for name, r := range l.repositories {
		for _, ref := range r.subjects() {
			d, p, err := read(ctx, name, ref)
			if err != nil {
				f.add("%s:%s: %w", name, ref, err)
				continue
			}
			if d != "" && d.Algorithm().FromBytes(p) != d {
				f.add("%s:%s: read returns %d bytes that do not match %s", name, ref, len(p), d)
			}
			o := r.start(op{})
			r.read(o, ref, d)
			o.kind = otherOp // which nothing excuses
		}
		if err := r.check(); err != nil {
			f.add("%s: %w", name, err)
		}
	}
	return errors.Join(f...)
}

// subjects returns the tags and digests of the history.
func (r *repository) subjects() []string {
	var refs []string
	for d := range r.refs {
		refs = append(refs, d.String())
	}
	for _, o := range r.ops {
		if o.tag != "" && !slices.Contains(refs, o.tag) {
			refs = append(refs, o.tag)
		}
	}
	slices.Sort(refs)
	return refs
}

// short returns a digest as it is shown in a history.
func short(d digest.Digest) string {
	if d == "" {
		return "nothing"
	}
	if d.Validate() != nil {
		return string(d)
	}
	return d.Encoded()[:6]
}
