package sim

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
)

// Ledger records the responses that clients got: which pushes and mounts were
// acknowledged, and which deletions may still take effect. Its zero value is
// ready to use, and it is safe for concurrent use.
type Ledger struct {
	// Grace is the time for which an acknowledged blob or manifest that no tag and
	// no manifest names is safe from the collector. Zero means that there is no
	// collector.
	Grace time.Duration

	// MaxAge is for how long a process may rely on a blob that it has read.
	MaxAge time.Duration

	// Immutable reports whether a tag of a repository is immutable. Nil means that
	// none is.
	Immutable func(repository, tag string) bool

	mu           sync.Mutex
	blobs        map[blob]*account
	repositories map[string]*repository
	wrong        findings // responses that are wrong in themselves
}

// blob is a blob in a repository, by its canonical digest.
type blob struct {
	repository string
	digest     digest.Digest
}

// account records the responses to requests for one blob or manifest.
type account struct {
	content []byte
	acked   map[digest.Digest]bool // digests it was pushed or mounted by; true if it must be readable
	used    time.Time              // when the last acknowledged request for it started

	deletions  int // deletions started so far
	unanswered int // deletions that have no response yet
	unknown    int // deletions that failed, and may take effect at any time
}

// account returns the account of the blob p in a repository, and creates it if
// there is none.
func (l *Ledger) account(repository string, p []byte) *account {
	if l.blobs == nil {
		l.blobs = map[blob]*account{}
	}
	id := blob{repository, digest.FromBytes(p)}
	a := l.blobs[id]
	if a == nil {
		a = &account{content: p, acked: map[digest.Digest]bool{}}
		l.blobs[id] = a
	}
	return a
}

// push starts a push by the digest d. The returned function gets whether the push was
// acknowledged. After that the content must be readable until the next deletion, unless
// an earlier deletion can still take effect.
func (a *account) push(d digest.Digest) (answered func(acked bool)) {
	started := time.Now()
	deletions, contested := a.deletions, a.unanswered+a.unknown > 0
	return func(acked bool) {
		if _, tried := a.acked[d]; !tried {
			a.acked[d] = false
		}
		if !acked {
			return
		}
		a.use(started)
		if !contested && a.deletions == deletions {
			a.acked[d] = true
		}
	}
}

func (a *account) use(at time.Time) {
	if at.After(a.used) {
		a.used = at
	}
}

// delete starts a deletion. The returned function gets whether its outcome is known.
func (a *account) delete() (answered func(known bool)) {
	a.deletions++
	a.unanswered++
	for d := range a.acked {
		a.acked[d] = false
	}
	before := a.unknown
	return func(known bool) {
		a.unanswered--
		if known {
			a.unknown -= min(before, a.unknown)
		} else {
			a.unknown++
		}
	}
}

// must reports whether the content must be readable by a digest, even if nothing names
// it.
func (l *Ledger) must(a *account, d digest.Digest) bool {
	return a.acked[d] && (l.Grace == 0 || time.Since(a.used) <= l.Grace)
}

// deletedByClient reports whether a deletion explains that the content is gone.
func (a *account) deletedByClient() bool {
	for _, acked := range a.acked {
		if acked {
			return false
		}
	}
	return a.deletions > 0
}

// Forget discards all accounts. Tests call it before they change a blob directly
// in the bucket.
func (l *Ledger) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blobs, l.repositories = nil, nil
}

// Pushing is called before a push or a mount of p by the digest d. The caller
// passes the result to the function that Pushing returns. After a success the
// blob must be readable until the next deletion, unless an earlier deletion can
// still take effect.
func (l *Ledger) Pushing(repository string, d digest.Digest, p []byte) (answered func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	answer := l.account(repository, p).push(d)
	return func(err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		answer(err == nil)
	}
}

// UsingBlob is called before a HEAD of a blob by a client who may push. Once that has
// succeeded, the blob stays for a grace, less the age that the response may have.
func (l *Ledger) UsingBlob(repository string, p []byte, age time.Duration) (answered func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, used := l.account(repository, p), time.Now().Add(-age)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		a.use(used)
	}
}

// Deleting is called before a deletion of p. The caller passes the result to the
// function that Deleting returns: nil if the blob was deleted, or if the
// repository did not have it. A deletion that failed may take effect later, but it
// deletes only the version of the link that it read. Once a deletion that started
// later has succeeded, that version is gone.
func (l *Ledger) Deleting(repository string, p []byte) (answered func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	answer := l.account(repository, p).delete()
	return func(err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		answer(err == nil)
	}
}

// Check returns an error for each acknowledged blob that read does not return in
// full or that the collector may remove, for each read that returns bytes
// that do not match the digest, and for each manifest that is not whole. inv is what is
// in the bucket.
func (l *Ledger) Check(ctx context.Context, inv *Inventory, read ReadFunc) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := slices.Clone(l.wrong)
	for id, a := range l.blobs {
		for d := range a.acked {
			got, err := read(ctx, id.repository, d)
			must := l.must(a, d)
			switch {
			case err == nil && d.Algorithm().FromBytes(got) != d:
				f.add("%s: read of %s = %d bytes that do not match the digest", id.repository, d, len(got))
			case must && err != nil:
				f.add("%s: %s was acknowledged, but cannot be read: %w", id.repository, d, err)
			case must && !bytes.Equal(got, a.content):
				f.add("%s: %s was acknowledged, but read returns %d different bytes", id.repository, d, len(got))
			case must:
				// A run of the collector may condemn the record while a push creates
				// the link. The next run finds the link.
				rec, ok := inv.Records[id.digest]
				if !ok || rec.Value.State == catalog.Condemned && l.Grace == 0 {
					f.add("%s: %s was acknowledged, but may be collected: its record is %q", id.repository, d, rec.Value.State)
				}
			}
		}
	}
	l.checkManifests(&f, inv)
	return errors.Join(f...)
}
