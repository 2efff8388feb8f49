package upload

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
)

// Writer receives the bytes of one request of one upload. One goroutine at a time
// may call its methods. It must be closed.
//
// # Locking
//
// Three kinds of goroutines touch a Writer.
//
// The goroutine of the request calls the methods. Each method holds mu, which
// guards everything below except what the next paragraphs name.
//
// Other goroutines cut the Writer off, when memory is short or the process shuts
// down: see cutOff. They set what has a lock of its own in request (wasCut, the
// contexts, Interrupt), which stops a method that is running. Only if no method
// is running, they take mu, with TryLock, and record what came.
//
// The goroutines that store parts touch only the fields of parts that parts.mu
// guards, and the buffer of their part, which nothing else uses any more.
type Writer struct {
	mu       sync.Mutex
	p        *progress
	recorder recorder
	receiver receiver
	sealer   *sealer
}

// Resume continues the upload that t names. If t.Seq is 0 it starts with no bytes
// and sends no request to the store. It returns an EndedError if the session has
// ended, and drivers.ErrBusy if this process has too little memory for it.
func (m *Manager) Resume(ctx context.Context, t Token, opts Options) (*Writer, error) {
	p := &progress{request: newRequest(ctx, m, opts), parts: newParts(m.cfg.ParallelParts), hashes: newHashes(t.Algorithm)}
	p.token, p.recorded = t, time.Now()
	l, c := loader{p}, recorder{p}
	w := &Writer{p: p, recorder: c, receiver: receiver{p, l, c}, sealer: &sealer{progress: p, loader: l, recorder: c}}
	w.mu.Lock()
	defer w.mu.Unlock()
	p.client = m.memory.Join(w.cutOff) // which may be called from here on
	p.client.Pause()
	var err error
	if t.Seq > 0 {
		err = l.load(ctx)
	}
	if err == nil {
		err = p.checkSize(opts.Length)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	p.client.Resume()
	return w, nil
}

// Token returns the token of the newest record.
func (w *Writer) Token() Token {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.p.token
}

// Size returns the number of bytes of the upload so far, those of earlier requests
// included.
func (w *Writer) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.p.size
}

// Recorded returns the offset at which Token continues.
func (w *Writer) Recorded() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.p.base.Value.Offset
}

// Digest returns the canonical digest of the bytes so far.
func (w *Writer) Digest() digest.Digest {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.p.hashes.canonical()
}

// Proves reports whether the bytes so far are known to have the digest d. They are
// not if they were not hashed by its algorithm.
func (w *Writer) Proves(d digest.Digest) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.p.hashes.digest(d.Algorithm()) == d
}

// DataKey returns the key that the bytes are stored under, and an empty string
// if no upload was started.
func (w *Writer) DataKey() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.p.target.upload == nil {
		return ""
	}
	return w.p.target.upload.Key
}

// Write receives p. After an error nothing more can be written; Suspend keeps
// what came before it.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.p.size
	err := w.receiver.write(p)
	return int(w.p.size - before), err
}

// ReadFrom receives r to its end. An error of r is returned as it is; Suspend
// keeps what came before it.
func (w *Writer) ReadFrom(r io.Reader) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.p.size
	w.p.setReading(true)
	defer w.p.setReading(false)
	err := w.receiver.readFrom(r)
	if err == io.EOF {
		err = nil
	}
	if errors.Is(err, drivers.ErrNotFound) && w.p.target.upload != nil {
		err = w.recorder.partsGone(w.p.store)
	}
	return w.p.size - before, err
}

// Suspend records what came, so that a later request can continue from the
// returned token. If a part could not be stored, what came before it is recorded,
// and the error returned. Suspend returns ErrOutOfOrder, or an EndedError, if
// another request continued from the same record first; then nothing of this
// request is kept. Nothing more can be written, and a second call returns what the
// first one did.
func (w *Writer) Suspend(ctx context.Context) (Token, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.p.status.state == closed {
		return w.p.token, w.p.status.err
	}
	err := w.persistAndRelease(ctx)
	return w.p.token, err
}

// persistAndRelease records what came and releases its memory. What could not be
// recorded is lost then: no later record may claim it.
func (w *Writer) persistAndRelease(ctx context.Context) error {
	if w.p.status.state != suspended {
		err := w.persist(ctx)
		w.p.tail.release()
		w.p.status.suspend(err)
	}
	return w.p.status.kept
}

func (w *Writer) persist(ctx context.Context) error {
	w.p.client.Pause()
	if err := w.receiver.storeFullTail(); err != nil {
		return w.recorder.abandonAfter(err)
	}
	failed := w.recorder.waitForParts(ctx)
	if isEnd(failed) {
		return w.recorder.abandonAfter(failed)
	}
	if failed != nil {
		if err := w.p.rollback(); err != nil {
			return err
		}
	}
	if w.p.size > w.p.base.Value.Offset {
		if err := w.recorder.writeRecord(ctx); err != nil {
			return err
		}
	}
	return failed
}

// Seal ends the upload: no more bytes come, and they have the requested digest.
// Where the parts are under a key that is not bound to a digest yet, Seal binds
// it, by the record that ends the session.
//
// Seal returns ErrDigest if the bytes have another digest, and then has changed
// nothing. It returns ErrOutOfOrder, or an EndedError, if another request
// continued from the same record. After another error it can be called again.
//
// A digest of an algorithm that was not computed is computed now if all bytes
// are in memory. Otherwise Seal binds the key to the canonical digest only, and
// Proves reports false: the requested digest is a claim, which the record does not
// repeat, and which the caller checks once the bytes are stored.
func (w *Writer) Seal(ctx context.Context, requested digest.Digest) (SealResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.p.status.isOpen() {
		return 0, w.p.status.err
	}
	w.p.client.Pause()
	return w.sealed(w.sealer.seal(ctx, requested))
}

// ResolveSeal reads the record that a Contested Seal has met. It returns Sealed if
// that is this request's own, and SealedBefore if another request has bound the
// same digest. Otherwise it returns the error that Seal returns if another
// request continued first.
func (w *Writer) ResolveSeal(ctx context.Context) (SealResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case !w.p.status.isOpen():
		return 0, w.p.status.err
	case w.sealer.contest == nil:
		return 0, errors.New("upload: ResolveSeal without a contested Seal")
	}
	return w.sealed(w.sealer.resolve(ctx))
}

// sealed returns the result of a Seal. The client stays paused unless it may send
// more bytes.
func (w *Writer) sealed(result SealResult, err error) (SealResult, error) {
	switch {
	case err != nil:
		w.p.client.Resume()
	case result != Contested:
		w.p.status.state = sealed
	}
	return result, err
}

// Store makes the bytes durable and returns where they are. It comes after Seal.
// It returns ErrUnknown if the upload is lost: its parts are gone, or are not
// those in the session's records. After another error it can be called again.
func (w *Writer) Store(ctx context.Context) (Content, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.p.status.state {
	case sealed:
		return w.sealer.store(ctx)
	case filling:
		return Content{}, errUnsealed
	default:
		return Content{}, w.p.status.err
	}
}

// Spend frees the records that this request continued from, once the blob is
// durable and linked. It comes last, and nothing is lost if it fails.
//
// If the content needed no record that ended the session, the newest record
// becomes the end, large or not. Otherwise it is spent if it is large. In a
// session of more than 64 records bytes were written more than once, and then
// the other large records of the tail are spent as well.
func (w *Writer) Spend(ctx context.Context, requested digest.Digest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sealer.spend(ctx, requested)
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
	if w.p.status.state == closed {
		return
	}
	w.p.client.Pause()
	w.p.tail.release()
	_ = w.p.parts.wait() // a failure was returned before, or doesn't matter now
	w.recorder.abandon()
	w.p.end()
	w.p.status.close()
}

// cutOff stops the Writer and takes its memory. The budget calls it from another
// goroutine, perhaps more than once. See Locking.
func (w *Writer) cutOff() {
	w.p.cutOff()
	if !w.mu.TryLock() {
		return // the method that is running stops, and its caller records what came
	}
	go func() { // no method is running: the Writer waits for its caller
		defer w.mu.Unlock()
		if !w.p.status.isOpen() || w.sealer.contest != nil { // a contested Seal has all its bytes: it is completed
			return
		}
		if w.p.opts.Commit {
			w.p.tail.release()
			w.p.status.suspend(ErrCut)
		} else if err := w.persistAndRelease(w.p.store); err != nil {
			w.p.m.cfg.Log.Warn("what a writer held when it was cut off is lost", "upload", w.p.token.ID, "error", err)
		}
		w.p.status.err = ErrCut
	}()
}
