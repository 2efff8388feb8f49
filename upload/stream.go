package upload

import (
	"context"
	"errors"
	"io"
	"time"
)

// stream receives r without holding more of it than a segment: the store reads
// r, through the hashes. A part ends with r, or when a record is due. Little is
// kept as tail.
func (v receiver) stream(r io.Reader) error {
	for {
		err := v.receive(r, func() bool {
			return v.target.origin == dropped || v.tail.buf != nil && v.tailSize() > v.m.cfg.InlineMax
		})
		if err != nil {
			return err
		}
		if err := v.startUpload(); err != nil {
			return v.status.stop(err)
		}
		if v.target.origin == dropped {
			return v.receive(r, func() bool { return false })
		}
		if err := v.loader.gather(v.ctx, false, nil); err != nil {
			return v.status.stop(err)
		}
		if err := v.streamPart(r); err != nil {
			return err
		}
		if err := v.checkpoint(); err != nil {
			return v.status.stop(err)
		}
	}
}

// streamPart stores the tail and the bytes of r as one part. It returns nil if r
// has more, io.EOF at its end, and r's error if it fails.
func (v receiver) streamPart(r io.Reader) error {
	space, err := v.tail.buf.Scratch(v.ctx)
	if err != nil {
		return v.status.stop(err)
	}
	head := v.wholeTail().Segments
	n := v.parts.add(0)
	v.parts.setMark(n-1, v.mark(true))
	ctx, cancel := context.WithCancel(v.store)
	defer cancel()
	v.client.Pause() // its clock runs only while src reads
	defer v.client.Resume()
	src := &streamed{v: v, head: head, from: r, space: space}
	part, err := v.m.cfg.Bucket.StreamPart(ctx, *v.target.upload, n, src)
	if err == nil && part.Size != src.size {
		err = errors.New("upload: the store has taken less than the whole part")
	}
	v.parts.set(n, part, err)
	if err != nil {
		if src.err != nil && src.err != io.EOF {
			err = src.err
		}
		return v.status.stop(err)
	}
	v.parts.setMark(n, v.mark(false))
	v.tail.release()
	if errors.Is(src.err, ErrCut) || errors.Is(src.err, ErrTooLarge) {
		return v.status.stop(src.err)
	}
	return src.err
}

// streamed is a part on its way from the client to the store: the tail, which
// is hashed already, and then the bytes that arrive.
type streamed struct {
	v     receiver
	head  [][]byte
	from  io.Reader
	space []byte
	size  int64 // bytes that the store has read
	err   error // why no more bytes come from the client
}

// next returns the next bytes of the part. At the end of the part it returns
// io.EOF.
func (s *streamed) next() ([]byte, error) {
	if len(s.head) > 0 {
		p := s.head[0]
		s.head = s.head[1:]
		s.size += int64(len(p))
		return p, nil
	}
	v := s.v
	n := 0
	if s.err == nil && v.mustStop() {
		s.err = ErrCut
	}
	most := v.m.limits.MaxPart
	for s.err == nil && n < len(s.space) && s.size < most && (v.opts.Commit || time.Since(v.recorded) < recordEvery) {
		var got int
		v.client.Resume()
		got, s.err = s.from.Read(s.space[n:min(int64(len(s.space)), int64(n)+most-s.size)])
		v.client.Pause()
		n += got
		s.size += int64(got)
		s.account(got)
	}
	switch {
	case n > 0:
		v.hashes.write(s.space[:n])
		return s.space[:n], nil
	case v.opts.Commit && s.err != nil && s.err != io.EOF:
		return nil, s.err // nothing is kept
	default:
		return nil, io.EOF
	}
}

// account accounts for n bytes more.
func (s *streamed) account(n int) {
	s.v.client.Received(n)
	s.v.size += int64(n)
	if err := s.v.checkSize(0); err != nil {
		s.err = err
	}
	if s.v.mustStop() {
		s.err = ErrCut
	}
}

// WriteTo writes the bytes without another buffer.
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
