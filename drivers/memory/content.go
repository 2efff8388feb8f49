package memory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/berthhq/berth/drivers"
)

// keep returns the store's own copy of the body, and a tag derived from its
// bytes if tagged is set. It returns an error for an empty body, and for a body
// with a size or checksum that does not match its bytes. The returned checksum
// is that of the copied bytes.
func (s *Store) keep(key string, body drivers.Body, tagged bool) (drivers.Body, string, error) {
	if body.Size <= 0 {
		return drivers.Body{}, "", errEmpty
	}
	segments := body.Segments
	if !s.discards(key) {
		segments = [][]byte{body.Bytes()}
	}
	own := drivers.NewBody(segments...)
	if own.Size != body.Size || own.CRC32C != body.CRC32C {
		return drivers.Body{}, "", fmt.Errorf("the body has %d bytes and CRC-32C %08x, but declares %d bytes and %08x",
			own.Size, own.CRC32C, body.Size, body.CRC32C)
	}
	var tag string
	if tagged {
		sum := sha256.New()
		for _, segment := range segments {
			sum.Write(segment)
		}
		tag = hex.EncodeToString(sum.Sum(nil)[:16])
	}
	if s.discards(key) {
		own.Segments = s.blank(own.Size)
	}
	return own, tag, nil
}

// read reads a body of unknown length in pieces that grow with it. It stops after
// the current Read if ctx is cancelled. It returns an error for an empty body, and
// for a body larger than MaxPart.
func (s *Store) read(ctx context.Context, key string, r io.Reader) (drivers.Body, error) {
	const least, most = 32 << 10, 1 << 20
	var body drivers.Body
	var piece []byte
	var total int64
	for size := least; ; {
		if len(piece) == cap(piece) {
			if len(piece) > 0 && !s.discards(key) {
				body.Segments = append(body.Segments, piece)
				piece = nil
			}
			if piece == nil {
				piece = make([]byte, 0, size)
				size = min(2*size, most)
			}
			piece = piece[:0]
		}
		n, err := r.Read(piece[len(piece):cap(piece)])
		body.CRC32C = drivers.UpdateCRC32C(body.CRC32C, piece[len(piece):len(piece)+n])
		piece = piece[:len(piece)+n]
		total += int64(n)
		if total > s.Limits.MaxPart {
			return drivers.Body{}, fmt.Errorf("part of more than %d bytes", s.Limits.MaxPart)
		}
		if ctxErr := ctx.Err(); ctxErr != nil {
			return drivers.Body{}, ctxErr
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return drivers.Body{}, err
		}
	}
	if total == 0 {
		return drivers.Body{}, errEmpty
	}
	body.Size = total
	if s.discards(key) {
		body.Segments = s.blank(total)
	} else if len(piece) > 0 {
		body.Segments = append(body.Segments, piece)
	}
	return body, nil
}

var errEmpty = errors.New("the body is empty")

func (s *Store) discards(key string) bool {
	return s.Discard && strings.HasPrefix(key, drivers.BulkPrefix)
}

// blank returns size zero bytes in segments that share their memory.
func (s *Store) blank(size int64) [][]byte {
	s.mu.Lock()
	if s.zeros == nil {
		s.zeros = make([]byte, 4*miB)
	}
	zeros := s.zeros
	s.mu.Unlock()
	var segments [][]byte
	for ; size > int64(len(zeros)); size -= int64(len(zeros)) {
		segments = append(segments, zeros)
	}
	return append(segments, zeros[:size])
}

// reader reads one version of an object. Like a connection to a store, it fails
// once the context of Open is cancelled or the reader is closed.
type reader struct {
	ctx  context.Context //nolint:containedctx // the reader's lifetime is that of the request
	body io.Reader
	open bool
}

func (r *reader) Read(p []byte) (int, error) {
	if !r.open {
		return 0, errors.New("memory: read of a closed object")
	}
	if err := r.ctx.Err(); err != nil {
		return 0, fmt.Errorf("memory: read: %w", err)
	}
	return r.body.Read(p)
}

func (r *reader) Close() error {
	r.open = false
	return nil
}
