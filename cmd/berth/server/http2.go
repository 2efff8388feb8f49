package server

import "net/http"

const (
	// The server buffers the bytes of a body that its handler has not read, up to
	// the window of the stream. It is the protocol's initial window: a client
	// uses that until it has read the server's settings, and net/http resets a
	// stream that exceeds its own. The connection's window has room for the
	// windows of all its streams. Uploads that wait for memory then do not block
	// the upload that they wait for. net/http accepts less than 4 MiB, and
	// clients open another connection for more streams.
	http2Window  = 64 << 10 // bytes
	http2Streams = 60
	http2Frame   = 16 << 10 // bytes, the least that the protocol allows
)

// protocols returns the protocols that the server supports: HTTP/1.1, and HTTP/2
// without TLS if h2c is set.
func protocols(h2c bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(h2c)
	return p
}

// http2Config returns limits for the memory of an HTTP/2 connection and for the
// time that a client may take.
//
// The deadline of a write resets its stream. If a connection accepts no bytes,
// the reset cannot be sent, so WriteByteTimeout closes the connection.
func http2Config() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams:          http2Streams,
		MaxReadFrameSize:              http2Frame,
		MaxReceiveBufferPerStream:     http2Window,
		MaxReceiveBufferPerConnection: http2Streams * http2Window,
		WriteByteTimeout:              stretchTimeout,
	}
}
