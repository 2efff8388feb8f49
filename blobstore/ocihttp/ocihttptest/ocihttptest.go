// Package ocihttptest has what tests of HTTP servers in several packages need: a
// listener within the process, a transport that uses HTTP/2, and a buffer for logs and
// output.
package ocihttptest

import (
	"bytes"
	"net"
	"net/http"
	"sync"
)

// Pipes is a listener for connections within the process. In a synctest bubble
// they use the bubble's clock.
type Pipes struct {
	accept chan net.Conn
	closed chan struct{}
}

// NewPipes returns a listener without connections.
func NewPipes() *Pipes {
	return &Pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept implements [net.Listener].
func (l *Pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener]. It may be called once.
func (l *Pipes) Close() error {
	close(l.closed)
	return nil
}

// Addr implements [net.Listener].
func (l *Pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// Dial returns the client's end of a new connection. It waits for Accept.
func (l *Pipes) Dial() net.Conn {
	client, server := net.Pipe()
	l.accept <- server
	return client
}

// UnencryptedHTTP2 makes a transport use HTTP/2 without TLS, and nothing else.
func UnencryptedHTTP2(t *http.Transport) *http.Transport {
	t.Protocols = new(http.Protocols)
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

// Buffer is a buffer that is safe for concurrent use. The zero value is empty.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends p. It never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns everything that was written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
