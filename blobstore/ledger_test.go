package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// ledger is what clients were told: which pushes and mounts were acknowledged,
// and which deletions may still happen. Its zero value is ready, and it may be
// used by many goroutines at once.
type ledger struct {
	mu    sync.Mutex
	blobs map[claim]*account
}

// claim is a blob in a repository, by its canonical digest.
type claim struct {
	repository string
	digest     digest.Digest
}

// account is what is known of one blob in one repository.
type account struct {
	content []byte
	acked   map[digest.Digest]bool // by every digest that it was pushed or mounted as

	begun   int // deletions, ever
	open    int // of them, those that no answer came to yet
	unknown int // and those that failed, and may happen at any time
}

func (l *ledger) account(repository string, p []byte) *account {
	if l.blobs == nil {
		l.blobs = map[claim]*account{}
	}
	id := claim{repository, digest.FromBytes(p)}
	a := l.blobs[id]
	if a == nil {
		a = &account{content: p, acked: map[digest.Digest]bool{}}
		l.blobs[id] = a
	}
	return a
}

// pushing is called before a push or a mount of p by the digest d, and what it
// returns when that has answered. From a success on the blob must be there,
// unless it was deleted meanwhile.
func (l *ledger) pushing(repository string, d digest.Digest, p []byte) (answered func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(repository, p)
	begun, contested := a.begun, a.open+a.unknown > 0
	return func(err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if _, tried := a.acked[d]; !tried {
			a.acked[d] = false
		}
		if err == nil && !contested && a.begun == begun {
			a.acked[d] = true
		}
	}
}

// deleting is called before a deletion of p, and what it returns when that has
// answered. A deletion of which nothing was heard may happen later, but only to
// the link that it had read: once another one, begun after it, has found that
// link or none, it can do no more harm.
func (l *ledger) deleting(repository string, p []byte) (answered func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(repository, p)
	a.begun++
	a.open++
	for d := range a.acked {
		a.acked[d] = false
	}
	before := a.unknown
	return func(err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		a.open--
		if err == nil || errors.Is(err, ErrBlobUnknown) {
			a.unknown -= min(before, a.unknown)
		} else {
			a.unknown++
		}
	}
}

// check says which of the acknowledged blobs can't be read whole by a process
// that has just started, and which digests give bytes that they are not of.
func (l *ledger) check(ctx context.Context, b drivers.Bucket) error {
	cfg := smallParts()
	cfg.Cache.Entries = -1
	s, err := Open(ctx, b, cfg)
	if err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return l.checkWith(ctx, s)
}

// checkWith is check with a process that has no cache.
func (l *ledger) checkWith(ctx context.Context, s *Store) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var f findings
	for id, a := range l.blobs {
		for d, acked := range a.acked {
			got, err := inRepository(s, id.repository).Get(ctx, d)
			switch {
			case err == nil && d.Algorithm().FromBytes(got) != d:
				f.add("%s: %s gives %d bytes that have another digest", id.repository, d, len(got))
			case acked && err != nil:
				f.add("%s: %s was acknowledged: %w", id.repository, d, err)
			case acked && !bytes.Equal(got, a.content):
				f.add("%s: %s was acknowledged, and gives %d other bytes", id.repository, d, len(got))
			case acked:
				rec, err := envelope.Read[record](ctx, s.bucket, layout{}.record(id.digest))
				if err != nil || rec.Value.State == condemned {
					f.add("%s: %s was acknowledged, and may be collected: its record is %q, %v", id.repository, d, rec.Value.State, err)
				}
			}
		}
	}
	return errors.Join(f...)
}
