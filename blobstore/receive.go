package blobstore

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/berthhq/berth/upload/budget"
)

// Receive is Put with the content of body. It waits for memory if the manifests that
// are being pushed take all of Config.Manifests.Memory.
//
// Besides the errors of Put it returns ErrManifestTooLarge, ErrBlobInvalidLength if
// body does not have its declared length, ErrTooMany if too many pushes wait for
// memory, and ErrUnavailable if the client was too slow while another one waited, or
// if the process shuts down. Then nothing has been stored.
func (m *Manifests) Receive(ctx context.Context, body Body, put ManifestPut) (ManifestDescriptor, error) {
	ctx, cancel := m.s.newDeadline().Context(ctx)
	defer cancel()
	content, release, err := m.s.manifestBodies.read(ctx, body)
	if err != nil {
		return ManifestDescriptor{}, publicError(err)
	}
	defer release()
	put.Content = content
	return m.Put(ctx, put)
}

// manifestBodies reads manifests from the bodies of requests into bounded memory.
//
// Half of the memory is a budget for the bodies that are being received, which keeps
// a share for small ones and finds slow clients. A small manifest stays in the budget
// until it is stored. The other half is for large manifests that have been received:
// parsing and storing one takes several times its size, so only a few are handled at a
// time. The others wait for them in the budget, and so do clients that still send.
type manifestBodies struct {
	maxSize int64
	budget  *budget.Budget
	large   chan struct{} // has an element for each large manifest that is being handled
}

const (
	// smallManifest is the size in bytes up to which a manifest stays in the memory
	// in which it was received.
	smallManifest = budget.SegmentSize

	// handledCopies is the memory that a manifest takes while it is parsed and stored,
	// as a multiple of its size.
	handledCopies = 4

	// minManifestMemory is the least number of bytes of a budget that has room for
	// small manifests and for others.
	minManifestMemory = 1 * mib
)

// memoryFor returns the least Config.Manifests.Memory for manifests of this size: half
// of it has room for eight of them.
func memoryFor(maxSize int64) int64 { return max(16*maxSize, minManifestMemory) }

func newManifestBodies(cfg ManifestConfig, maxWaiting int) *manifestBodies {
	handled := cfg.Memory / 2 / (handledCopies * max(cfg.MaxSize, smallManifest))
	return &manifestBodies{
		maxSize: cfg.MaxSize,
		budget:  budget.New(cfg.Memory/2, cfg.MaxSize, maxWaiting),
		large:   make(chan struct{}, max(handled, 1)),
	}
}

// read reads a body to its end. The caller calls release when it no longer needs the
// content. Other references to the content stay valid, but their memory is not
// accounted for.
func (m *manifestBodies) read(ctx context.Context, body Body) (content []byte, release func(), err error) {
	if body.Length > m.maxSize {
		return nil, nil, ErrManifestTooLarge{m.maxSize}
	}
	c := &bodyReader{body: body, maxSize: m.maxSize}
	c.ctx, c.stop = context.WithCancelCause(ctx)
	client := m.budget.Join(c.cut)
	buf := client.NewBuffer(false)
	leave := func() {
		buf.Release()
		client.Leave()
		c.stop(nil)
	}
	if err := c.receive(client, buf); err != nil {
		leave()
		return nil, nil, err
	}
	client.Pause() // from now on the client waits for berth
	if buf.IsSmallFull() {
		return buf.Segments()[0], leave, nil // no other body gets this memory
	}
	if buf.Size() <= smallManifest {
		return slices.Concat(buf.Segments()...), leave, nil
	}
	select {
	case m.large <- struct{}{}:
	case <-c.ctx.Done():
		leave()
		return nil, nil, context.Cause(c.ctx)
	}
	content = slices.Concat(buf.Segments()...)
	leave()
	return content, func() { <-m.large }, nil
}

// bodyReader reads one body.
type bodyReader struct {
	body    Body
	maxSize int64

	ctx  context.Context //nolint:containedctx // of this body; cut ends it
	stop context.CancelCauseFunc

	mu      sync.Mutex
	reading bool // only then Interrupt may be called
	wasCut  bool
}

// errSlowManifest is the cause of a body that was cut off.
var errSlowManifest = fmt.Errorf("the manifest arrives too slowly while memory is short, or the process shuts down: %w", ErrUnavailable)

// cut stops the body. It may be called by any goroutine, more than once.
func (c *bodyReader) cut() {
	c.stop(errSlowManifest)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wasCut = true
	if c.reading && c.body.Interrupt != nil {
		c.body.Interrupt()
	}
}

// setReading records whether the body is being read. It reports false if the body was
// cut off.
func (c *bodyReader) setReading(reading bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading = reading
	return !c.wasCut
}

// receive reads the body into buf.
func (c *bodyReader) receive(client *budget.Client, buf *budget.Buffer) error {
	if 0 < c.body.Length && c.body.Length <= smallManifest {
		buf.ReserveSmall(c.body.Length)
	}
	if !c.setReading(true) {
		return errSlowManifest
	}
	defer c.setReading(false)
	for {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		space, most, err := c.space(buf)
		if err != nil {
			return err
		}
		n, err := c.body.Read(space)
		client.Received(n)
		if buf.Size()+int64(n) > most {
			return c.tooLong()
		}
		buf.Add(n)
		if err == io.EOF {
			break
		}
		if err != nil && !c.setReading(true) {
			return errSlowManifest // which is why the Read has failed
		}
		if err != nil {
			return err
		}
	}
	if c.body.Length >= 0 && buf.Size() != c.body.Length {
		return fmt.Errorf("manifest of %d bytes, declared as %d: %w", buf.Size(), c.body.Length, ErrBlobInvalidLength)
	}
	return nil
}

// space returns a slice for the next bytes, and the most bytes that the body may have.
// If it has them, one byte more shows that it is too long, which needs no memory.
func (c *bodyReader) space(buf *budget.Buffer) (p []byte, most int64, err error) {
	most = c.maxSize
	if c.body.Length >= 0 {
		most = c.body.Length
	}
	if buf.Size() == most {
		return make([]byte, 1), most, nil
	}
	p, err = buf.Space(c.ctx)
	if err != nil {
		return nil, 0, err
	}
	return p[:min(int64(len(p)), most-buf.Size())], most, nil
}

// tooLong returns the error for a body with more bytes than it may have.
func (c *bodyReader) tooLong() error {
	if c.body.Length >= 0 {
		return fmt.Errorf("manifest of more than the declared %d bytes: %w", c.body.Length, ErrBlobInvalidLength)
	}
	return ErrManifestTooLarge{c.maxSize}
}
