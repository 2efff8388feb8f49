package ocihttp

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// BenchmarkWarm is what most requests to a registry are: whether a blob is
// there, and where its bytes are, when that is in the cache. It is measured for
// the handler alone, and for a server over loopback, where cpu-us/op is the
// time of the processor for net/http, the handler and a client that does next
// to nothing.
func BenchmarkWarm(b *testing.B) {
	content := strings.Repeat("long enough not to be inline ", 1000)
	d := digest.FromString(content)
	bucket, err := memory.Open(b.Context(), memory.Config{})
	if err != nil {
		b.Fatal(err)
	}
	calls := 0
	bucket = drivertest.Wrap(drivertest.Signing(bucket), func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if c.Method != "SignGet" {
			calls++
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
	push := httptest.NewRequestWithContext(b.Context(), "POST", "/v2/library/x/blobs/uploads/?digest="+d.String(), strings.NewReader(content))
	if w := httptest.NewRecorder(); true {
		h.ServeHTTP(w, push)
		if w.Code != http.StatusCreated {
			b.Fatal(w.Code)
		}
	}
	target := "/v2/library/x/blobs/" + d.String()
	for _, c := range []struct {
		method string
		status int
	}{{"HEAD", http.StatusOK}, {"GET", http.StatusTemporaryRedirect}} {
		b.Run(c.method, func(b *testing.B) {
			r := httptest.NewRequestWithContext(b.Context(), c.method, target, nil)
			w := &discard{header: http.Header{}}
			h.ServeHTTP(w, r)
			calls = 0
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				h.ServeHTTP(w, r)
			}
			if w.status != c.status || calls != 0 {
				b.Fatalf("answered %d with %d requests to the store, want %d with none", w.status, calls, c.status)
			}
		})
		b.Run(c.method+"/server", func(b *testing.B) {
			s := httptest.NewServer(h)
			defer s.Close()
			conn, err := new(net.Dialer).DialContext(b.Context(), "tcp", s.Listener.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			request := []byte(c.method + " " + target + " HTTP/1.1\r\nHost: x\r\nUser-Agent: bench\r\n\r\n")
			want := fmt.Sprintf("HTTP/1.1 %d ", c.status)
			answer := bufio.NewReader(conn)
			began := processorTime(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := conn.Write(request); err != nil {
					b.Fatal(err)
				}
				line, err := answer.ReadSlice('\n')
				if err != nil || !strings.HasPrefix(string(line), want) {
					b.Fatalf("%q, %v", line, err)
				}
				for len(line) > len("\r\n") { // neither answer has a body
					if line, err = answer.ReadSlice('\n'); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64((processorTime(b)-began).Microseconds())/float64(b.N), "cpu-us/op")
		})
	}
}

// discard is an answer that nobody reads.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header                 { return d.header }
func (d *discard) WriteHeader(status int)              { d.status = status }
func (d *discard) Write(p []byte) (int, error)         { return len(p), nil }
func (d *discard) ReadFrom(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) }

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
