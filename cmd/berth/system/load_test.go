package system

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
)

// load is clients that push and read at the same time.
type load struct {
	f    *fleet
	part int // size of parts, in bytes

	mu     sync.Mutex
	pushed [][]byte // acknowledged blobs
}

// during pushes and reads until do has returned and all blobs have been pushed.
func (l *load) during(t *testing.T, seed uint64, do func()) {
	t.Helper()
	var clients sync.WaitGroup
	done := make(chan struct{})
	clients.Go(func() { l.push(t, seed) })
	clients.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				l.read(t, i)
			}
		}
	})
	do()
	close(done)
	clients.Wait()
}

// push pushes in three ways at the same time: in chunks, in a PATCH and a PUT, and in
// a single PUT.
func (l *load) push(t *testing.T, seed uint64) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var clients sync.WaitGroup
	for way, size := range []int{l.part + l.part/2, 50_000, l.part + 1000} {
		chunk := []int{size/2 + 1, size - 1000, size}[way]
		clients.Go(func() {
			data := randomBytes(10*seed+uint64(way), size)
			if err := newPushClient(l.f, data).push(ctx, chunk); err != nil {
				t.Errorf("push of %d bytes, %d at a time: %v", size, chunk, err)
				return
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.pushed = append(l.pushed, data)
		})
	}
	clients.Wait()
}

// read reads a blob that was acknowledged. The read may fail, but it must not return
// other bytes.
func (l *load) read(t *testing.T, i int) {
	l.mu.Lock()
	data := l.pushed[i%len(l.pushed)]
	l.mu.Unlock()
	a, err := request(t.Context(), l.f.any(), http.MethodGet, "/v2/test/blobs/"+digest.FromBytes(data).String(), nil)
	switch {
	case err != nil:
		if !bytes.HasPrefix(data, a.body) {
			t.Errorf("GET broke off after %d bytes that differ from the blob", len(a.body))
		}
	case a.status == http.StatusOK:
		if !bytes.Equal(a.body, data) {
			t.Errorf("GET returned %d bytes that differ from the %d bytes that were pushed", len(a.body), len(data))
		}
	default:
		wantUnavailable(t, "GET", a)
	}
}

func (l *load) readAll(t *testing.T) {
	t.Helper()
	for _, data := range l.pushed {
		wantBlob(t, l.f.any(), data)
	}
}
