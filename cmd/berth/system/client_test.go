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

// answer is what a server answered.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// request sends a request to a running berth. An error is the connection's.
func request(ctx context.Context, p *process, method, path string, body io.Reader) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, body)
	if err != nil {
		return answer{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	client := p.client
	if _, stalls := body.(*stalling); stalls {
		client = hesitant(p)
		defer client.CloseIdleConnections()
		req.Header.Set("Expect", "100-continue")
	}
	res, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, data}, err
}

// hesitant is a client that sends a body when the server has started to read it.
// What the system holds for a server that has not is no request to it yet, and
// is lost when the server shuts down.
func hesitant(p *process) *http.Client {
	t := p.client.Transport.(*http.Transport).Clone()
	t.ExpectContinueTimeout = patience
	return &http.Client{Transport: t}
}

// ownTransport shares no connections with other tests: each httptest.Server that
// is closed closes the idle ones of http.DefaultTransport, and an answer without
// a body, whose connection is idle already when it comes, may then be lost.
func ownTransport() *http.Transport { return http.DefaultTransport.(*http.Transport).Clone() }

// want sends a request, and stops the test if it is not answered with status.
func want(t *testing.T, p *process, status int, method, path string, body io.Reader) answer {
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

// startUpload starts an upload, and returns its location.
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

// offsetOf is the offset that follows from the header Range.
func offsetOf(t *testing.T, a answer) int {
	t.Helper()
	last, err := strconv.Atoi(strings.TrimPrefix(a.header.Get("Range"), "0-"))
	if err != nil {
		t.Fatalf("Range: %q", a.header.Get("Range"))
	}
	if last == 0 {
		return 0 // nothing has come yet; these tests never send a single byte
	}
	return last + 1
}

// wantBlob reads a blob and compares its bytes.
func wantBlob(t *testing.T, p *process, data []byte) {
	t.Helper()
	a := want(t, p, http.StatusOK, http.MethodGet, "/v2/test/blobs/"+digest.FromBytes(data).String(), nil)
	if !bytes.Equal(a.body, data) {
		t.Fatalf("%d bytes were pushed; other %d bytes come back", len(data), len(a.body))
	}
}

// finish is the request that commits an upload as data.
func finish(location string, data []byte) string {
	return fmt.Sprintf("%s&digest=%s", location, digest.FromBytes(data))
}

// randomBytes are the same in every run for the same seed.
func randomBytes(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	data := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(data) // it never fails
	return data
}

// stalling is a body that gives its bytes and then nothing more, and does not
// end until it is released.
type stalling struct {
	io.Reader

	stalled  chan struct{} // closed when all bytes are gone
	released chan struct{}
}

func stall(data []byte) *stalling {
	return &stalling{bytes.NewReader(data), make(chan struct{}), make(chan struct{})}
}

func (s *stalling) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err == io.EOF {
		close(s.stalled)
		<-s.released
	}
	return n, err
}
