package blobstore

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/drivers/memory"
)

// longImage returns the manifest of an image that is too long to be held in memory.
func longImage(blobs ...digest.Digest) ManifestPut {
	return imageOf(blobs...).with("annotations", map[string]string{"k": strings.Repeat("v", 2*envelope.MaxRaw)})
}

// damage changes the last byte of a manifest in the bucket.
func (p *pushes) damage(d digest.Digest) {
	p.t.Helper()
	m, err := catalog.New(p.bucket).LoadManifest(p.t.Context(), pushRepo, d)
	must(p.t, err)
	m.Raw[len(m.Raw)-1] ^= 1
	_, err = envelope.Replace(p.t.Context(), p.bucket, m.Object.Key, m.Object.Tag, m.Value, drivers.NewBody(m.Raw))
	must(p.t, err)
}

// serveManifest returns the response of ServeManifest.
func serveManifest(t *testing.T, m *Manifests, method, ref string, header ...string) (*httptest.ResponseRecorder, error) {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, "/", nil)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	err := m.ServeManifest(t.Context(), w, req, ref)
	if err != nil && (w.Body.Len() > 0 || len(w.Header()) > 0) {
		t.Errorf("%s %s = %v, after it has written %d bytes and %v", method, ref, err, w.Body.Len(), w.Header())
	}
	return w, err
}

// TestDamagedManifest reads a manifest whose stored bytes were changed. It is logged, and
// is unknown until it is pushed again. A long one is hashed as it is sent: the first
// response lacks its end.
func TestDamagedManifest(t *testing.T) {
	for name, image := range map[string]func(...digest.Digest) ManifestPut{"short": imageOf, "long": longImage} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			p := newPushes(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
			put := image(p.blob("config")).tagged("v1")
			p.mustPut(put)
			p.damage(put.Digest)
			m := p.Manifests()
			if name == "long" {
				if _, err := serveManifest(t, m, http.MethodHead, "v1"); err != nil {
					t.Fatal(err)
				}
				w, err := serveManifest(t, m, http.MethodGet, "v1")
				if size, _ := strconv.Atoi(w.Header().Get("Content-Length")); err != nil || size != len(put.Content) || w.Body.Len() >= size {
					t.Errorf("GET of a damaged manifest = %v, %d of %d bytes, want some of the bytes", err, w.Body.Len(), size)
				}
			}
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				for _, ref := range []string{"v1", put.Digest.String()} {
					if w, err := serveManifest(t, m, method, ref); !errors.Is(err, ErrManifestUnknown) {
						t.Errorf("%s of a damaged manifest by %s = %d, %v, want ErrManifestUnknown", method, ref, w.Code, err)
					}
				}
			}
			if _, err := m.Get(t.Context(), put.Digest); !errors.Is(err, ErrManifestUnknown) {
				t.Errorf("Get of a damaged manifest = %v, want ErrManifestUnknown", err)
			}
			if !strings.Contains(log.String(), "damaged") || !strings.Contains(log.String(), put.Digest.String()) {
				t.Errorf("log has\n%s, want the digest of a damaged manifest", &log)
			}

			must(t, p.put(put))
			w, err := serveManifest(t, m, http.MethodGet, "v1")
			if err != nil || !bytes.Equal(w.Body.Bytes(), put.Content) {
				t.Errorf("GET after the manifest was pushed again = %v, %d bytes, want %d", err, w.Body.Len(), len(put.Content))
			}
		})
	}
}

// TestTagOfDamagedManifest moves a tag to a manifest that is damaged. The bytes that the
// push has read were not hashed, so a read does not use them.
func TestTagOfDamagedManifest(t *testing.T) {
	p := newPushes(t, Config{})
	put := imageOf(p.blob("config"))
	p.mustPut(put)
	p.damage(put.Digest)
	must(t, p.Tags().Tag(t.Context(), "v1", Descriptor{Digest: put.Digest}))
	if w, err := serveManifest(t, p.Manifests(), http.MethodGet, "v1"); !errors.Is(err, ErrManifestUnknown) {
		t.Errorf("GET of a damaged manifest = %d, %v, want ErrManifestUnknown", w.Code, err)
	}
}

// TestBrokenResponse sends a long manifest that turns out to be damaged, or whose store
// breaks off. The client learns that the response is incomplete.
func TestBrokenResponse(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for _, fault := range []string{"damaged", "broken"} {
			t.Run(version+" "+fault, func(t *testing.T) {
				p := newPushes(t, Config{})
				put := longImage(p.blob("config"))
				p.mustPut(put)
				if fault == "damaged" {
					p.damage(put.Digest)
				} else {
					p.intercept = (&drivertest.Faulty{Mode: drivertest.Unanswered, Nth: 1, Match: func(c drivertest.Call) bool { return isCall(c, "Open manifest") }}).Intercept
				}
				server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if err := p.Manifests().ServeManifest(r.Context(), w, r, put.Digest.String()); err != nil {
						http.Error(w, err.Error(), http.StatusInternalServerError)
					}
				}))
				server.EnableHTTP2 = true
				server.StartTLS()
				defer server.Close()
				client := server.Client()
				if version == "HTTP/1.1" {
					client.Transport.(*http.Transport).ForceAttemptHTTP2 = false
				}
				resp, err := client.Get(server.URL)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				n, err := io.Copy(io.Discard, resp.Body)
				if resp.Proto != version || resp.StatusCode != http.StatusOK || !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("%s, %s with %d bytes, %v, want %s and an unexpected EOF", resp.Proto, resp.Status, n, err, version)
				}
			})
		}
	}
}

// TestStalledManifest reads manifests from a store that stops responding or sending. The
// read ends.
func TestStalledManifest(t *testing.T) {
	for name, image := range map[string]func(...digest.Digest) ManifestPut{"short": imageOf, "long": longImage} {
		for what, c := range map[string]struct{ opens, after int }{
			"no response":            {opens: 1},
			"no byte":                {after: 0},
			"the end is not sent":    {after: 600},
			"the end of a long body": {after: 100_000},
		} {
			if c.after >= 100_000 && name == "short" {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				memory := openMemoryView(t, &memory.Store{})
				bucket := &stallingBucket{Bucket: memory, prefix: catalog.ManifestsPrefix(pushRepo)}
				p := newPushesOn(t, bucket, Config{})
				put := image(p.blob("config"))
				put = put.with("padding", strings.Repeat("x", 600))
				p.mustPut(put)
				bucket.opens, bucket.bodies, bucket.after = c.opens, 1, c.after
				start := time.Now()
				_, err := p.Manifests().Get(t.Context(), put.Digest)
				if !errors.Is(err, ErrUnavailable) || time.Since(start) > 2*envelope.SmallCallTimeout {
					t.Errorf("Get of a %s manifest from a store that stalls (%s) = %v after %v, want ErrUnavailable", name, what, err, time.Since(start))
				}
				if n := bucket.unclosed.Load(); n != 0 {
					t.Errorf("%d bodies of a store that stalls (%s, %s) are not closed", n, name, what)
				}
			})
		}
	}
}
