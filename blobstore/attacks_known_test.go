package blobstore

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
)

// wantPush pushes a manifest that refers to the blob, and is new at each call. It checks
// whether the blob is missing, and whether the push has read its link.
func (p *pushes) wantPush(what string, d digest.Digest, missing, readsLink bool) {
	p.t.Helper()
	p.calls = nil
	err := p.put(imageOf(d).with("what", what))
	unknown, isUnknown := errors.AsType[ErrManifestBlobUnknown](err)
	if isUnknown != missing || err != nil && !isUnknown || isUnknown && len(unknown.Digests) != 1 {
		p.t.Errorf("%s: the push returns %v, want a missing blob: %t", what, err, missing)
	}
	reads := false
	for _, c := range p.calls {
		reads = reads || isCall(c, "Open link")
	}
	if reads != readsLink {
		p.t.Errorf("%s: the push reads the link: %t, want %t", what, reads, readsLink)
	}
}

// TestAttack42KnownLinks pushes manifests whose blobs this process knows, while another
// one deletes them and the collector condemns and removes them. What is known counts for
// the TTL, and never for longer. A deletion by this process counts immediately.
func TestAttack42KnownLinks(t *testing.T) {
	const ttl = time.Minute
	for name, attack := range map[string]func(p *pushes, d digest.Digest){
		"deleted by another process": func(p *pushes, d digest.Digest) {
			must(p.t, p.another().Delete(p.t.Context(), d))
			time.Sleep(ttl)
			p.wantPush("within the TTL", d, false, false)
			time.Sleep(time.Nanosecond)
			p.wantPush("after the TTL", d, true, true)
		},
		"deleted by this process": func(p *pushes, d digest.Digest) {
			must(p.t, p.Delete(p.t.Context(), d))
			p.wantPush("at once", d, true, true)
		},
		"condemned": func(p *pushes, d digest.Digest) {
			condemnLink(p.t, p.bucket, pushRepo, d)
			time.Sleep(ttl)
			p.wantPush("within the TTL", d, false, false)
			time.Sleep(time.Nanosecond)
			p.wantPush("after the TTL", d, false, true)
			link, err := catalog.New(p.bucket).ReadLink(p.t.Context(), d, pushRepo)
			if err != nil || link.Value.Condemned {
				p.t.Errorf("the link after the push = %+v, %v, want it without the mark", link.Value, err)
			}
		},
		"read as condemned": func(p *pushes, d digest.Digest) {
			time.Sleep(ttl + time.Nanosecond)
			condemnLink(p.t, p.bucket, pushRepo, d)
			req := httptest.NewRequestWithContext(p.t.Context(), http.MethodGet, "/", nil)
			must(p.t, p.ServeBlob(p.t.Context(), httptest.NewRecorder(), req, d))
			p.wantPush("after a GET", d, false, true)
		},
		"condemned and removed": func(p *pushes, d digest.Digest) {
			condemnLink(p.t, p.bucket, pushRepo, d)
			time.Sleep(ttl + time.Nanosecond)
			must(p.t, p.bucket.Delete(p.t.Context(), catalog.LinkKey(d, pushRepo)))
			p.wantPush("after the TTL", d, true, true)
		},
		"vouched for by a manifest": func(p *pushes, d digest.Digest) {
			time.Sleep(ttl + time.Nanosecond)
			put := imageOf(d)
			p.mustPut(put)
			must(p.t, p.put(put)) // it is here: its blobs are not read
			must(p.t, p.another().Delete(p.t.Context(), d))
			p.wantPush("of another manifest", d, true, true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPushes(t, Config{Cache: CacheConfig{TTL: ttl}})
				desc, err := p.Put(t.Context(), "", []byte("blob"))
				must(t, err)
				attack(p, desc.Digest)
			})
		})
	}
}
