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

// everyRead reads a blob in every way and returns the errors.
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

// rewriteLink changes the link, as the collector, the scrubber or an adoption does.
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

// TestReadByState reads a blob with a link in each state. Only a damaged one is
// unknown.
func TestReadByState(t *testing.T) {
	for _, size := range []int{10, 100_000} {
		for state, want := range map[state]error{live: nil, condemned: nil, unverified: nil, damaged: ErrBlobUnknown} {
			r := newReads(t, Config{})
			d := r.put(t, randomBytes(1, size))
			r.rewriteLink(t, d, func(l *record) { l.State = state })
			for range 2 { // damage is not cached
				for read, err := range r.everyRead(t, d) {
					if !errors.Is(err, want) {
						t.Errorf("%s of %d bytes that are %s = %v, want %v", read, size, state, err, want)
					}
				}
			}
		}
	}
}

// TestSpoiltLink reads a link that is malformed, or that another version has written.
// That is a failure of the store, not an unknown blob.
func TestSpoiltLink(t *testing.T) {
	for name, body := range map[string]string{
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
				t.Errorf("%s of a link with %s = %v, want another error", read, name, err)
			}
		}
	}
}

// TestReadBadDigest reads by invalid digests, without a request to the store.
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
	if n := r.counter.ByMethod()["Open"]; n > 3 { // those that open the store
		t.Errorf("invalid digests cost %d requests, want none", n-3)
	}
}

// TestSetDescriptor sets an alias, which grants nothing in another repository, and
// clears the blob by it.
func TestSetDescriptor(t *testing.T) {
	for _, size := range []int{0, 10, 100_000} {
		r := newReads(t, Config{})
		p := randomBytes(1, size)
		d, alias, other := r.put(t, p), digest.SHA512.FromBytes(p), digest.SHA512.FromString("other")
		if err := r.SetDescriptor(t.Context(), other, Descriptor{Digest: d}); !isInvalidDigest(err) {
			t.Errorf("SetDescriptor of the digest of other bytes = %v, want an ErrBlobInvalidDigest", err)
		}
		r.wantUnknown(t, "before SetDescriptor", alias, other)
		for range 2 {
			if err := r.SetDescriptor(t.Context(), alias, Descriptor{Digest: d}); err != nil {
				t.Errorf("SetDescriptor = %v", err)
			}
		}
		if desc, err := r.Stat(t.Context(), alias); err != nil || desc.Digest != d || desc.Size != int64(size) {
			t.Errorf("Stat(%s) = %v, %v, want the canonical descriptor", alias, desc, err)
		}
		r.wants(t, "Get by the alias", requestsForBytes(size), r.get(t, alias))
		if _, err := r.other(t).Stat(t.Context(), alias); !errors.Is(err, ErrBlobUnknown) {
			t.Errorf("Stat in another repository = %v, want ErrBlobUnknown", err)
		}
		if err := r.Clear(t.Context(), alias); err != nil {
			t.Errorf("Clear = %v", err)
		}
		r.wantUnknown(t, "after Clear", d, alias)
		for _, d := range []digest.Digest{d, alias} {
			if err := r.Clear(t.Context(), d); !errors.Is(err, ErrBlobUnknown) {
				t.Errorf("Clear(%s) again = %v, want ErrBlobUnknown", d, err)
			}
		}
	}
}

// requestsForBytes returns the number of requests for the bytes of a blob whose
// link is cached: none if they are inline.
func requestsForBytes(size int) int {
	if size <= 16<<10 {
		return 0
	}
	return 1
}

// wantUnknown fails the test unless all digests are unknown.
func (r *reads) wantUnknown(t *testing.T, when string, digests ...digest.Digest) {
	t.Helper()
	for _, d := range digests {
		if _, err := r.Stat(t.Context(), d); !errors.Is(err, ErrBlobUnknown) {
			t.Errorf("Stat(%s) %s = %v, want ErrBlobUnknown", d, when, err)
		}
	}
}

// TestSetDescriptorRefuses sets aliases that the bytes of the blob do not prove.
func TestSetDescriptorRefuses(t *testing.T) {
	r := newReads(t, Config{})
	d := r.put(t, []byte("x"))
	absent := digest.FromString("y")
	for _, c := range []struct {
		dgst, canonical digest.Digest
		ok              func(error) bool
		want            string
	}{
		{d, d, func(err error) bool { return err == nil }, "success"},
		{digest.FromString("y"), d, isInvalidDigest, "an ErrBlobInvalidDigest"},
		{digest.SHA512.FromString("y"), d, isInvalidDigest, "an ErrBlobInvalidDigest"},
		{digest.SHA512.FromString("y"), absent, func(err error) bool { return errors.Is(err, ErrBlobUnknown) }, "ErrBlobUnknown"},
		{digest.SHA384.FromString("x"), d, func(err error) bool { return errors.Is(err, ErrBlobDigestUnsupported) }, "ErrBlobDigestUnsupported"},
		{digest.SHA512.FromString("x"), "", isInvalidDigest, "an ErrBlobInvalidDigest"},
		{digest.SHA512.FromString("x"), "x", isInvalidDigest, "an ErrBlobInvalidDigest"},
		{digest.SHA512.FromString("x"), digest.SHA512.FromString("x"), isInvalidDigest, "an ErrBlobInvalidDigest"},
	} {
		if err := r.SetDescriptor(t.Context(), c.dgst, Descriptor{Digest: c.canonical}); !c.ok(err) {
			t.Errorf("SetDescriptor(%s, %q) = %v, want %s", c.dgst, c.canonical, err, c.want)
		}
	}
	r.wantUnknown(t, "after SetDescriptor failed", digest.SHA512.FromString("y"))
}

// TestSetDescriptorOfUnreadableBytes cannot read the bytes to their end, so it sets
// no alias.
func TestSetDescriptorOfUnreadableBytes(t *testing.T) {
	r := newReads(t, Config{})
	p := randomBytes(1, 100_000)
	d, alias := r.put(t, p), digest.SHA512.FromBytes(p)
	r.intercept = (&drivertest.Faulty{Match: isData}).Intercept
	if err := r.SetDescriptor(t.Context(), alias, Descriptor{Digest: d}); !errors.Is(err, drivertest.ErrInjected) {
		t.Errorf("SetDescriptor = %v, want ErrInjected", err)
	}
	r.wantUnknown(t, "after SetDescriptor failed", alias)
}

// gate is an access controller that denies access to some digests.
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

// TestAccessControl denies access to a blob. Every way to the blob fails, even if it
// is cached, without a request to the store.
func TestAccessControl(t *testing.T) {
	g := &gate{closed: map[digest.Digest]bool{}}
	r := newReads(t, Config{Access: g})
	for _, size := range []int{10, 100_000} {
		p := randomBytes(uint64(size), size)
		d := r.put(t, p)
		for read, err := range r.everyRead(t, d) {
			if err != nil {
				t.Errorf("%s = %v, want success", read, err)
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
		for request, err := range denied {
			if !errors.Is(err, errClosed) {
				t.Errorf("%s = %v, want the error of the access controller", request, err)
			}
		}
		if calls := r.counter.Calls(); len(calls) > 0 {
			t.Errorf("denied requests call the store: %v", calls)
		}
		delete(g.closed, d)
		r.wants(t, "Get with access again", requestsForBytes(size), r.get(t, d))
		if _, err := other.Mount(t.Context(), named(t, "a"), d); err != nil {
			t.Errorf("Mount with access again = %v", err)
		}
		if err := r.Delete(t.Context(), d); err != nil {
			t.Errorf("Delete with access again = %v", err)
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

// TestCreateMounts creates a writer with MountFrom, which mounts the blob or, if that is
// not possible, starts an upload.
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
			t.Errorf("ErrBlobMounted = %+v, want %s from %s", m, d, from)
		case !mounted && err != nil:
			t.Errorf("Create with a mount of %s = %v, want a writer", from, err)
		case !mounted:
			if err := w.Cancel(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	r.wants(t, "Stat of the mounted blob", 0, func() error { _, err := other.Stat(t.Context(), d); return err })
}
