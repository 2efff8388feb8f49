package azure

import (
	"context"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"net/http"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"github.com/berthhq/berth/drivers"
)

// crc64Polynomial is the service's polynomial, reversed for package crc64. It
// is described only by the public SDKs.
const crc64Polynomial = 0x9A6C9329AC4BC9B5

// sending is one write in progress, which the SDK may try more than once.
type sending struct {
	body  drivers.Body
	crc64 uint64

	mu    sync.Mutex
	tries int
	over  bool
}

// send returns a sending with the body's CRC-64. It returns an error if the
// body is empty, or does not have the size and CRC-32C that it claims.
func send(body drivers.Body) (*sending, error) {
	if body.Size <= 0 {
		return nil, errors.New("the body is empty")
	}
	s := &sending{body: body}
	table := crc64.MakeTable(crc64Polynomial)
	var size int64
	var crc32c uint32
	for _, segment := range body.Segments {
		size += int64(len(segment))
		crc32c = drivers.UpdateCRC32C(crc32c, segment)
		s.crc64 = crc64.Update(s.crc64, table, segment)
	}
	if size != body.Size || crc32c != body.CRC32C {
		return nil, fmt.Errorf("the body has %d bytes and CRC-32C %08x, but declares %d bytes and %08x", size, crc32c, body.Size, body.CRC32C)
	}
	return s, nil
}

// checksum returns the CRC-64 to send with the body; the service compares it.
func (s *sending) checksum() blob.TransferValidationType {
	return blob.TransferValidationTypeCRC64(s.crc64)
}

// announce returns the body for the SDK to measure. Each try sends another
// reader.
func (s *sending) announce() io.ReadSeekCloser { return streaming.NopCloser(s.body.Reader()) }

// end stops all reading of the body: the answer may arrive before the whole
// body was sent, and the body's memory may be reused after end.
func (s *sending) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

// repeated reports whether there was more than one try. If so, a refusal may be
// the effect of an earlier try.
func (s *sending) repeated() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tries > 1
}

type sendingKey struct{}

// in returns the context for the request that sends s.
func (s *sending) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, sendingKey{}, s)
}

// eachTry counts the tries of a sending, and uses a separate reader for each:
// the connection of an abandoned try may still be reading its body.
type eachTry struct{}

func (eachTry) Do(req *policy.Request) (*http.Response, error) {
	if s, ok := req.Raw().Context().Value(sendingKey{}).(*sending); ok {
		s.mu.Lock()
		s.tries++
		s.mu.Unlock()
		if s.body.Size > 0 {
			req.Raw().GetBody = func() (io.ReadCloser, error) { return &tryBody{sending: s, r: s.body.Reader()}, nil }
			req.Raw().Body, _ = req.Raw().GetBody()
		}
	}
	return req.Next()
}

// tryBody is the body of one try.
type tryBody struct {
	*sending
	r io.Reader
}

func (b *tryBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return 0, errors.New("azure: the request is over")
	}
	return b.r.Read(p)
}

func (b *tryBody) Close() error { return nil }
