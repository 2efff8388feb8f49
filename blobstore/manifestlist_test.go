package blobstore

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// TestEnumerateManifests lists manifests of both algorithms. Those that cannot be read
// are left out.
func TestEnumerateManifests(t *testing.T) {
	p := newPushes(t, Config{})
	config := p.blob("config")
	var want []digest.Digest
	for i := range 40 {
		put := imageOf(config).with("n", i)
		if i%3 == 0 {
			put.Digest = digest.SHA512.FromBytes(put.Content)
		}
		p.mustPut(put)
		if i%5 == 0 {
			p.mustDelete(put.Digest)
			continue
		}
		if i%5 == 1 {
			p.changeManifest(put.Digest, markCondemned)
		}
		want = append(want, put.Digest)
	}
	slices.Sort(want)
	for _, n := range []int{41, 1} { // cold and warm, but for what is never cached
		p.calls = nil
		var got []digest.Digest
		must(t, p.Manifests().Enumerate(t.Context(), func(d digest.Digest) error {
			got = append(got, d)
			return nil
		}))
		if !slices.Equal(got, want) || len(p.calls) > 41 || n == 1 && len(p.calls) > 1+16 {
			t.Errorf("Enumerate = %d manifests with %d requests, want %d", len(got), len(p.calls), len(want))
		}
	}
	stop := errors.New("stop")
	n := 0
	err := p.Manifests().Enumerate(t.Context(), func(digest.Digest) error { n++; return stop })
	if !errors.Is(err, stop) || n != 1 {
		t.Errorf("Enumerate with an ingester that stops = %v after %d, want its error after 1", err, n)
	}
	for _, other := range []string{"library/app2", "library", "other"} {
		must(t, repository(t, p.s, other).Manifests().Enumerate(t.Context(), func(d digest.Digest) error {
			t.Errorf("Enumerate of %s returns %s", other, d)
			return nil
		}))
	}
}

// TestExists checks which manifests exist.
func TestExists(t *testing.T) {
	p := newPushes(t, Config{})
	put, deleted, condemned := imageOf(p.blob("a")), imageOf(p.blob("b")), longImage(p.blob("c"))
	for _, put := range []ManifestPut{put, deleted, condemned} {
		p.mustPut(put)
	}
	p.mustDelete(deleted.Digest)
	p.condemn(condemned)
	for d, want := range map[digest.Digest]bool{
		put.Digest: true, deleted.Digest: false, condemned.Digest: true,
		digest.FromString("x"): false, digest.SHA512.FromBytes(put.Content): false,
	} {
		got, err := p.Manifests().Exists(t.Context(), d)
		if err != nil || got != want {
			t.Errorf("Exists(%s) = %t, %v, want %t", d, got, err, want)
		}
		m, err := p.Manifests().Get(t.Context(), d)
		if want && (err != nil || m.Digest.Algorithm().FromBytes(m.Content) != d || m.Size != int64(len(m.Content)) || m.MediaType != manifest.MediaTypeImage) ||
			!want && !errors.Is(err, ErrManifestUnknown) {
			t.Errorf("Get(%s) = %+v, %v", d, m.Descriptor, err)
		}
	}
}

// TestRepositories lists repositories from their markers, in pages.
func TestRepositories(t *testing.T) {
	p := newPushes(t, Config{})
	config := p.blob("config")
	names := []string{"a", "a/b", "a/b/c", "a-b", "a.b", "ab", "library/app", "z"}
	for _, name := range names {
		repo := repository(t, p.s, name)
		_, err := repo.Put(t.Context(), "", []byte("config"))
		must(t, err)
		_, err = repo.Manifests().Put(t.Context(), imageOf(config))
		must(t, err)
	}
	_, err := repository(t, p.s, "blobs/only").Put(t.Context(), "", []byte("config"))
	must(t, err)
	condemn(t, p.bucket, catalog.MarkerKey("ab"), func(m *catalog.Marker) { m.State = catalog.Condemned })
	for _, test := range []struct {
		last  string
		n     int
		first int   // of the names
		calls []int // keys
	}{
		{"", 0, 0, []int{1000}},
		{"", 3, 0, []int{3, 1000}},
		{"", 8, 0, []int{8}},
		{"", 9, 0, []int{9}},
		{"a/b", 2, 2, []int{2, 1000}},
		{"a/b/d", 9, 3, []int{9}},
		{"b", 1, 6, []int{1, 1000}},
		{"z", 1, 8, []int{1}},
	} {
		p.calls = nil
		var got []string
		for name, err := range p.s.Repositories(t.Context(), test.last, test.n) {
			must(t, err)
			got = append(got, name.Name())
		}
		if want := names[test.first:]; !slices.Equal(got, want) {
			t.Errorf("Repositories(%q, %d) = %q, want %q", test.last, test.n, got, want)
		}
		if calls := p.listCalls(); !slices.Equal(calls, test.calls) {
			t.Errorf("Repositories(%q, %d) asks for pages of %d keys, want %d", test.last, test.n, calls, test.calls)
		}
	}
	p.intercept = func(context.Context, drivertest.Call, func(context.Context) error) error { return drivers.ErrBusy }
	for _, err := range p.s.Repositories(t.Context(), "", 1) {
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("Repositories of a busy store = %v, want ErrUnavailable", err)
		}
	}
}
