package ocihttp

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/ocihttp/ocihttptest"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
)

// stalledWriter is a response that its client does not read until read is closed.
type stalledWriter struct {
	*httptest.ResponseRecorder

	read chan struct{}
}

func (w stalledWriter) Write(p []byte) (int, error) {
	<-w.read
	return w.ResponseRecorder.Write(p)
}

// countedKeys is a bucket that counts the keys that its listings return.
type countedKeys struct {
	drivers.Bucket

	listed *atomic.Int64
}

// List lists keys.
func (b countedKeys) List(ctx context.Context, prefix, after string, want int) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		for o, err := range b.Bucket.List(ctx, prefix, after, want) {
			b.listed.Add(1)
			if !yield(o, err) {
				return
			}
		}
	}
}

// newTaggedHandler returns a handler for a repository with 600 long tags. It counts the
// keys that are listed.
func newTaggedHandler(t *testing.T, listed *atomic.Int64) http.Handler {
	t.Helper()
	store, err := blobstore.Open(t.Context(), countedKeys{openMemory(t, &memory.Store{}), listed}, blobstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		put := blobstore.ManifestPut{MediaType: typeIndex, Content: []byte(indexOf(100))}
		for j := range 100 {
			put.Tags = append(put.Tags, fmt.Sprintf("%d%02d%s", i, j, strings.Repeat("x", 120)))
		}
		if _, err := store.Repository(repository("a")).Manifests().Put(t.Context(), put); err != nil {
			t.Fatal(err)
		}
	}
	h, err := New(store, Config{})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Clients that do not read their long lists hold a bounded number of them in memory.
// Others wait for a while and get 429. Short lists are sent at any time.
func TestLongLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listed := new(atomic.Int64)
		h := newTaggedHandler(t, listed)
		get := func(w http.ResponseWriter, target string) {
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", target, nil))
		}
		wantStatus := func(target string, want int) *httptest.ResponseRecorder {
			t.Helper()
			w := httptest.NewRecorder()
			get(w, target)
			if w.Code != want || want == http.StatusTooManyRequests && (w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), codeTooManyRequests)) {
				t.Errorf("GET %s = %d, Retry-After %q, %.200s, want %d", target, w.Code, w.Header().Get("Retry-After"), w.Body, want)
			}
			return w
		}
		const all, some = "/v2/a/tags/list", "/v2/a/tags/list?n=500"
		if n := len(wantStatus(some, http.StatusOK).Body.Bytes()); n > shortList {
			t.Fatalf("500 tags take %d bytes, want a short list", n)
		}

		read := make(chan struct{})
		var stalled, waiting sync.WaitGroup
		for range maxLongLists {
			w := stalledWriter{httptest.NewRecorder(), read}
			stalled.Go(func() {
				get(w, all)
				if w.Code != http.StatusOK || w.Body.Len() <= shortList {
					t.Errorf("GET by a slow client = %d, %d bytes, want the long list", w.Code, w.Body.Len())
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		listed.Store(0)
		for range maxLongLists {
			waiting.Go(func() { wantStatus(all, http.StatusTooManyRequests) })
		}
		synctest.Wait()
		if n := listed.Load(); n >= 600*maxLongLists {
			t.Errorf("the waiting requests have read %d keys, want only those of short lists", n)
		}
		wantStatus(all, http.StatusTooManyRequests) // immediately
		wantStatus(some, http.StatusOK)
		if took := time.Since(start); took != 0 {
			t.Errorf("the responses took %v, want no waiting", took)
		}
		waiting.Wait()
		if took := time.Since(start); took != listPatience {
			t.Errorf("the other clients have waited for %v, want %v", took, listPatience)
		}
		waiting.Go(func() { wantStatus(all, http.StatusOK) })
		synctest.Wait()
		close(read)
		waiting.Wait()
		stalled.Wait()
		wantStatus(all, http.StatusOK)
	})
}

// Clients that do not read their long lists are dropped, so that other clients get
// theirs.
func TestUnreadLists(t *testing.T) {
	var h http.Handler
	inBubble(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }), Unread{}, func(t *testing.T, l *ocihttptest.Pipes, _ context.CancelFunc) {
		h = newTaggedHandler(t, new(atomic.Int64))
		request := "GET /v2/a/tags/list HTTP/1.1\r\nHost: x\r\n\r\n"
		start := time.Now()
		for range maxLongLists {
			c := l.Dial()
			t.Cleanup(func() { c.Close() })
			if _, err := io.WriteString(c, request); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		time.Sleep(listPatience)
		c := dialPipe(l)
		defer c.Close()
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK || len(body) <= shortList {
			t.Errorf("GET after %d clients that read nothing = %d, %d bytes, %v, want the long list", maxLongLists, res.StatusCode, len(body), err)
		}
		if took := time.Since(start); took > listPatience+3*time.Second {
			t.Errorf("the clients that read nothing were dropped after %v, want %v and 1 s for 64 KiB", took, listPatience)
		}
	})
}

// A list is long before an entry is added that makes it long, because the entry would
// take memory.
func TestListReserves(t *testing.T) {
	long := newLongLists()
	l := newList(t.Context(), long, maxReferrers)
	for _, tt := range []struct{ n, held int }{{shortList / 2, 0}, {shortList, 1}, {shortList, 1}} {
		if err := l.reserve(tt.n); err != nil || len(long.made) != tt.held {
			t.Errorf("after %d bytes were reserved, %v, there are %d long lists, want %d", tt.n, err, len(long.made), tt.held)
		}
	}
	l.close()
	if len(long.made) != 0 {
		t.Error("a closed list counts as a long one")
	}
}
