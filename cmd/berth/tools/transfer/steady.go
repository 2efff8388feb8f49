package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/berthhq/berth/blobstore"
)

// attempts is how often in a row a steadyReader opens a blob without receiving a byte.
const attempts = 5

// pause is the time before the second attempt. It doubles with each one.
const pause = time.Second

// steadyReader reads a blob of a source. If the connection breaks, it opens the blob again
// where it was. It reads at most one byte more than the blob shall have.
type steadyReader struct {
	ctx  context.Context //nolint:containedctx // io.Reader has no parameter for it
	from Source
	desc blobstore.Descriptor

	off    int64 // of the next Read
	rc     io.ReadCloser
	failed int // attempts since the last byte
}

// Read implements io.Reader.
func (s *steadyReader) Read(p []byte) (int, error) {
	for {
		if s.off > s.desc.Size {
			return 0, io.EOF
		}
		n, err := s.try(p)
		if n > 0 {
			s.off += int64(n)
			s.failed = 0
			return n, nil
		}
		switch {
		case err == nil:
			continue
		case err == io.EOF && s.off >= s.desc.Size:
			return 0, io.EOF
		case err == io.EOF:
			err = fmt.Errorf("it ended after %d of %d bytes: %w", s.off, s.desc.Size, io.ErrUnexpectedEOF)
		}
		// The first attempt to open the blob decides whether the source has it.
		never := s.rc == nil && s.off == 0 && s.failed == 0
		s.Close()
		if never || s.ctx.Err() != nil || errors.Is(err, blobstore.ErrBlobUnknown) || s.failed+1 >= attempts {
			return 0, err
		}
		if err := sleep(s.ctx, pause<<s.failed); err != nil {
			return 0, err
		}
		s.failed++
	}
}

// try reads once, and opens the blob before if it is not open.
func (s *steadyReader) try(p []byte) (int, error) {
	if s.rc == nil {
		rc, err := s.from.Open(s.ctx, s.desc, s.off)
		if err != nil {
			return 0, err
		}
		s.rc = rc
	}
	if most := s.desc.Size - s.off + 1; int64(len(p)) > most {
		p = p[:most]
	}
	return s.rc.Read(p)
}

// Close closes the connection.
func (s *steadyReader) Close() {
	if s.rc != nil {
		s.rc.Close()
		s.rc = nil
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
