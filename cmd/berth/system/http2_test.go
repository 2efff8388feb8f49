package system

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/ocihttp/ocihttptest"
)

// servingHTTP2 runs berth with listen.h2c, for a client that uses HTTP/2.
func servingHTTP2(t *testing.T, root string, env ...string) *process {
	t.Helper()
	p := serving(t, root, append(env, "BERTH_LISTEN_H2C=true")...)
	p.client = &http.Client{Transport: ocihttptest.UnencryptedHTTP2(ownTransport())}
	return p
}

// TestHTTP2 pushes 50 MB over one HTTP/2 connection and pulls them, whole and in
// ranges. The same port serves HTTP/1.1.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	p := servingHTTP2(t, t.TempDir())
	data := randomBytes(7, 50*mB)
	location := startUpload(t, p)
	half := len(data) / 2
	location = want(t, p, http.StatusAccepted, http.MethodPatch, location, bytes.NewReader(data[:half])).header.Get("Location")
	want(t, p, http.StatusCreated, http.MethodPut, finish(location, data), bytes.NewReader(data[half:]))
	wantBlob(t, p, data)

	path := "/v2/test/blobs/" + digest.FromBytes(data).String()
	for header, part := range map[string][]byte{
		"bytes=0-0":                data[:1],
		"bytes=1000-40999999":      data[1000:41_000_000],
		"bytes=-1000000":           data[len(data)-1_000_000:],
		"bytes=49999999-100000000": data[len(data)-1:],
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Range", header)
		res, err := p.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusPartialContent || res.ProtoMajor != 2 || !bytes.Equal(got, part) {
			t.Errorf("GET with Range %s = %s %s with %d bytes, %v, want HTTP/2.0 206 with %d bytes", header, res.Proto, res.Status, len(got), err, len(part))
		}
	}

	p.client = &http.Client{Transport: ownTransport()}
	wantBlob(t, p, data)
}

// TestHTTP2Refusals checks that the response reaches the client of a request that is
// refused before its body is read.
func TestHTTP2Refusals(t *testing.T) {
	t.Parallel()
	p := servingHTTP2(t, t.TempDir())
	for range 5 {
		for path, status := range map[string]int{
			"/v2/test/blobs/uploads/00000000-0000-0000-0000-000000000000?_state=x": http.StatusNotFound,
			"/v2/TEST/blobs/uploads/00000000-0000-0000-0000-000000000000":          http.StatusBadRequest,
			"/v2/": http.StatusMethodNotAllowed,
		} {
			want(t, p, status, http.MethodPatch, path, bytes.NewReader(make([]byte, 5<<20)))
		}
	}
}

// TestHTTP2IsOff checks that the port serves HTTP/1.1 only without listen.h2c.
func TestHTTP2IsOff(t *testing.T) {
	t.Parallel()
	p := serving(t, t.TempDir())
	p.client = &http.Client{Transport: ocihttptest.UnencryptedHTTP2(ownTransport())}
	if a, err := request(t.Context(), p, http.MethodGet, "/v2/", nil); err == nil {
		t.Errorf("GET /v2/ over HTTP/2 = %d, want an error", a.status)
	}
}

// TestHTTP2Shutdown sends SIGTERM in the middle of two PATCHes over HTTP/2. The
// PATCH that ends gets its response. The bytes of the other PATCH are kept.
func TestHTTP2Shutdown(t *testing.T) {
	t.Parallel()
	root, data := t.TempDir(), randomBytes(4, 1<<20)
	p := servingHTTP2(t, root, "BERTH_LIMITS_SHUTDOWN=1s")
	ends, endless := startUpload(t, p), startUpload(t, p)
	first, second := stall(data), stall(data)
	var wg sync.WaitGroup
	wg.Go(func() {
		a, err := request(t.Context(), p, http.MethodPatch, ends, first)
		if err != nil || a.status != http.StatusAccepted {
			t.Errorf("PATCH = %d %s, %v, want 202", a.status, a.body, err)
		}
	})
	wg.Go(func() {
		_, _ = request(t.Context(), p, http.MethodPatch, endless, second) // with or without a response
	})
	<-first.stalled
	<-second.stalled
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	untilRefused(t, p)
	close(first.released)
	wantExit(t, p)
	close(second.released)
	wg.Wait()

	p = serving(t, root)
	for _, location := range []string{ends, endless} {
		if _, offset := status(t, p, location); offset != len(data) {
			t.Errorf("offset = %d, want %d", offset, len(data))
		}
	}
}
