package ocihttp

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/blobstore"
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

// newTaggedHandler returns a handler for a repository with 600 long tags.
func newTaggedHandler(t *testing.T) http.Handler {
	t.Helper()
	store, err := blobstore.Open(t.Context(), openMemory(t, &memory.Store{}), blobstore.Config{})
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
		h := newTaggedHandler(t)
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
		for range maxLongLists {
			waiting.Go(func() { wantStatus(all, http.StatusTooManyRequests) })
		}
		synctest.Wait()
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
