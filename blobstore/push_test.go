package blobstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
)

// TestPutRefusesWithoutRequest checks what is refused before the store is asked.
func TestPutRefusesWithoutRequest(t *testing.T) {
	p := newPushes(t, Config{Manifests: ManifestConfig{MaxSize: 1000}})
	good := imageOf(digest.FromString("config"))
	wrong := good
	wrong.Digest = digest.FromString("other")
	sha384 := good
	sha384.Digest = digest.SHA384.FromBytes(good.Content)
	named := good
	named.MediaType = manifest.MediaTypeIndex
	many := make([]string, MaxTags+1)
	for i := range many {
		many[i] = fmt.Sprint("t", i)
	}
	p.calls = nil
	for _, tt := range []struct {
		name  string
		put   ManifestPut
		check func(error) bool
	}{
		{"too large", good.with("annotations", map[string]string{"a": strings.Repeat("x", 1000)}), isA[ErrManifestTooLarge]},
		{"another digest", wrong, isInvalidDigest},
		{"another algorithm", sha384, is(ErrBlobDigestUnsupported)},
		{"another media type", named, isA[ErrManifestInvalid]},
		{"no manifest", ManifestPut{Content: []byte("{}")}, isA[ErrManifestInvalid]},
		{"invalid tag", good.tagged("ok", "-x"), is(ErrTagInvalid)},
		{"long tag", good.tagged(strings.Repeat("x", 129)), is(ErrTagInvalid)},
		{"too many tags", good.tagged(many...), is(ErrTagInvalid)},
	} {
		if err := p.put(tt.put); !tt.check(err) {
			t.Errorf("Put, %s = %v", tt.name, err)
		}
	}
	p.wantRequests("a refused Put")
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// TestPutDescribes checks what Put returns and stores, for both digests.
func TestPutDescribes(t *testing.T) {
	p := newPushes(t, Config{})
	subject := digest.FromString("subject")
	put := imageOf(p.blob("config")).with("subject", refTo(manifest.MediaTypeImage, subject))
	put.Tags = []string{"b", "a", "b"}
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		put.Digest = alg.FromBytes(put.Content)
		desc, err := p.Manifests().Put(t.Context(), put)
		must(t, err)
		want := ManifestDescriptor{
			Descriptor:   Descriptor{MediaType: manifest.MediaTypeImage, Size: int64(len(put.Content)), Digest: put.Digest},
			ArtifactType: "application/vnd.oci.image.config.v1+json",
			Subject:      subject,
		}
		if diff := cmp.Diff(want, desc); diff != "" {
			t.Errorf("Put, -want +got:\n%s", diff)
		}
		m := p.stored(put.Digest)
		if !slices.Equal(m.Value.Hints, []string{"a", "b"}) || string(m.Raw) != string(put.Content) || !cmp.Equal(describeManifest(m.Value), want) {
			t.Errorf("the manifest in the store = %+v with %q, want %+v with the hints a and b", m.Value, m.Raw, want)
		}
		p.wantResolves("a", put.Digest)
		p.wantResolves("b", put.Digest)
		if _, err := p.bucket.Stat(t.Context(), catalog.EntryKey(pushRepo, subject, put.Digest)); err != nil {
			t.Errorf("the referrers entry: %v", err)
		}
	}
	put.Digest = ""
	if desc, err := p.Manifests().Put(t.Context(), put); err != nil || desc.Digest != digest.FromBytes(put.Content) {
		t.Errorf("Put without a digest = %v, %v, want the sha256", desc.Digest, err)
	}
}

// TestPutRequests checks which requests a push makes, and their order.
func TestPutRequests(t *testing.T) {
	p := newPushes(t, Config{})
	image := imageOf(p.blob("config"))
	signature := image.with("subject", refTo(manifest.MediaTypeImage, image.Digest))
	artifact := signature.with("artifactType", "x/y")
	p.calls = nil
	for _, tt := range []struct {
		name string
		put  ManifestPut
		want []string
	}{
		{"the first push", image.tagged("v1"), []string{
			"Open tag", "Open manifest", // a reference is not known
			"Open link", "Open marker", "Create marker", "Create manifest", "Create tag",
		}},
		{"the same push again", image.tagged("v1"), []string{
			"Open tag", "Open manifest", // the manifest is known
			"Replace tag", // even though the tag names it already
		}},
		{"a push by another tag", image.tagged("v2"), []string{"Open tag", "Open manifest", "Replace manifest", "Create tag"}},
		{"a push by digest", image, []string{"Open manifest"}},
		{"a new manifest with known links", image.with("artifactType", "a/b").tagged("v1"), []string{
			"Open tag", "Create manifest", "Replace tag",
		}},
		{"a manifest with a subject", signature, []string{"Create entry", "Create manifest"}},
		{"the same with a subject again", signature, []string{
			"Open manifest", "Create entry", "Open entry", "Replace entry", // always written
		}},
		{"a manifest with a subject and a tag", artifact.tagged("sig"), []string{
			"Open tag", "Create entry", "Create manifest", "Create tag", // the entry first
		}},
	} {
		must(t, p.put(tt.put))
		p.wantRequests(tt.name, tt.want...)
	}
	again := newPushesOn(t, p.bucket, Config{})
	must(t, func() error { _, err := again.Stat(t.Context(), digest.FromString("config")); return err }())
	again.calls = nil
	must(t, again.put(image.tagged("v1")))
	again.wantRequests("a push that another process has made", "Open tag", "Open marker",
		"Create manifest", "Open manifest", // taken
		"Replace tag")
}

// TestMarker checks what a push does about the marker in each state, and for how long
// it counts a marker as known: from when it asked for it.
func TestMarker(t *testing.T) {
	condemnMarker := func(p *pushes) {
		condemn(p.t, p.bucket, catalog.MarkerKey(pushRepo), func(m *catalog.Marker) { m.State = catalog.Condemned })
	}
	synctest.Test(t, func(t *testing.T) {
		p := newPushes(t, Config{Cache: CacheConfig{TTL: time.Minute}})
		image := imageOf(p.blob("config"))
		markers := func() (calls []string) {
			for _, r := range p.requests() {
				if strings.HasSuffix(r, " marker") {
					calls = append(calls, r)
				}
			}
			p.calls = nil
			return calls
		}
		p.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			if isCall(c, "Open marker") {
				time.Sleep(20 * time.Second)
			}
			return do(ctx)
		}
		for _, tt := range []struct {
			name    string
			prepare func()
			want    []string
		}{
			{"absent", func() {}, []string{"Open marker", "Create marker"}},
			{"known", func() { time.Sleep(40 * time.Second) }, nil},
			{"known for too long", func() { time.Sleep(time.Nanosecond) }, []string{"Open marker"}},
			{"condemned", func() { condemnMarker(p); time.Sleep(time.Minute) }, []string{"Open marker", "Replace marker"}},
			{"made good", func() {}, nil},
		} {
			tt.prepare()
			must(t, p.put(image))
			if got := markers(); !slices.Equal(got, tt.want) {
				t.Errorf("the marker is %s: a push makes %q, want %q", tt.name, got, tt.want)
			}
		}
		m, err := catalog.New(p.bucket).ReadMarker(t.Context(), pushRepo)
		if err != nil || m.Value.State != catalog.Live {
			t.Errorf("the marker = %+v, %v, want it live", m.Value, err)
		}
	})
}

// TestMarkerWithoutCache checks that no marker is known if the cache is turned off.
func TestMarkerWithoutCache(t *testing.T) {
	p := newPushes(t, Config{Cache: CacheConfig{Entries: -1}})
	image := imageOf(p.blob("config"))
	must(t, p.put(image))
	p.calls = nil
	must(t, p.put(image))
	p.wantRequests("a second push", "Open manifest", "Open marker")
}

// TestPutAfterDeadline lets each call of a push last longer than a request may. The
// push writes nothing after it, and is not acknowledged.
func TestPutAfterDeadline(t *testing.T) {
	for nth := 1; ; nth++ {
		done := false
		synctest.Test(t, func(t *testing.T) {
			p := newPushes(t, Config{RequestLimit: time.Hour, Grace: 3 * time.Hour})
			put := imageOf(p.blob("config"), p.blob("layer")).with("subject", refTo(manifest.MediaTypeImage, digest.FromString("s"))).tagged("v1")
			n, late := 0, false
			p.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
				if n++; n > nth && c.Writes() {
					t.Errorf("%v after the deadline", c)
				}
				err := do(context.WithoutCancel(ctx))
				if n == nth {
					late = true
					time.Sleep(time.Hour + 1)
				}
				return err
			}
			err := p.put(put)
			if !late {
				done = true
				return
			}
			if !errors.Is(err, ErrUnavailable) {
				t.Errorf("Put whose call %d takes an hour = %v, want %v", nth, err, ErrUnavailable)
			}
		})
		if done {
			return
		}
	}
}

// TestPutFaults fails each call of a push once, in each way. A failed push leaves no tag
// that names a manifest without what it refers to, and a retry succeeds.
func TestPutFaults(t *testing.T) {
	for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Unanswered, drivertest.Late} {
		for nth := 1; ; nth++ {
			p := newPushes(t, Config{})
			old := imageOf(p.blob("old")).tagged("v1")
			p.mustPut(old)
			put := imageOf(p.blob("config"), p.blob("layer")).with("subject", refTo(manifest.MediaTypeImage, old.Digest)).tagged("v1", "v2")
			f := &drivertest.Faulty{Mode: mode, Nth: nth}
			p.intercept = f.Intercept
			err := p.put(put)
			call, hit := f.Hit()
			if !hit {
				must(t, err)
				break
			}
			wantPutFault(t, call, mode, err)
			p.intercept = nil
			must(t, p.put(put))
			if err := f.Land(t.Context()); err != nil && !errors.Is(err, drivers.ErrExists) && !errors.Is(err, drivers.ErrChanged) {
				t.Error(err)
			}
			for _, tag := range put.Tags {
				p.wantResolves(tag, put.Digest)
			}
			entry, err := envelope.Read[catalog.Entry](t.Context(), p.bucket, catalog.EntryKey(pushRepo, old.Digest, put.Digest))
			if err != nil || entry.Value.Referrer != put.Digest {
				t.Errorf("the entry after a retry = %+v, %v", entry.Value, err)
			}
		}
	}
}

// wantPutFault checks the error of a push one of whose calls has failed.
func wantPutFault(t *testing.T, call drivertest.Call, mode drivertest.Mode, err error) {
	t.Helper()
	switch {
	case !call.Writes():
	case mode == drivertest.Unanswered && err != nil:
		t.Errorf("Put whose %v has no answer = %v, want success: the write is read back", call, err)
	case mode != drivertest.Unanswered && err == nil:
		t.Errorf("Put whose %v is %v = nil, want an error", call, mode)
	case err != nil && isCall(call, call.Method+" tag") && !errors.Is(err, ErrUnavailable):
		t.Errorf("Put whose %v is %v = %v, want %v", call, mode, err, ErrUnavailable)
	}
}
