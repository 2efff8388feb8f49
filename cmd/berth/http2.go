package main

import (
	"net/http"

	"github.com/berthhq/berth/cmd/berth/config"
)

const (
	// Bytes of a body that its handler has not read wait in the server, up to
	// the window of the stream. It is the protocol's initial one: until a client
	// has read the server's settings it uses that, and net/http resets a stream
	// that gets more than its own. The window of the connection has room for the
	// windows of all its streams, so that uploads that wait for memory do not use
	// up what the upload that they wait for receives by. net/http takes less than
	// 4 MiB, and clients open another connection for more streams.
	http2Window  = 64 << 10 // bytes
	http2Streams = 60
	http2Frame   = 16 << 10 // bytes, the least that the protocol allows
)

// protocols returns what the server speaks.
func protocols(cfg config.Listen) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(cfg.H2C)
	return p
}

// http2Config returns limits for what a connection of HTTP/2 holds and how long
// a client may take.
//
// The deadline of a write resets its stream, and a connection that takes no
// bytes can't be told so. Such a connection is closed.
func http2Config() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams:          http2Streams,
		MaxReadFrameSize:              http2Frame,
		MaxReceiveBufferPerStream:     http2Window,
		MaxReceiveBufferPerConnection: http2Streams * http2Window,
		WriteByteTimeout:              answerTimeout,
	}
}
