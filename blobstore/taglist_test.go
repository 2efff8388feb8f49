package blobstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
)

// createTags creates n tags of a manifest in the bucket, in no particular order. The
// names of tags ascend.
func (p *pushes) createTags(n int, d digest.Digest) (tags []string) {
	p.t.Helper()
	value := catalog.TagOf(p.stored(d).Value)
	for _, i := range rand.Perm(n) {
		tag := fmt.Sprintf("v%05d", i)
		tags = append(tags, tag)
		_, err := envelope.Create(p.t.Context(), p.bucket, catalog.TagKey(pushRepo, tag), value, drivers.Body{})
		must(p.t, err)
	}
	slices.Sort(tags)
	return tags
}

// listCalls returns the number of keys that each List has asked for.
func (p *pushes) listCalls() (counts []int) {
	for _, c := range p.calls {
		if c.Method == "List" {
			counts = append(counts, c.Count)
		}
	}
	p.calls = nil
	return counts
}

// listTags returns a page of tags.
func (p *pushes) listTags(last string, n int) (tags []string, more bool, err error) {
	more, err = p.Tags().List(p.t.Context(), last, n, func(tag string) error {
		tags = append(tags, tag)
		return nil
	})
	return tags, more, err
}

// TestTagPages lists tags in pages, and counts the keys that the pages ask the store for.
func TestTagPages(t *testing.T) {
	p := newPushes(t, Config{})
	put := imageOf(p.blob("config"))
	p.mustPut(put)
	tags := p.createTags(2500, put.Digest)
	for _, test := range []struct {
		last  string
		n     int
		more  bool
		calls []int // keys
	}{
		{"", 0, true, []int{1}},
		{"", 1, true, []int{2}},
		{"", 10, true, []int{11}},
		{"v00009", 10, true, []int{11}},
		{"v00009x", 10, true, []int{11}},
		{"", 999, true, []int{1000}},
		{"", 1000, true, []int{1000}},
		{"", 1500, true, []int{1000, 501}},
		{"", 2499, true, []int{1000, 1000, 500}},
		{"", 2500, false, []int{1000, 1000, 501}},
		{"v00499", 2000, true, []int{1000, 1000}}, // there may be more
		{"v00500", 2000, false, []int{1000, 1000}},
		{"", 10_000, false, []int{1000, 1000, 1000}},
		{"v02498", 10, false, []int{11}},
		{"v02499", 10, false, []int{11}},
		{"w", 10, false, []int{11}},
	} {
		p.calls = nil
		got, more, err := p.listTags(test.last, test.n)
		from, found := slices.BinarySearch(tags, test.last)
		if found {
			from++
		}
		want := tags[from:min(from+test.n, len(tags))]
		if err != nil || more != test.more || !slices.Equal(got, want) {
			t.Errorf("List(%q, %d) = %d tags, %t, %v, want %d, %t", test.last, test.n, len(got), more, err, len(want), test.more)
		}
		if calls := p.listCalls(); !slices.Equal(calls, test.calls) {
			t.Errorf("List(%q, %d) asks for pages of %d keys, want %d", test.last, test.n, calls, test.calls)
		}
	}
	if got, err := p.Tags().All(t.Context()); err != nil || !slices.Equal(got, tags) {
		t.Errorf("All = %d tags, %v, want %d", len(got), err, len(tags))
	}
}

// TestTagListStops checks that a list ends with the first error of its ingester, and asks
// the store for no further page.
func TestTagListStops(t *testing.T) {
	p := newPushes(t, Config{})
	put := imageOf(p.blob("config"))
	p.mustPut(put)
	p.createTags(1500, put.Digest)
	full := errors.New("full")
	for _, n := range []int{1, 1000} {
		p.calls = nil
		ingested := 0
		_, err := p.Tags().List(t.Context(), "", 1500, func(string) error {
			if ingested++; ingested == n {
				return full
			}
			return nil
		})
		if calls := p.listCalls(); !errors.Is(err, full) || ingested != n || len(calls) != 1 {
			t.Errorf("List = %v after %d tags and %d pages, want %v after %d tags and one page", err, ingested, len(calls), full, n)
		}
	}
}

// TestTagsOfUnknownRepository lists tags where there are none. Only the marker decides
// whether the repository is known.
func TestTagsOfUnknownRepository(t *testing.T) {
	p := newPushes(t, Config{})
	config := p.blob("config") // a blob alone makes no repository
	wantUnknown := func(want bool) {
		t.Helper()
		tags, more, err := p.listTags("x", 10)
		all, allErr := p.Tags().All(t.Context())
		if want != errors.Is(err, ErrNameUnknown) || want != errors.Is(allErr, ErrNameUnknown) || len(tags)+len(all) > 0 || more {
			t.Errorf("List = %q, %t, %v, and All = %q, %v, want ErrNameUnknown: %t", tags, more, err, all, allErr, want)
		}
		if !want && all == nil {
			t.Error("an empty list is nil")
		}
	}
	wantUnknown(true)
	p.mustPut(imageOf(config))
	wantUnknown(false)
	condemn(t, p.bucket, catalog.MarkerKey(pushRepo), func(m *catalog.Marker) { m.State = catalog.Condemned })
	wantUnknown(false)

	p.intercept = (&drivertest.Faulty{Nth: 1, Err: drivers.ErrBusy, Match: func(c drivertest.Call) bool { return isCall(c, "List tag") }}).Intercept
	if _, _, err := p.listTags("", 10); !errors.Is(err, ErrUnavailable) {
		t.Errorf("List of a busy store = %v, want ErrUnavailable", err)
	}
}

// TestLookup looks the tags of a manifest up, also after another process has deleted the
// manifest and pushed it again: this one has the earlier life in its cache.
func TestLookup(t *testing.T) {
	p := newPushes(t, Config{})
	a, b := imageOf(p.blob("a")), imageOf(p.blob("b"))
	must(t, p.put(a.tagged("v1", "v2")))
	must(t, p.put(b.tagged("v3")))
	lookup := func(d digest.Digest) []string {
		t.Helper()
		tags, err := p.Tags().Lookup(t.Context(), Descriptor{Digest: d})
		must(t, err)
		return tags
	}
	if got, want := lookup(a.Digest), []string{"v1", "v2"}; !slices.Equal(got, want) {
		t.Errorf("Lookup = %q, want %q", got, want)
	}
	p.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if isCall(c, "List tag") { // the hinted tags stay, as if the process was killed
			p.intercept = nil
			p.changeManifest(a.Digest, func(m *catalog.Manifest) { m.ID = "another life" })
			p.mustPut(a.tagged("v2", "v4"))
		}
		return do(ctx)
	}
	if got, want := lookup(a.Digest), []string{"v2", "v4"}; !slices.Equal(got, want) {
		t.Errorf("Lookup after another life = %q, want %q", got, want)
	}
	p.mustDelete(a.Digest)
	if got := lookup(a.Digest); got != nil {
		t.Errorf("Lookup of a deleted manifest = %q, want none", got)
	}
	if got := lookup(digest.FromString("other")); got != nil {
		t.Errorf("Lookup of an unknown manifest = %q, want none", got)
	}
	_, err := p.Tags().Lookup(t.Context(), Descriptor{Digest: "sha256:x"})
	if _, ok := errors.AsType[ErrBlobInvalidDigest](err); !ok {
		t.Errorf("Lookup of a malformed digest = %v, want an ErrBlobInvalidDigest", err)
	}
}
