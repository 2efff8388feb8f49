package upload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/upload/budget"
)

const (
	// recordEvery is how often a long request is recorded, at the next part
	// boundary, so that a killed process costs its client little.
	recordEvery = 30 * time.Second

	// storeTimeout bounds one call to the store.
	storeTimeout = 10 * time.Minute
)

// Options are what a Writer is for.
type Options struct {
	// Deadline ends the request. It is required. The Writer stops receiving while
	// there is time left to record what it has.
	Deadline deadline.Deadline

	// Length is how many bytes will come, -1 if that is unknown. More may not
	// come, fewer may.
	Length int64

	// Final means that what comes is the last of the upload: it is committed
	// in this request, or nothing of it is kept.
	Final bool

	// Digest, only with Final, is the digest that the client names.
	Digest digest.Digest

	// Repeat allows that the first bytes were sent before, by a request whose
	// answer was lost: they are skipped then. It is for clients that don't name
	// the offset of their bytes.
	Repeat bool

	// Known, only with Final, reports whether the store has the blob Digest
	// already, so that its bytes need only be hashed. It is asked once at most,
	// before the first part is stored.
	Known func(ctx context.Context) (bool, error)

	// Interrupt makes a Read of ReadFrom's reader return soon, from another
	// goroutine. Without it, a slow reader can't be cut off.
	Interrupt func()
}

// Writer receives the bytes of one request of one upload. Its methods may be
// called by one goroutine at a time.
//
// It lives as long as that request, and so holds its context, which io.Writer
// has no parameter for.
type Writer struct {
	m    *Manager
	ctx  context.Context //nolint:containedctx // see above
	stop context.CancelCauseFunc
	opts Options
	due  deadline.Deadline

	// store is the context of calls that continue when the client is gone.
	store  context.Context //nolint:containedctx // see above
	cancel context.CancelFunc

	client *budget.Client
	wasCut atomic.Bool

	reading   bool // in ReadFrom: Interrupt would do something
	readingMu sync.Mutex

	mu       sync.Mutex // held by every method; cutOff takes it if no method runs
	token    Token      // of the newest record
	base     envelope.Stored[record]
	recorded time.Time // when the newest record was made or read
	failed   error     // nothing more can be received
	down     bool      // what came was recorded, or is lost
	downErr  error     // why it is lost

	hashes hashes
	size   int64 // bytes so far, those of earlier requests among them

	upload  *drivers.Upload
	own     bool // no record names upload: no other request can know of it
	foreign bool // upload is that of another request, which committed first
	direct  bool // upload's key is one of the digest's: no other digest can complete it
	contest *contest
	sizes   sizes
	drop    bool           // the store has the blob: bytes are hashed and dropped
	tail    *budget.Buffer // bytes of this request past the last part; nil if none
	crc     uint32         // of these
	skip    int64          // how many of them are in the newest record, which another request created
	parts   parts

	before inherited    // what the records up to the token's hold
	from   int          // index of the first reference whose content the next record takes over
	taken  drivers.Body // raw bytes of the references from there on, in the memory of tail
	rest   drivers.Body // those of the references before, if a part or the end needs them
	small  []byte       // raw bytes of the token's record, kept because the next one may repeat them
}

// Resume continues the upload that t names. If t.Seq is 0 it starts with no bytes
// and asks the store nothing. It reports an EndedError if the session
// has ended, and drivers.ErrBusy if this process has too little memory for it.
// The Writer must be closed.
func (m *Manager) Resume(ctx context.Context, t Token, opts Options) (*Writer, error) {
	w := &Writer{m: m, opts: opts, due: opts.Deadline, token: t, recorded: time.Now(), hashes: newHashes(t.Algorithm)}
	w.ctx, w.stop = context.WithCancelCause(ctx)
	w.store, w.cancel = w.due.Context(context.WithoutCancel(ctx))
	w.parts.init(w)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.client = m.memory.Join(w.cutOff) // which may happen from here on
	w.client.Pause()
	defer func() {
		if w.client != nil {
			w.client.Resume()
		}
	}()
	if t.Seq > 0 {
		if err := w.load(ctx); err != nil {
			w.close()
			return nil, err
		}
	}
	if err := w.fits(opts.Length); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// fits reports ErrTooLarge if so many more bytes (-1 if that is unknown) are too
// many.
func (w *Writer) fits(length int64) error {
	if most := w.m.cfg.MaxBlobSize; most > 0 && max(length, 0) > most-w.size {
		return fmt.Errorf("%w: upload.Config.MaxBlobSize is %d bytes", ErrTooLarge, most)
	}
	if w.sizes.First == 0 || w.m.limits.Stream || length <= 0 {
		return nil
	}
	if most := w.sizes.capacity(w.m.limits.MaxParts); length > most-w.size {
		return fmt.Errorf("%w: the parts of this upload take %d bytes", ErrTooLarge, most)
	}
	return nil
}

// Token returns the token of the newest record.
func (w *Writer) Token() Token {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.token
}

// Size returns how many bytes the upload has, those of earlier requests among them.
func (w *Writer) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size
}

// Recorded returns the offset at which Token continues.
func (w *Writer) Recorded() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.base.Value.Offset
}

// Write receives p. After an error nothing more can be written; Suspend keeps
// what came before it.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.write(p)
}

func (w *Writer) write(p []byte) (int, error) {
	total := 0
	for total < len(p) {
		space, err := w.space()
		if err != nil {
			return total, err
		}
		n := copy(space, p[total:])
		total += n
		if err := w.took(space[:n]); err != nil {
			return total, err
		}
	}
	return total, nil
}

// ReadFrom receives r to its end. An error of r is returned as it is; Suspend
// keeps what came before it.
func (w *Writer) ReadFrom(r io.Reader) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.size
	w.setReading(true)
	defer w.setReading(false)
	var err error
	if w.streams() {
		err = w.stream(r)
	} else {
		err = w.receive(r, func() bool { return false })
	}
	if err == io.EOF {
		err = nil
	}
	if errors.Is(err, drivers.ErrNotFound) && w.upload != nil {
		err = w.gone(w.store)
	}
	return w.size - before, err
}

func (w *Writer) releaseTail() {
	if w.tail != nil {
		w.tail.Release()
		w.tail = nil
	}
	w.taken, w.rest = drivers.Body{}, drivers.Body{}
}

// Close releases what the Writer holds. What came after the newest record is
// dropped, and an upload that no record names is aborted.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.close()
	return nil
}

func (w *Writer) close() {
	if w.client == nil {
		return
	}
	w.client.Pause()
	w.releaseTail()
	_ = w.parts.wait() // that they failed was reported, or doesn't matter now
	w.abandon()
	w.client.Leave()
	w.client = nil
	w.cancel()
	w.stop(nil)
	if w.failed == nil {
		w.failed = errors.New("upload: the writer is closed")
	}
}

// abandon aborts an upload that no record names.
func (w *Writer) abandon() {
	if w.own {
		w.own = false
		ctx, cancel := context.WithTimeout(w.store, storeTimeout)
		defer cancel()
		w.m.abort(ctx, *w.upload)
	}
}

// Digest returns the canonical digest of the bytes so far.
func (w *Writer) Digest() digest.Digest {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hashes.canonical()
}
