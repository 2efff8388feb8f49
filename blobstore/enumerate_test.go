package blobstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
)

func TestEnumerate(t *testing.T) {
	for name, open := range buckets(t) {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, open(t), smallParts())
			var want []digest.Digest
			for i := range 30 {
				p := fmt.Appendf(nil, "blob %d", i)
				for j, in := range []string{"a", "b", "c/d"}[:1+i%3] {
					desc, err := repository(t, s, in).Put(t.Context(), "", p)
					if err != nil {
						t.Fatal(err)
					}
					if j == 0 {
						want = append(want, desc.Digest)
					}
				}
			}
			// What nobody links any more is not there; nor is what is by another
			// algorithm, which is the same blob.
			gone := want[0]
			want = want[1:]
			if err := repository(t, s, "a").Delete(t.Context(), gone); err != nil {
				t.Fatal(err)
			}
			if err := repository(t, s, "a").SetDescriptor(t.Context(), digest.SHA512.FromString("blob 1"), Descriptor{Digest: want[0]}); err != nil {
				t.Fatal(err)
			}
			slices.Sort(want)

			var got []digest.Digest
			if err := s.Enumerate(t.Context(), func(d digest.Digest) error {
				got = append(got, d)
				return nil
			}); err != nil || !slices.Equal(got, want) {
				t.Errorf("Enumerate = %v, %v, want %v", got, err, want)
			}

			// One that ends anywhere can be gone on with.
			enough := errors.New("enough")
			for n := 1; n <= len(want); n++ {
				var first, rest []digest.Digest
				err := s.Enumerate(t.Context(), func(d digest.Digest) error {
					if first = append(first, d); len(first) == n {
						return enough
					}
					return nil
				})
				if err != enough || !slices.Equal(first, want[:n]) { //nolint:errorlint // it is the ingester's own
					t.Fatalf("Enumerate of %d = %v, %v, want the ingester's error", n, first, err)
				}
				if err := s.EnumerateAfter(t.Context(), first[n-1], func(d digest.Digest) error {
					rest = append(rest, d)
					return nil
				}); err != nil || !slices.Equal(rest, want[n:]) {
					t.Fatalf("EnumerateAfter the %dth = %v, %v, want %v", n, rest, err, want[n:])
				}
			}

			// Also after a digest that isn't there, or is no longer.
			before, _ := slices.BinarySearch(want, gone)
			n := 0
			if err := s.EnumerateAfter(t.Context(), gone, func(digest.Digest) error { n++; return nil }); err != nil || n != len(want)-before {
				t.Errorf("EnumerateAfter a digest that has gone gives %d, %v, want %d", n, err, len(want)-before)
			}
			for _, bad := range []digest.Digest{"x", "sha256:x", digest.SHA512.FromString("x")} {
				if err := s.EnumerateAfter(t.Context(), bad, func(digest.Digest) error { return nil }); !isInvalidDigest(err) {
					t.Errorf("EnumerateAfter(%q) = %v, want an ErrBlobInvalidDigest", bad, err)
				}
			}
		})
	}
}

func isInvalidDigest(err error) bool {
	_, ok := errors.AsType[ErrBlobInvalidDigest](err)
	return ok
}

// Enumerate holds a page of the listing at a time, gives what it has as it
// goes, and asks for nothing more once the ingester has had enough. It reads
// none of the records.
func TestEnumerateStreams(t *testing.T) {
	r := newReads(t, Config{})
	const blobs = 1200 // two keys each: three pages
	for i := range blobs {
		d := digest.FromString(fmt.Sprint(i))
		for _, key := range []string{catalog.RecordKey(d), catalog.LinkKey(d, "a")} {
			if _, err := envelope.Create(t.Context(), r.bucket, key, record{Digest: d}, drivers.Body{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	n := 0
	r.wants(t, "Enumerate", 3, func() error {
		return r.s.Enumerate(t.Context(), func(digest.Digest) error { n++; return nil })
	})
	if n != blobs {
		t.Errorf("Enumerate gave %d digests, want %d", n, blobs)
	}
	enough := errors.New("enough")
	r.counter.Reset()
	if err := r.s.Enumerate(t.Context(), func(digest.Digest) error { return enough }); !errors.Is(err, enough) || r.counter.Total() != 1 {
		t.Errorf("Enumerate of one = %v with %d requests, want one", err, r.counter.Total())
	}

	// A store that fails half-way: what it gave before counts, and the error is
	// in this package's terms.
	faulty := &drivertest.Faulty{Nth: 2, Err: drivers.ErrBusy, Match: func(c drivertest.Call) bool { return c.Method == "List" }}
	r.intercept = faulty.Intercept
	n = 0
	err := r.s.Enumerate(t.Context(), func(digest.Digest) error { n++; return nil })
	if !errors.Is(err, ErrUnavailable) || n != 500 {
		t.Errorf("Enumerate of a store that fails on the second page = %v after %d digests, want ErrUnavailable after 500", err, n)
	}
	r.intercept = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.s.Enumerate(ctx, func(digest.Digest) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("Enumerate with a context that is over = %v, want context.Canceled", err)
	}
}

func TestHolders(t *testing.T) {
	r := newReads(t, Config{})
	long := strings.Repeat("a/", 127) + "a"
	want := []string{"a", "a/b", "a/b/c", "a0", long, "z"}
	for _, name := range want {
		if _, err := repository(t, r.s, name).Put(t.Context(), "", []byte("shared")); err != nil {
			t.Fatal(err)
		}
	}
	d, alias := digest.FromString("shared"), digest.SHA512.FromString("shared")
	if err := r.SetDescriptor(t.Context(), alias, Descriptor{Digest: d}); err != nil {
		t.Fatal(err)
	}
	holders := func(d digest.Digest) (names []string, err error) {
		for name, err := range r.s.Holders(t.Context(), d) {
			if err != nil {
				return names, err
			}
			names = append(names, name.Name())
		}
		slices.Sort(names)
		return names, nil
	}
	slices.Sort(want)
	for d, requests := range map[digest.Digest]int{d: 1, alias: 2} {
		r.counter.Reset()
		got, err := holders(d)
		if err != nil || !slices.Equal(got, want) || r.counter.Total() != requests {
			t.Errorf("Holders(%s) = %q, %v with %d requests, want %q with %d", d, got, err, r.counter.Total(), want, requests)
		}
	}
	for _, d := range []digest.Digest{digest.FromString("nobody's"), digest.SHA512.FromString("nobody's")} {
		if got, err := holders(d); err != nil || len(got) != 0 {
			t.Errorf("Holders(%s) = %q, %v, want none", d, got, err)
		}
	}
	if _, err := holders("sha256:x"); !isInvalidDigest(err) {
		t.Errorf("Holders of a bad digest = %v, want an ErrBlobInvalidDigest", err)
	}
}

// MountAny takes the first repository that may be read, whose link is there
// still, and asks about no more than it must.
func TestMountAny(t *testing.T) {
	r := newReads(t, Config{})
	d := digest.FromString("shared")
	for _, name := range []string{"b", "c", "d"} {
		if _, err := repository(t, r.s, name).Put(t.Context(), "", []byte("shared")); err != nil {
			t.Fatal(err)
		}
	}
	var asked []string
	may := func(yes string) func(context.Context, string) bool {
		asked = nil
		return func(_ context.Context, name string) bool {
			asked = append(asked, name)
			return strings.Contains(yes, name)
		}
	}
	if _, err := r.MountAny(t.Context(), d, may("")); !errors.Is(err, ErrBlobUnknown) || !slices.Equal(asked, []string{"b", "c", "d"}) {
		t.Errorf("MountAny out of nothing = %v after asking about %q, want ErrBlobUnknown after all three", err, asked)
	}
	if _, err := r.Stat(t.Context(), d); !errors.Is(err, ErrBlobUnknown) {
		t.Errorf("Stat = %v, want ErrBlobUnknown: nothing was mounted", err)
	}

	// The link of the first one goes while it is asked about.
	desc, err := r.MountAny(t.Context(), d, func(ctx context.Context, name string) bool {
		if name == "b" {
			if err := repository(t, r.s, "b").Delete(ctx, d); err != nil {
				t.Error(err)
			}
			return true
		}
		return name == "c"
	})
	if err != nil || desc.Digest != d {
		t.Errorf("MountAny = %v, %v, want it out of c", desc, err)
	}
	r.wants(t, "Get of what was mounted", 1, r.get(t, d))

	other := repository(t, r.s, "other")
	r.wants(t, "MountAny", 4, func() error { // LIST, and those of a mount
		_, err := other.MountAny(t.Context(), d, may("d"))
		return err
	})
	r.intercept = (&drivertest.Faulty{Err: drivers.ErrBusy, Match: func(c drivertest.Call) bool { return c.Method == "List" }}).Intercept
	if _, err := r.MountAny(t.Context(), d, may("d")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("MountAny of a busy store = %v, want ErrUnavailable", err)
	}
}

func TestMountAnyAsksAThousandTimes(t *testing.T) {
	r := newReads(t, Config{})
	d := r.put(t, []byte("shared"))
	l, err := r.s.catalog.ReadLink(t.Context(), d, r.name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1500 {
		if _, err := envelope.Create(t.Context(), r.bucket, catalog.LinkKey(d, fmt.Sprintf("b%04d", i)), l.Value, drivers.NewBody(l.Raw)); err != nil {
			t.Fatal(err)
		}
	}
	asked := 0
	r.counter.Reset()
	_, err = repository(t, r.s, "z").MountAny(t.Context(), d, func(context.Context, string) bool { asked++; return false })
	if !errors.Is(err, ErrBlobUnknown) || asked != 1000 || r.counter.Total() != 1 {
		t.Errorf("MountAny = %v after %d questions and %d requests, want ErrBlobUnknown after 1000 and 1", err, asked, r.counter.Total())
	}
}
