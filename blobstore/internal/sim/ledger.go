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

// Ledger records what clients were told: which pushes and mounts were
// acknowledged, and which deletions may still take effect. Its zero value is
// ready to use, by any number of goroutines at once.
type Ledger struct {
	mu    sync.Mutex
	blobs map[blob]*account
}

// blob is a blob in a repository, by its canonical digest.
type blob struct {
	repository string
	digest     digest.Digest
}

// account is what clients were told about one blob.
type account struct {
	content []byte
	acked   map[digest.Digest]bool // by every digest by which it was pushed or mounted

	deletions  int // that were started
	unanswered int // those of them that have no response yet
	unknown    int // those of them that failed, and may take effect at any time
}

// account returns the account of p in a repository.
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

// Forget drops everything, for a test that changes blobs behind the back of
// their clients.
func (l *Ledger) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blobs = nil
}

// Pushing is called before a push or a mount of p by the digest d. The function
// that it returns is called with the result. After a success the blob must be
// readable, unless it was deleted in the meantime.
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

// Deleting is called before a deletion of p. The function that it returns is
// called with the result, which is nil also if the repository had no such blob.
// A deletion that failed may take effect later, but only on the link that it has
// read. It can do no harm once a deletion that started after it has found that
// link or none.
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

// Check returns an error for each acknowledged blob that read does not return
// whole, or that the collector may remove, and for each digest by which it
// returns bytes of another digest.
func (l *Ledger) Check(ctx context.Context, b drivers.Bucket, read ReadFunc) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var f findings
	for id, a := range l.blobs {
		for d, acked := range a.acked {
			got, err := read(ctx, id.repository, d)
			switch {
			case err == nil && d.Algorithm().FromBytes(got) != d:
				f.add("%s: %s returns %d bytes that have another digest", id.repository, d, len(got))
			case acked && err != nil:
				f.add("%s: %s was acknowledged: %w", id.repository, d, err)
			case acked && !bytes.Equal(got, a.content):
				f.add("%s: %s was acknowledged, and returns %d other bytes", id.repository, d, len(got))
			case acked:
				rec, err := envelope.Read[catalog.Record](ctx, b, catalog.RecordKey(id.digest))
				if err != nil || rec.Value.State == catalog.Condemned {
					f.add("%s: %s was acknowledged, and may be collected: its record is %q, %v", id.repository, d, rec.Value.State, err)
				}
			}
		}
	}
	return errors.Join(f...)
}
