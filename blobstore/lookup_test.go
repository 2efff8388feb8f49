package blobstore

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
)

// everyRead is each way to read a blob, which all go the same way: err is what
// it came to.
func (r *reads) everyRead(t *testing.T, d digest.Digest) map[string]error {
	t.Helper()
	_, stat := r.Stat(t.Context(), d)
	rc, open := r.Open(t.Context(), d)
	if open == nil {
		rc.Close()
	}
	_, head := r.serve(t, http.MethodHead, d)
	_, get := r.serve(t, http.MethodGet, d)
	_, match := r.serve(t, http.MethodGet, d, "If-None-Match", "*")
	return map[string]error{"Stat": stat, "Open": open, "Get": r.get(t, d)(), "HEAD": head, "GET": get, "GET with If-None-Match": match}
}

// rewriteLink makes the link say something else, as the collector, the scrubber
// or an adoption would.
func (r *reads) rewriteLink(t *testing.T, d digest.Digest, change func(*record)) {
	t.Helper()
	l, err := r.s.catalog.ReadLink(t.Context(), d, r.name)
	if err != nil {
		t.Fatal(err)
	}
	change(&l.Value)
	if _, err := envelope.Replace(t.Context(), r.bucket, l.Object.Key, l.Object.Tag, l.Value, drivers.NewBody(l.Raw)); err != nil {
		t.Fatal(err)
	}
}

// A link marked damaged is unknown, and one that nobody verified is read where
// its data lies.
func TestReadByState(t *testing.T) {
	for _, size := range []int{10, 100_000} {
		for state, want := range map[state]error{live: nil, condemned: nil, unverified: nil, damaged: ErrBlobUnknown} {
			r := newReads(t, Config{})
			d := r.put(t, randomBytes(1, size))
			r.rewriteLink(t, d, func(l *record) { l.State = state })
			for range 2 { // damage is not cached
				for what, err := range r.everyRead(t, d) {
					if !errors.Is(err, want) {
						t.Errorf("%s of %d bytes that are %s = %v, want %v", what, size, state, err, want)
					}
				}
			}
		}
	}
}

// A link that says nonsense, or another berth's, is a failure of the store, not
// an unknown blob.
func TestSpoiltLink(t *testing.T) {
	for what, body := range map[string]string{
		"no JSON":             "nonsense\n",
		"no line":             "nonsense",
		"another version":     `{"v":2,"nonce":"x","value":{}}` + "\n",
		"inline and too long": `{"v":1,"nonce":"x","value":{"size":1}}` + "\n" + "xx",
		"inline and cut":      `{"v":1,"nonce":"x","value":{"size":3}}` + "\n" + "xx",
	} {
		r := newReads(t, Config{})
		d := digest.FromString("x")
		if _, err := r.bucket.Create(t.Context(), catalog.LinkKey(d, "a"), drivers.NewBody([]byte(body))); err != nil {
			t.Fatal(err)
		}
		for read, err := range r.everyRead(t, d) {
			if err == nil || errors.Is(err, ErrBlobUnknown) {
				t.Errorf("%s of a link with %s = %v, want another error", read, what, err)
			}
		}
	}
}

func TestReadBadDigest(t *testing.T) {
	r := newReads(t, Config{})
	for d, reason := range map[digest.Digest]error{
		"":       digest.ErrDigestInvalidFormat,
		"sha256": digest.ErrDigestInvalidFormat,
		digest.Digest("sha256:" + strings.Repeat("A", 64)): digest.ErrDigestInvalidFormat,
		"sha256:abc":                      digest.ErrDigestInvalidLength,
		digest.SHA384.FromString("x"):     ErrBlobDigestUnsupported,
		"blake3:" + digest.Digest("abcd"): ErrBlobDigestUnsupported,
	} {
		for read, err := range r.everyRead(t, d) {
			if !isInvalidDigest(err) || !errors.Is(err, reason) {
				t.Errorf("%s of %q = %v, want an ErrBlobInvalidDigest for %v", read, d, err, reason)
			}
		}
		if err := r.Delete(t.Context(), d); !isInvalidDigest(err) {
			t.Errorf("Delete of %q = %v, want an ErrBlobInvalidDigest", d, err)
		}
	}
	if n := r.counter.ByMethod()["Open"]; n > 2 { // those of opening the store
		t.Errorf("bad digests cost %d requests", n-2)
	}
}

func TestSetDescriptor(t *testing.T) {
	for _, size := range []int{0, 10, 100_000} {
		r := newReads(t, Config{})
		p := randomBytes(1, size)
		d, alias, other := r.put(t, p), digest.SHA512.FromBytes(p), digest.SHA512.FromString("other")
		if err := r.SetDescriptor(t.Context(), other, Descriptor{Digest: d}); !isInvalidDigest(err) {
			t.Errorf("SetDescriptor of a digest that the bytes don't have = %v, want an ErrBlobInvalidDigest", err)
		}
		for _, d := range []digest.Digest{alias, other} {
			if _, err := r.Stat(t.Context(), d); !errors.Is(err, ErrBlobUnknown) {
				t.Errorf("Stat(%s) = %v, want ErrBlobUnknown", d, err)
			}
		}
		for range 2 {
			if err := r.SetDescriptor(t.Context(), alias, Descriptor{Digest: d}); err != nil {
				t.Errorf("SetDescriptor: %v", err)
			}
		}
		if desc, err := r.Stat(t.Context(), alias); err != nil || desc.Digest != d || desc.Size != int64(size) {
			t.Errorf("Stat(%s) = %v, %v, want the canonical descriptor", alias, desc, err)
		}
		r.wants(t, "Get by the alias", map[bool]int{true: 0, false: 1}[size <= 16<<10], r.get(t, alias))
		if _, err := repository(t, r.s, "b").Stat(t.Context(), alias); !errors.Is(err, ErrBlobUnknown) {
			t.Errorf("Stat in another repository = %v, want ErrBlobUnknown: an alias grants nothing", err)
		}
		if err := r.Clear(t.Context(), alias); err != nil {
			t.Errorf("Clear: %v", err)
		}
		for _, d := range []digest.Digest{d, alias} {
			if err := r.Clear(t.Context(), d); !errors.Is(err, ErrBlobUnknown) {
				t.Errorf("Clear again = %v, want ErrBlobUnknown", err)
			}
			if _, err := r.Stat(t.Context(), d); !errors.Is(err, ErrBlobUnknown) {
				t.Errorf("Stat after Clear = %v, want ErrBlobUnknown", err)
			}
		}
	}

	r := newReads(t, Config{})
	d := r.put(t, []byte("x"))
	for _, c := range []struct {
		dgst, canonical digest.Digest
		want            error
	}{
		{d, d, nil},
		{digest.FromString("y"), d, nil}, // see below
		{digest.SHA512.FromString("y"), digest.FromString("y"), ErrBlobUnknown},
		{digest.SHA384.FromString("x"), d, ErrBlobDigestUnsupported},
	} {
		err := r.SetDescriptor(t.Context(), c.dgst, Descriptor{Digest: c.canonical})
		if c.want != nil && !errors.Is(err, c.want) || c.dgst == d && err != nil {
			t.Errorf("SetDescriptor(%s, %s) = %v, want %v", c.dgst, c.canonical, err, c.want)
		}
		if c.want == nil && c.dgst != d && !isInvalidDigest(err) {
			t.Errorf("SetDescriptor(%s, %s) = %v, want an ErrBlobInvalidDigest", c.dgst, c.canonical, err)
		}
	}
	for _, canonical := range []digest.Digest{"", "x", digest.SHA512.FromString("x")} {
		if err := r.SetDescriptor(t.Context(), digest.SHA512.FromString("x"), Descriptor{Digest: canonical}); !isInvalidDigest(err) {
			t.Errorf("SetDescriptor to %q = %v, want an ErrBlobInvalidDigest", canonical, err)
		}
	}

	// Bytes that can't be read to their end prove nothing.
	long := r.put(t, randomBytes(1, 100_000))
	r.intercept = (&drivertest.Faulty{Match: func(c drivertest.Call) bool {
		return c.Method == "Open" && strings.HasPrefix(c.Key, drivers.BulkPrefix)
	}}).Intercept
	alias := digest.SHA512.FromBytes(randomBytes(1, 100_000))
	if err := r.SetDescriptor(t.Context(), alias, Descriptor{Digest: long}); !errors.Is(err, drivertest.ErrInjected) {
		t.Errorf("SetDescriptor of what can't be read = %v, want ErrInjected", err)
	}
	if _, err := r.Stat(t.Context(), alias); !errors.Is(err, ErrBlobUnknown) {
		t.Errorf("Stat(%s) = %v, want ErrBlobUnknown", alias, err)
	}
}

// gate is access control: a digest is closed, or nothing is.
type gate struct {
	closed map[digest.Digest]bool
}

var errClosed = errors.New("closed")

func (g *gate) BlobAccessController(svc BlobDescriptorService) BlobDescriptorService {
	return gated{svc, g}
}

type gated struct {
	BlobDescriptorService
	gate *gate
}

func (g gated) Stat(ctx context.Context, d digest.Digest) (Descriptor, error) {
	if g.gate.closed[d] {
		return Descriptor{}, errClosed
	}
	return g.BlobDescriptorService.Stat(ctx, d)
}

func (g gated) Clear(ctx context.Context, d digest.Digest) error {
	if g.gate.closed[d] {
		return errClosed
	}
	return g.BlobDescriptorService.Clear(ctx, d)
}

func (g gated) SetDescriptor(ctx context.Context, d digest.Digest, desc Descriptor) error {
	if g.gate.closed[desc.Digest] {
		return errClosed
	}
	return g.BlobDescriptorService.SetDescriptor(ctx, d, desc)
}

// What the access controller denies is denied on every way to it, also where
// the blob is in the cache, and the store is not even asked.
func TestAccessControl(t *testing.T) {
	g := &gate{closed: map[digest.Digest]bool{}}
	r := newReads(t, Config{Access: g})
	for _, size := range []int{10, 100_000} {
		p := randomBytes(uint64(size), size)
		d := r.put(t, p)
		for what, err := range r.everyRead(t, d) {
			if err != nil {
				t.Errorf("%s before it is closed: %v", what, err)
			}
		}
		g.closed[d] = true
		other := repository(t, r.s, "b")
		from, err := reference.WithDigest(named(t, "a"), d)
		if err != nil {
			t.Fatal(err)
		}
		r.counter.Reset()
		denied := r.everyRead(t, d)
		_, denied["Mount"] = other.Mount(t.Context(), named(t, "a"), d)
		_, denied["Create with MountFrom"] = other.Create(t.Context(), MountFrom(from))
		denied["Delete"] = r.Delete(t.Context(), d)
		denied["Clear"] = r.Clear(t.Context(), d)
		denied["SetDescriptor"] = r.SetDescriptor(t.Context(), digest.SHA512.FromBytes(p), Descriptor{Digest: d})
		for what, err := range denied {
			if !errors.Is(err, errClosed) {
				t.Errorf("%s = %v, want what the controller says", what, err)
			}
		}
		if calls := r.counter.Calls(); len(calls) > 0 {
			t.Errorf("what was denied asked the store: %v", calls)
		}
		delete(g.closed, d)
		r.wants(t, "opened again", map[bool]int{true: 0, false: 1}[size <= 16<<10], r.get(t, d))
		if _, err := other.Mount(t.Context(), named(t, "a"), d); err != nil {
			t.Errorf("Mount of what was opened again: %v", err)
		}
		if err := r.Delete(t.Context(), d); err != nil {
			t.Errorf("Delete of what was opened again: %v", err)
		}
	}
}

func named(t *testing.T, name string) reference.Named {
	t.Helper()
	n, err := reference.WithName(name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Create with MountFrom mounts, or begins an upload if it can't.
func TestCreateMounts(t *testing.T) {
	r := newReads(t, Config{})
	d := r.put(t, []byte("x"))
	other := repository(t, r.s, "b")
	for _, c := range []struct {
		from    string
		d       digest.Digest
		mounted bool
	}{{"c", d, false}, {"a", digest.FromString("y"), false}, {"a", d, true}} {
		from, err := reference.WithDigest(named(t, c.from), c.d)
		if err != nil {
			t.Fatal(err)
		}
		w, err := other.Create(t.Context(), MountFrom(from))
		m, mounted := errors.AsType[ErrBlobMounted](err)
		switch {
		case mounted != c.mounted:
			t.Errorf("Create with a mount of %s = %v, want it mounted: %v", from, err, c.mounted)
		case mounted && (m.Descriptor.Digest != d || m.From.String() != from.String()):
			t.Errorf("ErrBlobMounted = %+v", m)
		case !mounted && err != nil:
			t.Errorf("Create with a mount of %s: %v", from, err)
		case !mounted:
			if err := w.Cancel(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	r.wants(t, "what was mounted", 1, func() error { _, err := other.Stat(t.Context(), d); return err })
}
