package blobstore

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers/drivertest"
)

// markedRead is a read of something that the collector has condemned.
type markedRead struct {
	what, method string
	readOnly     bool
	unmarks      bool // takes the mark off
}

var markedReads = []markedRead{
	{"HEAD", http.MethodHead, false, true},
	{"HEAD by a caller who may only pull", http.MethodHead, true, false},
	{"GET", http.MethodGet, false, false},
	{"GET by a caller who may only pull", http.MethodGet, true, false},
}

// from returns the repository for the caller of the read.
func (r markedRead) from(repo *Repository) *Repository {
	if r.readOnly {
		return repo.ReadOnly()
	}
	return repo
}

// TestHeadTakesManifestMarkOff reads condemned manifests. A HEAD by a caller who may push
// takes the mark off before it is answered, whether or not the manifest is cached. Every
// other read leaves the mark.
func TestHeadTakesManifestMarkOff(t *testing.T) {
	for name, image := range map[string]func(...digest.Digest) ManifestPut{"short": imageOf, "long": longImage} {
		for _, read := range markedReads {
			for _, byTag := range []bool{false, true} {
				p := newPushes(t, Config{})
				put := image(p.blob("config")).tagged("v1")
				p.mustPut(put)
				p.condemn(put)
				ref := put.Digest.String()
				if byTag {
					ref = "v1"
				}
				for range 2 { // the first read must not make the cache answer the second
					p.readMarked(read, put, ref)
				}
				want := catalog.Condemned
				if read.unmarks {
					want = catalog.Live
				}
				if got := p.stored(put.Digest).Value.State; got != want {
					t.Errorf("%s by %s leaves a %s manifest %s, want %s", read.what, ref, name, got, want)
				}
				w, err := serveManifest(t, p.Manifests(), http.MethodGet, ref)
				if err != nil || !slices.Equal(w.Body.Bytes(), put.Content) {
					t.Errorf("GET after %s = %d bytes, %v, want %d", read.what, w.Body.Len(), err, len(put.Content))
				}
			}
		}
	}
}

// readMarked reads a condemned manifest.
func (p *pushes) readMarked(read markedRead, put ManifestPut, ref string) {
	p.t.Helper()
	w, err := serveManifest(p.t, read.from(p.Repository).Manifests(), read.method, ref)
	if err != nil || w.Code != http.StatusOK || w.Header().Get("Docker-Content-Digest") != put.Digest.String() {
		p.t.Errorf("%s of a condemned manifest by %s = %d, %v, want 200", read.what, ref, w.Code, err)
	}
}

// condemn marks a manifest of any length as the collector does.
func (p *pushes) condemn(put ManifestPut) {
	p.t.Helper()
	m := p.stored(put.Digest)
	m.Value.State = catalog.Condemned
	_, err := catalog.New(p.bucket).ReplaceManifest(p.t.Context(), p.s.newDeadline(), m, m.Value, put.Content)
	must(p.t, err)
}

// TestCondemnedAfterItWasCached condemns a manifest that this process has cached as
// live. HEAD then is answered from the cache: the collector waits for longer than the TTL
// and a request before it removes the manifest.
func TestCondemnedAfterItWasCached(t *testing.T) {
	p := newPushes(t, Config{})
	put := imageOf(p.blob("config"))
	must(t, p.put(put))
	p.changeManifest(put.Digest, markCondemned)
	p.wantServed("condemned after it was cached", http.MethodHead, put.Digest.String(), 200)

	other := newPushesOn(t, p.bucket, Config{})
	other.wantServed("condemned before it was read", http.MethodGet, put.Digest.String(), 200, manifestRead)
	other.wantServed("condemned before it was read", http.MethodHead, put.Digest.String(), 200, manifestRead, "Replace manifest")
}

// TestHeadMeetsDeletion deletes a manifest, or deletes it and pushes it again, while a
// HEAD takes the mark off.
func TestHeadMeetsDeletion(t *testing.T) {
	for _, ref := range []string{"v1", ""} {
		for _, again := range []bool{false, true} {
			p := newPushes(t, Config{})
			put := imageOf(p.blob("config")).tagged("v1")
			p.mustPut(put)
			p.changeManifest(put.Digest, markCondemned)
			p.intercept = before("Replace manifest", 1, func() {
				p.mustDelete(put.Digest)
				if again {
					p.mustPut(put)
				}
			})
			if ref == "" {
				ref = put.Digest.String()
			}
			w, err := serveManifest(t, p.Manifests(), http.MethodHead, ref)
			if again && (err != nil || w.Code != http.StatusOK) || !again && !errors.Is(err, ErrManifestUnknown) {
				t.Errorf("HEAD by %s of a manifest that is deleted, and pushed again (%t) = %d, %v", ref, again, w.Code, err)
			}
			if again != p.stored(put.Digest).Value.Readable() {
				t.Errorf("HEAD by %s has changed a manifest that was deleted, and pushed again (%t)", ref, again)
			}
		}
	}
}

// TestHeadTakesBlobMarkOff reads blobs whose link or alias is condemned, by sha256 and by
// sha512.
func TestHeadTakesBlobMarkOff(t *testing.T) {
	for _, size := range []int{10, 100_000} {
		for _, read := range markedReads {
			testBlobMarks(t, read, size, digest.SHA256, blobMarks{link: true})
			for _, marks := range []blobMarks{{link: true}, {alias: true}, {link: true, alias: true}} {
				testBlobMarks(t, read, size, digest.SHA512, marks)
			}
		}
	}
}

// blobMarks is which objects of a blob are condemned.
type blobMarks struct{ link, alias bool }

func testBlobMarks(t *testing.T, read markedRead, size int, alg digest.Algorithm, marks blobMarks) {
	t.Helper()
	r := newReads(t, Config{})
	p := randomBytes(1, size)
	d, alias := r.put(t, p), digest.SHA512.FromBytes(p)
	must(t, r.elsewhere(t).SetDescriptor(t.Context(), alias, Descriptor{Digest: d}))
	if marks.link {
		condemnLink(t, r.bucket, "a", d)
	}
	if marks.alias {
		condemnAlias(t, r.bucket, alias)
	}
	for range 2 {
		req := httptest.NewRequestWithContext(t.Context(), read.method, "/", nil)
		must(t, read.from(r.Repository).ServeBlob(t.Context(), httptest.NewRecorder(), req, alg.FromBytes(p)))
	}
	want := marks
	if read.unmarks {
		want = blobMarks{}
	}
	link, err := catalog.New(r.bucket).ReadLink(t.Context(), d, "a")
	must(t, err)
	stored, err := catalog.New(r.bucket).ReadAlias(t.Context(), alias)
	must(t, err)
	if got := (blobMarks{link.Value.Condemned, stored.Value.Condemned}); got != want {
		t.Errorf("%s by %s of a blob with the marks %+v leaves %+v, want %+v", read.what, alg, marks, got, want)
	}
	if known := r.s.cache.known(linkID{"a", d}); known == want.link {
		t.Errorf("%s by %s of a blob with the marks %+v: the link is known as good: %t", read.what, alg, marks, known)
	}
}

// TestHeadWithoutCacheReadsOnce counts the requests of a HEAD by sha512 that finds no mark,
// where nothing is cached.
func TestHeadWithoutCacheReadsOnce(t *testing.T) {
	r := newReads(t, Config{Cache: CacheConfig{Entries: -1}})
	p := randomBytes(1, 600)
	d, alias := r.put(t, p), digest.SHA512.FromBytes(p)
	must(t, r.elsewhere(t).SetDescriptor(t.Context(), alias, Descriptor{Digest: d}))
	for _, tt := range []struct {
		d    digest.Digest
		want int
	}{{d, 1}, {alias, 2}} {
		calls := 0
		r.intercept = func(ctx context.Context, _ drivertest.Call, do func(context.Context) error) error {
			calls++
			return do(ctx)
		}
		req := httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/", nil)
		must(t, r.ServeBlob(t.Context(), httptest.NewRecorder(), req, tt.d))
		if calls != tt.want {
			t.Errorf("HEAD by %s makes %d calls, want %d", tt.d.Algorithm(), calls, tt.want)
		}
	}
}
