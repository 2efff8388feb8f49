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

// listAll returns the digests that enumerate passes to its ingester, and its error.
func listAll(enumerate func(ingester func(digest.Digest) error) error) (all []digest.Digest, err error) {
	err = enumerate(func(d digest.Digest) error {
		all = append(all, d)
		return nil
	})
	return all, err
}

// TestEnumerate enumerates blobs of several repositories, of which one was deleted
// and one has an alias.
func TestEnumerate(t *testing.T) {
	for name, open := range buckets(t) {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, open(t), smallParts())
			want, deleted := enumerated(t, s)
			got, err := listAll(func(f func(digest.Digest) error) error { return s.Enumerate(t.Context(), f) })
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("Enumerate = %v, %v, want %v", got, err, want)
			}
			testResumedEnumeration(t, s, want)

			after, _ := slices.BinarySearch(want, deleted)
			got, err = listAll(func(f func(digest.Digest) error) error { return s.EnumerateAfter(t.Context(), deleted, f) })
			if err != nil || !slices.Equal(got, want[after:]) {
				t.Errorf("EnumerateAfter(%s), which was deleted, = %v, %v, want %v", deleted, got, err, want[after:])
			}
			for _, bad := range []digest.Digest{"x", "sha256:x", digest.SHA512.FromString("x")} {
				if err := s.EnumerateAfter(t.Context(), bad, func(digest.Digest) error { return nil }); !isInvalidDigest(err) {
					t.Errorf("EnumerateAfter(%q) = %v, want an ErrBlobInvalidDigest", bad, err)
				}
			}
		})
	}
}

// enumerated pushes blobs, deletes one of them, and gives another one an alias. It
// returns the digests that are left, in order.
func enumerated(t *testing.T, s *Store) (left []digest.Digest, deleted digest.Digest) {
	t.Helper()
	for i := range 30 {
		p := fmt.Appendf(nil, "blob %d", i)
		for _, in := range []string{"a", "b", "c/d"}[:1+i%3] {
			_, err := repository(t, s, in).Put(t.Context(), "", p)
			must(t, err)
		}
		left = append(left, digest.FromBytes(p))
	}
	deleted, left = left[0], left[1:]
	must(t, repository(t, s, "a").Delete(t.Context(), deleted))
	must(t, repository(t, s, "a").SetDescriptor(t.Context(), digest.SHA512.FromString("blob 1"), Descriptor{Digest: left[0]}))
	slices.Sort(left)
	return left, deleted
}

// testResumedEnumeration ends an enumeration after each digest, and resumes it.
func testResumedEnumeration(t *testing.T, s *Store, want []digest.Digest) {
	t.Helper()
	enough := errors.New("enough")
	for n := 1; n <= len(want); n++ {
		var first []digest.Digest
		err := s.Enumerate(t.Context(), func(d digest.Digest) error {
			if first = append(first, d); len(first) == n {
				return enough
			}
			return nil
		})
		if err != enough || !slices.Equal(first, want[:n]) { //nolint:errorlint // it must be the ingester's error itself
			t.Fatalf("Enumerate of %d = %v, %v, want %v and the error of the ingester", n, first, err, want[:n])
		}
		rest, err := listAll(func(f func(digest.Digest) error) error { return s.EnumerateAfter(t.Context(), first[n-1], f) })
		if err != nil || !slices.Equal(rest, want[n:]) {
			t.Fatalf("EnumerateAfter digest %d = %v, %v, want %v", n, rest, err, want[n:])
		}
	}
}

func isInvalidDigest(err error) bool {
	_, ok := errors.AsType[ErrBlobInvalidDigest](err)
	return ok
}

// TestEnumerateStreams counts the requests of Enumerate. It lists a page at a time,
// stops when the ingester does, and reads no record.
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
		t.Errorf("Enumerate passed %d digests, want %d", n, blobs)
	}
	enough := errors.New("enough")
	r.counter.Reset()
	if err := r.s.Enumerate(t.Context(), func(digest.Digest) error { return enough }); !errors.Is(err, enough) || r.counter.Total() != 1 {
		t.Errorf("Enumerate of one = %v with %d requests, want one", err, r.counter.Total())
	}

	// A store that fails half-way. The error is one of this package.
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
		t.Errorf("Enumerate with a canceled context = %v, want context.Canceled", err)
	}
}

// TestHolders lists the repositories of a blob by both of its digests.
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
	for _, d := range []digest.Digest{digest.FromString("absent"), digest.SHA512.FromString("absent")} {
		if got, err := holders(d); err != nil || len(got) != 0 {
			t.Errorf("Holders(%s) = %q, %v, want none", d, got, err)
		}
	}
	if _, err := holders("sha256:x"); !isInvalidDigest(err) {
		t.Errorf("Holders of an invalid digest = %v, want an ErrBlobInvalidDigest", err)
	}
}

// TestMountAny mounts a blob out of the first repository that the client may read and
// that still has the link. It checks access no more often than necessary.
func TestMountAny(t *testing.T) {
	r := newReads(t, Config{})
	d := digest.FromString("shared")
	for _, name := range []string{"b", "c", "d"} {
		if _, err := repository(t, r.s, name).Put(t.Context(), "", []byte("shared")); err != nil {
			t.Fatal(err)
		}
	}
	var checked []string
	may := func(yes string) func(context.Context, string) bool {
		checked = nil
		return func(_ context.Context, name string) bool {
			checked = append(checked, name)
			return strings.Contains(yes, name)
		}
	}
	if _, err := r.MountAny(t.Context(), d, may("")); !errors.Is(err, ErrBlobUnknown) || !slices.Equal(checked, []string{"b", "c", "d"}) {
		t.Errorf("MountAny without access = %v after checking %q, want ErrBlobUnknown after all three", err, checked)
	}
	if _, err := r.Stat(t.Context(), d); !errors.Is(err, ErrBlobUnknown) {
		t.Errorf("Stat after MountAny failed = %v, want ErrBlobUnknown", err)
	}

	// The link of the first one is deleted while access to it is checked.
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
		t.Errorf("MountAny = %v, %v, want a mount out of c", desc, err)
	}
	r.wants(t, "Get of the mounted blob", 0, r.get(t, d))

	other := repository(t, r.s, "other")
	r.wants(t, "MountAny", 4, func() error { // a List, and those of a mount
		_, err := other.MountAny(t.Context(), d, may("d"))
		return err
	})
	r.intercept = (&drivertest.Faulty{Err: drivers.ErrBusy, Match: func(c drivertest.Call) bool { return c.Method == "List" }}).Intercept
	if _, err := r.MountAny(t.Context(), d, may("d")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("MountAny of a busy store = %v, want ErrUnavailable", err)
	}
}

// TestMountAnyChecksAThousand gives up after a thousand repositories.
func TestMountAnyChecksAThousand(t *testing.T) {
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
	checks := 0
	r.counter.Reset()
	_, err = repository(t, r.s, "z").MountAny(t.Context(), d, func(context.Context, string) bool { checks++; return false })
	if !errors.Is(err, ErrBlobUnknown) || checks != 1000 || r.counter.Total() != 1 {
		t.Errorf("MountAny = %v after %d checks and %d requests, want ErrBlobUnknown after 1000 and 1", err, checks, r.counter.Total())
	}
}
