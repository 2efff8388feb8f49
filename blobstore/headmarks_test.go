package blobstore

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
)

// TestHeadTakesManifestMarkOff reads condemned manifests. A HEAD by a caller who may push
// takes the mark off before it is answered, whether or not the manifest is cached. Every
// other read leaves the mark.
func TestHeadTakesManifestMarkOff(t *testing.T) {
	for name, image := range map[string]func(...digest.Digest) ManifestPut{"short": imageOf, "long": longImage} {
		for _, byTag := range []bool{false, true} {
			for _, test := range []struct {
				what, method      string
				readOnly, unmarks bool
			}{
				{"HEAD", http.MethodHead, false, true},
				{"HEAD by a caller who may only pull", http.MethodHead, true, false},
				{"GET", http.MethodGet, false, false},
				{"GET by a caller who may only pull", http.MethodGet, true, false},
			} {
				p := newPushes(t, Config{})
				put := image(p.blob("config")).tagged("v1")
				p.mustPut(put)
				p.changeManifest(put.Digest, markCondemned)
				if name == "long" { // changeManifest keeps no long bytes
					p.condemnLong(put)
				}
				repo, ref := p.Repository, put.Digest.String()
				if test.readOnly {
					repo = repo.ReadOnly()
				}
				if byTag {
					ref = "v1"
				}
				for range 2 { // the first read must not make the cache answer the second
					if !test.unmarks {
						if _, err := serveManifest(t, repo.Manifests(), http.MethodGet, ref); err != nil {
							t.Fatal(err)
						}
					}
					w, err := serveManifest(t, repo.Manifests(), test.method, ref)
					if err != nil || w.Code != http.StatusOK || w.Header().Get("Docker-Content-Digest") != put.Digest.String() {
						t.Errorf("%s of a condemned %s manifest by %s = %d, %v, want 200", test.what, name, ref, w.Code, err)
					}
					want := catalog.Condemned
					if test.unmarks {
						want = catalog.Live
					}
					if got := p.stored(put.Digest).Value.State; got != want {
						t.Errorf("%s by %s leaves a %s manifest %s, want %s", test.what, ref, name, got, want)
					}
				}
				if test.unmarks {
					w, err := serveManifest(t, repo.Manifests(), http.MethodGet, ref)
					if err != nil || !slices.Equal(w.Body.Bytes(), put.Content) {
						t.Errorf("GET after the mark was taken off = %d bytes, %v, want %d", w.Body.Len(), err, len(put.Content))
					}
				}
			}
		}
	}
}

// condemnLong marks a long manifest as the collector does.
func (p *pushes) condemnLong(put ManifestPut) {
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
		for _, test := range []struct {
			what, method      string
			readOnly, unmarks bool
		}{
			{"HEAD", http.MethodHead, false, true},
			{"HEAD by a caller who may only pull", http.MethodHead, true, false},
			{"GET", http.MethodGet, false, false},
		} {
			for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
				for _, marks := range []struct{ link, alias bool }{{true, false}, {false, true}, {true, true}} {
					if marks.alias && alg == digest.SHA256 {
						continue
					}
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
					repo, named := r.Repository, alg.FromBytes(p)
					if test.readOnly {
						repo = repo.ReadOnly()
					}
					for range 2 {
						w := httptest.NewRecorder()
						req := httptest.NewRequestWithContext(t.Context(), test.method, "/", nil)
						if err := repo.ServeBlob(t.Context(), w, req, named); err != nil {
							t.Fatal(err)
						}
					}
					link, err := catalog.New(r.bucket).ReadLink(t.Context(), d, "a")
					must(t, err)
					stored, err := catalog.New(r.bucket).ReadAlias(t.Context(), alias)
					must(t, err)
					if link.Value.Condemned != (marks.link && !test.unmarks) || stored.Value.Condemned != (marks.alias && !test.unmarks) {
						t.Errorf("%s by %s of %+v leaves the marks {link:%t alias:%t}, want them off: %t",
							test.what, alg, marks, link.Value.Condemned, stored.Value.Condemned, test.unmarks)
					}
					if test.unmarks && !r.s.cache.known(linkID{"a", d}) {
						t.Errorf("%s by %s of %+v: the link is not known as good", test.what, alg, marks)
					}
				}
			}
		}
	}
}
