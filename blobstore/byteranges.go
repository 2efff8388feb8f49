package blobstore

import (
	"bufio"
	"io"
	"mime/multipart"
	"net/textproto"
)

// byteranges is the body of an answer with several ranges
// (https://www.rfc-editor.org/rfc/rfc9110#section-14.6).
type byteranges struct {
	spans     []span
	mediaType string // of the blob
	size      int64  // of the blob
	boundary  string
}

func newByteranges(spans []span, mediaType string, size int64) byteranges {
	return byteranges{spans, mediaType, size, multipart.NewWriter(nil).Boundary()}
}

func (b byteranges) contentType() string { return "multipart/byteranges; boundary=" + b.boundary }

// length returns the length of the body.
func (b byteranges) length() int64 {
	var n counter
	_ = b.write(&n, func(_ io.Writer, s span) error { // a counter doesn't fail
		n += counter(s.end - s.start)
		return nil
	})
	return int64(n)
}

// send writes the body to w, with the bytes that copySpan copies.
func (b byteranges) send(w io.Writer, copySpan func(io.Writer, span) error) error {
	buf := bufio.NewWriterSize(w, 32<<10) // many ranges are small; a large one goes through w.ReadFrom
	if err := b.write(buf, copySpan); err != nil {
		return err
	}
	return buf.Flush()
}

func (b byteranges) write(w io.Writer, copySpan func(io.Writer, span) error) error {
	parts := multipart.NewWriter(w)
	if err := parts.SetBoundary(b.boundary); err != nil {
		return err
	}
	for _, s := range b.spans {
		_, err := parts.CreatePart(textproto.MIMEHeader{
			"Content-Range": {s.contentRange(b.size)},
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

// counter counts what is written to it.
type counter int64

func (n *counter) Write(p []byte) (int, error) {
	*n += counter(len(p))
	return len(p), nil
}
