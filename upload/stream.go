package upload

import (
	"context"
	"errors"
	"io"
	"time"
)

// shortBody is up to what length, in bytes, a body that is committed at once is
// held in memory even where the store takes streams: creating one small object
// is cheaper than an upload.
const shortBody = 1 << 20

// streams reports whether the store reads the body that ReadFrom is given.
func (w *Writer) streams() bool {
	short := w.opts.Final && 0 <= w.opts.Length && w.opts.Length <= min(shortBody, w.m.cfg.PartSize)
	return w.m.limits.Stream && !short
}

// stream receives r without holding more of it than a segment: the
// store reads it, through the hashes. A part ends with r, or when it is time
// for a record. Little is kept as tail.
func (w *Writer) stream(r io.Reader) error {
	for {
		err := w.receive(r, func() bool { return w.drop || w.tail != nil && w.tailSize() > w.m.cfg.InlineMax })
		if err != nil {
			return err
		}
		if err := w.begin(); err != nil {
			w.failed = err
			return err
		}
		if w.drop {
			return w.receive(r, func() bool { return false })
		}
		if err := w.gather(w.ctx, false, nil); err != nil {
			w.failed = err
			return err
		}
		if err := w.streamPart(r); err != nil {
			return err
		}
		if err := w.checkpoint(); err != nil {
			w.failed = err
			return err
		}
	}
}

// streamPart stores the tail and what r gives as one part. It returns nil if r
// has more, io.EOF at its end, and r's error if it fails.
func (w *Writer) streamPart(r io.Reader) error {
	space, err := w.tail.Scratch(w.ctx)
	if err != nil {
		w.failed = err
		return err
	}
	head := w.wholeTail().Segments
	n := w.parts.add(0)
	w.parts.mark(n-1, true)
	ctx, cancel := context.WithCancel(w.store)
	defer cancel()
	w.client.Pause() // it is its turn while src reads only
	defer w.client.Resume()
	src := &streamed{w: w, head: head, from: r, space: space}
	part, err := w.m.cfg.Bucket.StreamPart(ctx, *w.upload, n, src)
	if err == nil && part.Size != src.size {
		err = errors.New("upload: the store took less of a part than there was")
	}
	w.parts.set(n, part, err)
	if err != nil {
		if src.err != nil && src.err != io.EOF {
			err = src.err
		}
		w.failed = err
		return err
	}
	w.parts.mark(n, false)
	w.releaseTail()
	if errors.Is(src.err, ErrCut) || errors.Is(src.err, ErrTooLarge) {
		w.failed = src.err
	}
	return src.err
}

// streamed is a part on its way from the client to the store: the tail, which
// is hashed already, and then the bytes that come.
type streamed struct {
	w     *Writer
	head  [][]byte
	from  io.Reader
	space []byte
	size  int64 // bytes given
	err   error // why there is no more to come from the client
}

// next returns the bytes that follow; none at the part's end.
func (s *streamed) next() ([]byte, error) {
	if len(s.head) > 0 {
		p := s.head[0]
		s.head = s.head[1:]
		s.size += int64(len(p))
		return p, nil
	}
	w := s.w
	n := 0
	if s.err == nil && w.mustStop() {
		s.err = ErrCut
	}
	for s.err == nil && n < len(s.space) && s.size < w.m.limits.MaxPart && (w.opts.Final || time.Since(w.recorded) < recordEvery) {
		var got int
		w.client.Resume()
		got, s.err = s.from.Read(s.space[n:min(int64(len(s.space)), int64(n)+w.m.limits.MaxPart-s.size)])
		w.client.Pause()
		n += got
		s.size += int64(got)
		s.received(got)
	}
	switch {
	case n > 0:
		w.hashes.write(s.space[:n])
		return s.space[:n], nil
	case w.opts.Final && s.err != nil && s.err != io.EOF:
		return nil, s.err // nothing of it is kept
	default:
		return nil, io.EOF
	}
}

// received accounts for n bytes more.
func (s *streamed) received(n int) {
	s.w.client.Received(n)
	s.w.size += int64(n)
	if err := s.w.fits(0); err != nil {
		s.err = err
	}
	if s.w.mustStop() {
		s.err = ErrCut
	}
}

// WriteTo hands the bytes on without another buffer.
func (s *streamed) WriteTo(to io.Writer) (int64, error) {
	before := s.size
	for {
		p, err := s.next()
		if err == io.EOF {
			return s.size - before, nil
		}
		if err == nil {
			_, err = to.Write(p)
		}
		if err != nil {
			return s.size - before, err
		}
	}
}

// Read is for stores that have a buffer of their own.
func (s *streamed) Read(p []byte) (int, error) {
	q, err := s.next()
	if err != nil {
		return 0, err
	}
	n := copy(p, q)
	if n < len(q) {
		s.head = append([][]byte{q[n:]}, s.head...)
		s.size -= int64(len(q) - n)
	}
	return n, nil
}
