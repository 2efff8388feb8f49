package blobstore

import (
	"bufio"
	"io"
	"mime/multipart"
	"net/textproto"

	"github.com/berthhq/berth/blobstore/internal/header"
)

// byteranges is the body of a response with several ranges
// (https://www.rfc-editor.org/rfc/rfc9110#section-14.6).
type byteranges struct {
	spans     []header.Span
	mediaType string // of the blob
	size      int64  // of the blob
	boundary  string
}

func newByteranges(spans []header.Span, mediaType string, size int64) byteranges {
	return byteranges{spans, mediaType, size, multipart.NewWriter(nil).Boundary()}
}

func (b byteranges) contentType() string { return "multipart/byteranges; boundary=" + b.boundary }

// length returns the length of the body.
func (b byteranges) length() int64 {
	var n counter
	_ = b.write(&n, func(_ io.Writer, s header.Span) error { // a counter never fails
		n += counter(s.Len())
		return nil
	})
	return int64(n)
}

// send writes the body to w. copySpan copies the bytes of a span.
func (b byteranges) send(w io.Writer, copySpan func(io.Writer, header.Span) error) error {
	buf := bufio.NewWriterSize(w, 32<<10) // for many small ranges; large ones bypass it by w.ReadFrom
	if err := b.write(buf, copySpan); err != nil {
		return err
	}
	return buf.Flush()
}

func (b byteranges) write(w io.Writer, copySpan func(io.Writer, header.Span) error) error {
	parts := multipart.NewWriter(w)
	if err := parts.SetBoundary(b.boundary); err != nil {
		return err
	}
	for _, s := range b.spans {
		_, err := parts.CreatePart(textproto.MIMEHeader{
			"Content-Range": {s.ContentRange(b.size)},
			"Content-Type":  {b.mediaType},
		})
		if err != nil {
			return err
		}
		if err := copySpan(w, s); err != nil {
			return err
		}
	}
	return parts.Close()
}

// counter counts the bytes that are written to it.
type counter int64

func (n *counter) Write(p []byte) (int, error) {
	*n += counter(len(p))
	return len(p), nil
}
