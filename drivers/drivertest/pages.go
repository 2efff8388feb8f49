package drivertest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/berthhq/berth/drivers"
)

// TestPages checks that a List asks the store for about as many keys as its caller
// wants, and only for pages that the caller reads. open opens an empty bucket whose
// requests go through the transport, which sends them to server. mark is what precedes
// each key in a response of the store to a listing.
func TestPages(t *testing.T, mark string, server http.RoundTripper, open func(http.RoundTripper) drivers.Bucket) {
	t.Helper()
	counter := &pageCounter{server: server, mark: []byte(mark)}
	b := open(counter)
	var keys []string
	for i := range 20 {
		keys = append(keys, fmt.Sprintf("k/%02d", i))
		if _, err := b.Create(t.Context(), keys[i], body([]byte(keys[i]))); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		after      string
		want, read int   // keys
		pages      []int // the keys in each page, of which there is one more if the page includes after
	}{
		{"", 0, 1, []int{20}},
		{"", 1, 1, []int{1}},
		{"", 5, 5, []int{5}},
		{"", 5, 20, []int{5, 15}},
		{"", 25, 20, []int{20}},
		{"k/09", 5, 5, []int{5}},
		{"k/09", 0, 10, []int{10}},
	} {
		counter.reset()
		var got []string
		for o, err := range b.List(t.Context(), "k/", test.after, test.want) {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, o.Key); len(got) == test.read {
				break
			}
		}
		from := slices.Index(keys, test.after) + 1
		if expected := keys[from : from+test.read]; !slices.Equal(got, expected) {
			t.Errorf("List(%q, %d) = %q, want %q", test.after, test.want, got, expected)
		}
		pages := counter.reset()
		extra := 0
		if len(pages) > 0 && test.after != "" && pages[0] == test.pages[0]+1 {
			extra = 1
		}
		expected := slices.Clone(test.pages)
		expected[0] += extra
		if !slices.Equal(pages, expected) {
			t.Errorf("%d keys of List(%q, %d) came in pages of %d keys, want %d", test.read, test.after, test.want, pages, test.pages)
		}
	}
}

// pageCounter counts the keys in each page of a listing.
type pageCounter struct {
	server http.RoundTripper
	mark   []byte

	mu    sync.Mutex
	pages []int
}

// RoundTrip sends the request to the server, and counts the keys in its response.
func (c *pageCounter) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.server.RoundTrip(r)
	if err != nil || r.Method != http.MethodGet || !strings.Contains(r.URL.RawQuery, "prefix=") {
		return resp, err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(page))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pages = append(c.pages, bytes.Count(page, c.mark))
	return resp, nil
}

// reset returns the numbers of keys, and starts again.
func (c *pageCounter) reset() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	pages := c.pages
	c.pages = nil
	return pages
}
