package ocihttp

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// Frames of HTTP/2 (https://www.rfc-editor.org/rfc/rfc9113#section-6).
const (
	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	frameWindowUpdate = 8

	flagAck        = 1 // of settings
	flagEndStream  = 1 // of data and headers
	flagEndHeaders = 4
)

type frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

func (f frame) writeTo(w io.Writer) error {
	p := binary.BigEndian.AppendUint32(nil, uint32(len(f.payload))<<8|uint32(f.kind))
	p = binary.BigEndian.AppendUint32(append(p, f.flags), f.stream)
	_, err := w.Write(append(p, f.payload...))
	return err
}

func readFrame(r io.Reader) (frame, error) {
	var head [9]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	f := frame{head[3], head[4], binary.BigEndian.Uint32(head[5:]), make([]byte, binary.BigEndian.Uint32(head[:])>>8)}
	_, err := io.ReadFull(r, f.payload)
	return f, err
}

// headerBlock encodes headers as literals
// (https://www.rfc-editor.org/rfc/rfc7541#section-6.2.2).
func headerBlock(headers ...string) (p []byte) {
	for i, s := range headers {
		if i%2 == 0 {
			p = append(p, 0)
		}
		p = append(append(p, byte(len(s))), s...)
	}
	return p
}

// endlessClient is a client over HTTP/2 that sends an endless body until its
// stream is reset. The client of net/http stops when the response is an error.
type endlessClient struct {
	conn           net.Conn
	stream, window int64 // bytes that flow control lets the client send, in its stream and in the connection
	initial        int64 // window of a stream
	sent           int64
	body           string // of the response
	ended          bool   // reports whether the whole response was received
}

// run sends a PUT and returns when the server has reset its stream.
func (c *endlessClient) run(path string) error {
	if _, err := io.WriteString(c.conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); err != nil {
		return err
	}
	block := headerBlock(":method", "PUT", ":scheme", "http", ":authority", "x", ":path", path)
	for _, f := range []frame{{kind: frameSettings}, {frameHeaders, flagEndHeaders, 1, block}} {
		if err := f.writeTo(c.conn); err != nil {
			return err
		}
	}
	frames, failed := make(chan frame, 1000), make(chan error, 1)
	go func() {
		for r := bufio.NewReader(c.conn); ; {
			f, err := readFrame(r)
			if err != nil {
				failed <- err
				return
			}
			frames <- f
		}
	}()
	c.stream, c.window, c.initial = 65535, 65535, 65535
	piece := frame{kind: frameData, stream: 1, payload: make([]byte, 1<<14)}
	for {
		more := make(chan struct{})
		if min(c.stream, c.window) >= int64(len(piece.payload)) {
			close(more)
		}
		select {
		case f := <-frames:
			if f.kind == frameReset {
				return nil
			}
			if err := c.receive(f); err != nil {
				return err
			}
		case err := <-failed:
			return err
		case <-more:
			if err := piece.writeTo(c.conn); err != nil {
				return err
			}
			n := int64(len(piece.payload))
			c.stream, c.window, c.sent = c.stream-n, c.window-n, c.sent+n
		}
	}
}

// receive handles a frame from the server.
func (c *endlessClient) receive(f frame) error {
	switch f.kind {
	case frameSettings:
		if f.flags&flagAck != 0 {
			return nil
		}
		for p := f.payload; len(p) >= 6; p = p[6:] {
			if binary.BigEndian.Uint16(p) == 4 { // SETTINGS_INITIAL_WINDOW_SIZE
				size := int64(binary.BigEndian.Uint32(p[2:]))
				c.stream, c.initial = c.stream+size-c.initial, size
			}
		}
		return frame{kind: frameSettings, flags: flagAck}.writeTo(c.conn)
	case frameWindowUpdate:
		n := int64(binary.BigEndian.Uint32(f.payload))
		if f.stream == 0 {
			c.window += n
		} else {
			c.stream += n
		}
	case frameData:
		c.body += string(f.payload)
	}
	if (f.kind == frameData || f.kind == frameHeaders) && f.flags&flagEndStream != 0 {
		c.ended = true
	}
	return nil
}

// Over HTTP/2 a client that does not stop sending gets the response, and its
// stream is reset at the limits.
func TestUnreadOverHTTP2IsLimited(t *testing.T) {
	t.Parallel()
	const limit, never = 4 << 20, 1 << 50
	for name, c := range map[string]struct {
		status int
		limits Unread
		least  int64 // number of bytes that the client sends
		most   int64 // including what the window of the server allows
	}{
		"time":               {404, Unread{RejectedTime: 300 * time.Millisecond, RejectedBytes: never}, 1 << 20, never},
		"bytes":              {404, Unread{RejectedTime: time.Hour, RejectedBytes: limit}, limit, limit + 4<<20},
		"time of a success":  {201, Unread{AcceptedTime: 300 * time.Millisecond}, 1 << 20, never},
		"bytes of a success": {201, Unread{AcceptedBytes: limit}, limit, limit + 4<<20},
	} {
		s := httptest.NewUnstartedServer(RespondFirst(t.Context(), statusHandler(), c.limits))
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
		t.Cleanup(s.Close)
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		client := &endlessClient{conn: conn}
		err = client.run(fmt.Sprintf("/?%d", c.status))
		if err != nil || !client.ended || client.body != "answer" {
			t.Errorf("%s: %v, response %q, ended %v, want the whole response and then a reset", name, err, client.body, client.ended)
		}
		if client.sent < c.least || client.sent > c.most {
			t.Errorf("%s: the client sent %d bytes, want %d to %d", name, client.sent, c.least, c.most)
		}
		conn.Close()
	}
}
