package ocihttp

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// BenchmarkWarm measures the requests that a registry gets most: HEAD and GET of a
// blob that is in the cache. It measures the handler alone, and a server over
// loopback. There cpu-us/op is the processor time of net/http, the handler and a
// client that does very little.
func BenchmarkWarm(b *testing.B) {
	content := strings.Repeat("long enough not to be inline ", 1000)
	target := "/v2/library/x/blobs/" + digest.FromString(content).String()
	h, calls := newBenchHandler(b)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), "POST",
		"/v2/library/x/blobs/uploads/?digest="+digest.FromString(content).String(), strings.NewReader(content)))
	if w.Code != http.StatusCreated {
		b.Fatalf("POST = %d, want 201", w.Code)
	}
	for _, c := range []struct {
		method string
		status int
	}{{"HEAD", http.StatusOK}, {"GET", http.StatusTemporaryRedirect}} {
		b.Run(c.method, func(b *testing.B) { benchHandler(b, h, calls, c.method, target, c.status, 0) })
		b.Run(c.method+"/server", func(b *testing.B) { benchServer(b, h, c.method, target, c.status) })
	}
}

// BenchmarkManifests measures the requests for manifests, with the requests to the store
// that each sends. A GET by digest is answered from memory, and a GET by tag reads the
// tag.
func BenchmarkManifests(b *testing.B) {
	const repository = "/v2/library/x/"
	config := `{"architecture":"amd64","os":"linux"}`
	image := func(i int) string {
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[%s],"annotations":{"n":"%d"}}`,
			typeImage, typeConfig, digest.FromString(config), len(config),
			strings.TrimSuffix(strings.Repeat(fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d},`, typeLayer, digest.FromString(config), len(config)), 10), ","), i)
	}
	h, calls := newBenchHandler(b)
	send := func(method, target, body string) {
		b.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), method, target, strings.NewReader(body)))
		if w.Code != http.StatusCreated {
			b.Fatalf("%s %s = %d %s, want 201", method, target, w.Code, w.Body)
		}
	}
	send("POST", repository+"blobs/uploads/?digest="+digest.FromString(config).String(), config)
	for i := range 100 {
		send("PUT", fmt.Sprintf("%smanifests/v%d", repository, i), image(0))
	}
	byDigest := repository + "manifests/" + digest.FromString(image(0)).String()
	for _, c := range []struct {
		name, method, target string
		calls                int
	}{
		{"GETByDigest", "GET", byDigest, 0},
		{"HEADByDigest", "HEAD", byDigest, 0},
		{"GETByTag", "GET", repository + "manifests/v1", 1},
		{"HEADByTag", "HEAD", repository + "manifests/v1", 1},
		{"Tags", "GET", repository + "tags/list", 1},
	} {
		b.Run(c.name, func(b *testing.B) { benchHandler(b, h, calls, c.method, c.target, http.StatusOK, c.calls) })
		b.Run(c.name+"/server", func(b *testing.B) { benchServer(b, h, c.method, c.target, http.StatusOK) })
	}
	b.Run("PUT", func(b *testing.B) {
		w := &discardWriter{header: http.Header{}}
		*calls = 0
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			n++
			body := image(n)
			r := httptest.NewRequestWithContext(b.Context(), "PUT", repository+"manifests/latest", strings.NewReader(body))
			clear(w.header)
			h.ServeHTTP(w, r)
		}
		b.ReportMetric(float64(*calls)/float64(n), "calls/op")
		if w.status != http.StatusCreated {
			b.Fatalf("PUT = %d, want 201", w.status)
		}
	})
}

// newBenchHandler returns a handler for a store that signs URLs, and the number of
// its requests to the store.
func newBenchHandler(b *testing.B) (http.Handler, *int) {
	b.Helper()
	bucket, err := memory.Open(b.Context(), memory.Config{})
	if err != nil {
		b.Fatal(err)
	}
	calls := new(int)
	bucket = drivertest.Wrap(drivertest.Signing(bucket), func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if c.Method != "SignGet" {
			*calls++
		}
		return do(ctx)
	})
	store, err := blobstore.Open(b.Context(), bucket, blobstore.Config{})
	if err != nil {
		b.Fatal(err)
	}
	h, err := New(store, Config{})
	if err != nil {
		b.Fatal(err)
	}
	return h, calls
}

func benchHandler(b *testing.B, h http.Handler, calls *int, method, target string, status, callsWanted int) {
	r := httptest.NewRequestWithContext(b.Context(), method, target, nil)
	w := &discardWriter{header: http.Header{}}
	h.ServeHTTP(w, r)
	*calls = 0
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		clear(w.header)
		h.ServeHTTP(w, r)
	}
	if w.status != status || *calls != n*callsWanted {
		b.Fatalf("%s = %d with %d requests to the store in %d runs, want %d with %d in each", method, w.status, *calls, n, status, callsWanted)
	}
}

func benchServer(b *testing.B, h http.Handler, method, target string, status int) {
	s := httptest.NewServer(h)
	defer s.Close()
	conn, err := new(net.Dialer).DialContext(b.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	request := []byte(method + " " + target + " HTTP/1.1\r\nHost: x\r\nUser-Agent: bench\r\n\r\n")
	want := fmt.Sprintf("HTTP/1.1 %d ", status)
	response := bufio.NewReader(conn)
	start := processorTime(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		line, err := response.ReadSlice('\n')
		if err != nil || !strings.HasPrefix(string(line), want) {
			b.Fatalf("status line %q, %v, want %q", line, err, want)
		}
		length := 0
		for len(line) > len("\r\n") {
			if line, err = response.ReadSlice('\n'); err != nil {
				b.Fatal(err)
			}
			if text, ok := strings.CutPrefix(string(line), "Content-Length: "); ok && method != http.MethodHead {
				length, _ = strconv.Atoi(strings.TrimSpace(text))
			}
		}
		if _, err := response.Discard(length); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((processorTime(b)-start).Microseconds())/float64(b.N), "cpu-us/op")
}

// discardWriter is a response that is discarded.
type discardWriter struct {
	header http.Header
	status int
}

func (d *discardWriter) Header() http.Header                 { return d.header }
func (d *discardWriter) WriteHeader(status int)              { d.status = status }
func (d *discardWriter) Write(p []byte) (int, error)         { return len(p), nil }
func (d *discardWriter) ReadFrom(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) }

// processorTime returns the processor time that this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
