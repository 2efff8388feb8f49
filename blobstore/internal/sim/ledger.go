package sim

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// Ledger records the responses that clients got: which pushes and mounts were
// acknowledged, and which deletions may still take effect. Its zero value is
// ready to use, and it is safe for concurrent use.
type Ledger struct {
	mu    sync.Mutex
	blobs map[blob]*account
}

// blob is a blob in a repository, by its canonical digest.
type blob struct {
	repository string
	digest     digest.Digest
}

// account records the responses to requests for one blob.
type account struct {
	content []byte
	acked   map[digest.Digest]bool // digests it was pushed or mounted by; true if it must be readable

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

// Forget discards all accounts. Tests call it before they change a blob directly
// in the bucket.
func (l *Ledger) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blobs = nil
}

// Pushing is called before a push or a mount of p by the digest d. The caller
// passes the result to the function that Pushing returns. After a success the
// blob must be readable until the next deletion, unless an earlier deletion can
// still take effect.
func (l *Ledger) Pushing(repository string, d digest.Digest, p []byte) (answered func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(repository, p)
	deletions, contested := a.deletions, a.unanswered+a.unknown > 0
	return func(err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if _, tried := a.acked[d]; !tried {
			a.acked[d] = false
		}
		if err == nil && !contested && a.deletions == deletions {
			a.acked[d] = true
		}
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
	a := l.account(repository, p)
	a.deletions++
	a.unanswered++
	for d := range a.acked {
		a.acked[d] = false
	}
	before := a.unknown
	return func(err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		a.unanswered--
		if err == nil {
			a.unknown -= min(before, a.unknown)
		} else {
			a.unknown++
		}
	}
}

// Check returns an error for each acknowledged blob that read does not return in
// full or that the collector may remove, and for each read that returns bytes
// that do not match the digest.
func (l *Ledger) Check(ctx context.Context, b drivers.Bucket, read ReadFunc) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var f findings
	for id, a := range l.blobs {
		for d, acked := range a.acked {
			got, err := read(ctx, id.repository, d)
			switch {
			case err == nil && d.Algorithm().FromBytes(got) != d:
				f.add("%s: read of %s = %d bytes that do not match the digest", id.repository, d, len(got))
			case acked && err != nil:
				f.add("%s: %s was acknowledged, but cannot be read: %w", id.repository, d, err)
			case acked && !bytes.Equal(got, a.content):
				f.add("%s: %s was acknowledged, but read returns %d different bytes", id.repository, d, len(got))
			case acked:
				rec, err := envelope.Read[catalog.Record](ctx, b, catalog.RecordKey(id.digest))
				if err != nil || rec.Value.State == catalog.Condemned {
					f.add("%s: %s was acknowledged, but may be collected: its record is %q, %v", id.repository, d, rec.Value.State, err)
				}
			}
		}
	}
	return errors.Join(f...)
}
