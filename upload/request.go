package upload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/upload/budget"
)

// storeTimeout limits one call to the store.
const storeTimeout = 10 * time.Minute

// shortBody is the largest body, in bytes, that is held in memory although the
// store takes streams, if the same request commits it: creating one small object
// is cheaper than an upload.
const shortBody = 1 << 20

// Options are what a Writer is for.
type Options struct {
	// Deadline ends the request. It is required. The Writer stops receiving while
	// there is time left to record what it has.
	Deadline deadline.Deadline

	// Length is the number of bytes to come, or -1 if it is not known. More bytes
	// are an error, fewer are not.
	Length int64

	// Commit means that the bytes are the last ones of the upload: it is
	// committed by this request, or none of them are kept.
	Commit bool

	// Digest, only with Commit, is the digest that the client requests.
	Digest digest.Digest

	// Repeat allows that the first bytes were sent before, by a request
	// that lost its response: the Writer skips them then. It is for clients that
	// do not send the offset of their bytes.
	Repeat bool

	// AlreadyStored, only with Commit, reports whether the store has the blob
	// Digest already, so that its bytes need only be hashed. It is called at most
	// once, before the first part is stored.
	AlreadyStored func(ctx context.Context) (bool, error)

	// Interrupt makes a Read of ReadFrom's reader return soon. It is called from
	// another goroutine. Without it, a slow reader can't be cut off.
	Interrupt func()
}

// request is what stays the same while a Writer lives, and how other goroutines
// stop it. It holds contexts because the Writer lives as long as one request, and
// io.Writer has no parameter for a context.
type request struct {
	m      *Manager
	opts   Options
	client *budget.Client

	ctx  context.Context //nolint:containedctx // see above
	stop context.CancelCauseFunc

	// store is the context of calls to the store that continue when the client is
	// gone.
	store  context.Context //nolint:containedctx // see above
	cancel context.CancelFunc

	wasCut    atomic.Bool
	readingMu sync.Mutex
	reading   bool // in ReadFrom: only then Interrupt is called
}

func newRequest(ctx context.Context, m *Manager, opts Options) *request {
	q := &request{m: m, opts: opts}
	q.ctx, q.stop = context.WithCancelCause(ctx)
	q.store, q.cancel = opts.Deadline.Context(context.WithoutCancel(ctx))
	return q
}

func (q *request) end() {
	q.client.Leave()
	q.cancel()
	q.stop(nil)
}

// cutOff stops the request. It may be called by any goroutine, more than once.
func (q *request) cutOff() {
	q.wasCut.Store(true)
	q.stop(ErrCut)
	q.readingMu.Lock()
	defer q.readingMu.Unlock()
	if q.reading && q.opts.Interrupt != nil {
		q.opts.Interrupt()
	}
}

func (q *request) setReading(reading bool) {
	q.readingMu.Lock()
	defer q.readingMu.Unlock()
	q.reading = reading
}

// mustStop reports whether the request must stop receiving, because it was cut
// off, or because what came could not be recorded before the deadline otherwise.
func (q *request) mustStop() bool { return q.wasCut.Load() || q.opts.Deadline.IsNear() }

// streams reports whether the store reads the body while the client sends it.
func (q *request) streams() bool {
	short := q.opts.Commit && 0 <= q.opts.Length && q.opts.Length <= min(shortBody, q.m.cfg.PartSize)
	return q.m.limits.Stream && !short
}

// nextRecordKey returns the key of the record after the one that t names.
func (q *request) nextRecordKey(t Token) string { return q.m.cfg.Layout.SessionRecord(t.ID, t.Seq+1) }

// reserveList accounts for n bytes of lists of parts. It returns drivers.ErrBusy
// if the memory has no room for them.
func (q *request) reserveList(n int64, parts int) error {
	if !q.client.ReserveList(n) {
		return fmt.Errorf("upload.Config.Memory has no room for the list of the %d parts of this upload: %w", parts, drivers.ErrBusy)
	}
	return nil
}

// tooBigForMemory returns the error for an upload that was started by a process
// with more memory.
func (q *request) tooBigForMemory(part int64) error {
	return fmt.Errorf("upload.Config.Memory is too small for the parts of this upload, %d bytes: %w", part, drivers.ErrBusy)
}

// isEnd reports whether err means that the session has ended, or that another
// request has continued it.
func isEnd(err error) bool { return errors.Is(err, ErrUnknown) || errors.Is(err, ErrOutOfOrder) }
