package system

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// response is the response to a request.
type response struct {
	status int
	header http.Header
	body   []byte
}

// request sends a request to a running berth and reads the response.
func request(ctx context.Context, p *process, method, path string, body io.Reader) (response, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, body)
	if err != nil {
		return response{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	client := p.client
	if _, stalls := body.(*stallingBody); stalls {
		client = waitingClient(p)
		defer client.CloseIdleConnections()
		req.Header.Set("Expect", "100-continue")
	}
	res, err := client.Do(req)
	if err != nil {
		return response{}, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return response{res.StatusCode, res.Header, data}, err
}

// waitingClient returns a client that sends a body only once the server has started
// to read it. A server that shuts down drops requests that are still in the kernel's
// buffers.
func waitingClient(p *process) *http.Client {
	t := p.client.Transport.(*http.Transport).Clone()
	t.ExpectContinueTimeout = patience
	return &http.Client{Transport: t}
}

// ownTransport returns a transport that shares no connections with other tests.
// When an httptest.Server is closed, it closes the idle connections of
// http.DefaultTransport. The connection of a response without a body is idle before
// the client has the response, which may then be lost.
func ownTransport() *http.Transport { return http.DefaultTransport.(*http.Transport).Clone() }

// want sends a request and returns the response. It stops the test if the response has
// another status.
func want(t *testing.T, p *process, status int, method, path string, body io.Reader) response {
	t.Helper()
	a, err := request(t.Context(), p, method, path, body)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", method, path, err, &p.stderr)
	}
	if a.status != status {
		t.Fatalf("%s %s = %d %s, want %d\n%s", method, path, a.status, a.body, status, &p.stderr)
	}
	return a
}

// startUpload starts an upload and returns its location.
func startUpload(t *testing.T, p *process) string {
	t.Helper()
	return want(t, p, http.StatusAccepted, http.MethodPost, "/v2/test/blobs/uploads/", nil).header.Get("Location")
}

// status requests the offset at which to resume an upload.
func status(t *testing.T, p *process, location string) (next string, offset int) {
	t.Helper()
	a := want(t, p, http.StatusNoContent, http.MethodGet, location, nil)
	return a.header.Get("Location"), offsetOf(t, a)
}

// offsetOf returns the offset at which to resume, from the Range header of an
// response.
func offsetOf(t *testing.T, a response) int {
	t.Helper()
	last, err := strconv.Atoi(strings.TrimPrefix(a.header.Get("Range"), "0-"))
	if err != nil {
		t.Fatalf("Range = %q, want 0- and an offset", a.header.Get("Range"))
	}
	if last == 0 {
		return 0 // no bytes; these tests never send a single byte
	}
	return last + 1
}

// wantBlob reads a blob and stops the test if its bytes are not data.
func wantBlob(t *testing.T, p *process, data []byte) {
	t.Helper()
	a := want(t, p, http.StatusOK, http.MethodGet, "/v2/test/blobs/"+digest.FromBytes(data).String(), nil)
	if !bytes.Equal(a.body, data) {
		t.Fatalf("GET returned %d bytes that differ from the %d bytes that were pushed", len(a.body), len(data))
	}
}

// finish returns the target of the PUT that commits an upload of data.
func finish(location string, data []byte) string {
	return fmt.Sprintf("%s&digest=%s", location, digest.FromBytes(data))
}

// randomBytes returns n bytes that depend on the seed only.
func randomBytes(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	data := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(data) // it cannot fail
	return data
}

// stallingBody is a body that blocks after its last byte, and ends once it is
// released.
type stallingBody struct {
	io.Reader

	stalled  chan struct{} // closed when all bytes have been read
	released chan struct{} // closed by the test
}

func stall(data []byte) *stallingBody {
	return &stallingBody{bytes.NewReader(data), make(chan struct{}), make(chan struct{})}
}

func (s *stallingBody) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err == io.EOF {
		close(s.stalled)
		<-s.released
	}
	return n, err
}
