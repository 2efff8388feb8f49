package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
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

// reads is a repository "a" with a bucket that counts the requests, and that a test
// can intercept.
type reads struct {
	*Repository
	counter drivertest.Counter
	bucket  drivers.Bucket // not counted, for another replica

	// intercept, if not nil, is called for every counted call.
	intercept drivertest.Intercept
}

func newReads(t *testing.T, cfg Config) *reads {
	t.Helper()
	r := &reads{bucket: openMemoryView(t, &memory.Store{})}
	r.Repository = repository(t, openStore(t, drivertest.Wrap(r.bucket, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if r.intercept != nil {
			within := do
			do = func(ctx context.Context) error { return r.intercept(ctx, c, within) }
		}
		return r.counter.Intercept(ctx, c, do)
	}), cfg), "a")
	return r
}

func openMemoryView(t *testing.T, s *memory.Store) drivers.Bucket {
	t.Helper()
	b, err := memory.Open(t.Context(), memory.Config{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// elsewhere returns the repository at a replica without a cache.
func (r *reads) elsewhere(t *testing.T) *Repository {
	t.Helper()
	return repository(t, openStore(t, r.bucket, Config{Cache: CacheConfig{Entries: -1}}), "a")
}

// other returns another repository at this replica.
func (r *reads) other(t *testing.T) *Repository {
	t.Helper()
	return repository(t, r.s, "b")
}

func (r *reads) put(t *testing.T, p []byte) digest.Digest {
	t.Helper()
	desc, err := r.elsewhere(t).Put(t.Context(), "", p)
	if err != nil {
		t.Fatal(err)
	}
	return desc.Digest
}

// serve returns the response of ServeBlob.
func (r *reads) serve(t *testing.T, method string, d digest.Digest, header ...string) (*httptest.ResponseRecorder, error) {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, "/", nil)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	return w, r.ServeBlob(t.Context(), w, req, d)
}

// wants fails the test unless a read succeeds with that many requests to the store.
func (r *reads) wants(t *testing.T, what string, requests int, read func() error) {
	t.Helper()
	r.counter.Reset()
	err := read()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if calls := r.counter.Calls(); len(calls) != requests {
		t.Errorf("%s: %d requests to the store, want %d: %v", what, len(calls), requests, calls)
	}
}

func (r *reads) stat(t *testing.T, d digest.Digest) func() error {
	return func() error {
		_, err := r.Stat(t.Context(), d)
		return err
	}
}

func (r *reads) get(t *testing.T, d digest.Digest) func() error {
	return func() error {
		p, err := r.Get(t.Context(), d)
		if err == nil && d.Algorithm().FromBytes(p) != d {
			err = fmt.Errorf("Get returned %d other bytes", len(p))
		}
		return err
	}
}

// TestReadCounts counts the requests of reads, of which the cache saves all but those
// for bytes that are not inline.
func TestReadCounts(t *testing.T) {
	inline, data := []byte("inline"), randomBytes(1, 100_000)
	for _, c := range []struct {
		name       string
		content    []byte
		alg        digest.Algorithm
		cold, warm int
		read       func(r *reads, d digest.Digest) func() error
	}{
		{"Stat", data, digest.SHA256, 1, 0, func(r *reads, d digest.Digest) func() error { return r.stat(t, d) }},
		{"Stat by sha512", data, digest.SHA512, 2, 0, func(r *reads, d digest.Digest) func() error { return r.stat(t, d) }},
		{"Get, inline", inline, digest.SHA256, 1, 0, func(r *reads, d digest.Digest) func() error { return r.get(t, d) }},
		{"Get, inline, by sha512", inline, digest.SHA512, 2, 0, func(r *reads, d digest.Digest) func() error { return r.get(t, d) }},
		{"Get", data, digest.SHA256, 2, 1, func(r *reads, d digest.Digest) func() error { return r.get(t, d) }},
		{"Get, empty", nil, digest.SHA256, 1, 0, func(r *reads, d digest.Digest) func() error { return r.get(t, d) }},
		{"HEAD", data, digest.SHA256, 1, 0, func(r *reads, d digest.Digest) func() error {
			return func() error { _, err := r.serve(t, http.MethodHead, d); return err }
		}},
		{"GET", data, digest.SHA256, 2, 1, func(r *reads, d digest.Digest) func() error {
			return func() error { _, err := r.serve(t, http.MethodGet, d); return err }
		}},
		{"GET with If-None-Match", data, digest.SHA256, 1, 0, func(r *reads, d digest.Digest) func() error {
			return func() error {
				w, err := r.serve(t, http.MethodGet, d, "If-None-Match", `"`+d.String()+`"`)
				if err == nil && w.Code != http.StatusNotModified {
					err = fmt.Errorf("status %d, want 304", w.Code)
				}
				return err
			}
		}},
		{"GET of the last bytes", data, digest.SHA256, 2, 1, func(r *reads, d digest.Digest) func() error {
			return func() error { _, err := r.serve(t, http.MethodGet, d, "Range", "bytes=-1"); return err }
		}},
	} {
		r := newReads(t, Config{})
		d := c.alg.FromBytes(c.content)
		other := r.elsewhere(t)
		u, err := other.StartUpload(c.alg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.FinishUpload(t.Context(), u.ID, u.State, Body{bytes.NewReader(c.content), int64(len(c.content)), -1, nil}, Descriptor{Digest: d}); err != nil {
			t.Fatal(err)
		}
		read := c.read(r, d)
		r.wants(t, c.name+", cold", c.cold, read)
		r.wants(t, c.name+", warm", c.warm, read)
	}
}

// TestAbsenceIsNotCached reads an unknown blob, and finds it immediately after a push.
func TestAbsenceIsNotCached(t *testing.T) {
	r := newReads(t, Config{})
	d := digest.FromString("later")
	for range 2 {
		r.counter.Reset()
		if _, err := r.Stat(t.Context(), d); !errors.Is(err, ErrBlobUnknown) || r.counter.Total() != 1 {
			t.Errorf("Stat = %v with %d requests, want ErrBlobUnknown with one", err, r.counter.Total())
		}
	}
	r.put(t, []byte("later"))
	r.wants(t, "Stat after the push", 1, r.stat(t, d))
}

// TestCacheTTL reads blobs until their entries expire, which reading does not delay.
func TestCacheTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReads(t, Config{Cache: CacheConfig{TTL: time.Minute}})
		inline, data := r.put(t, []byte("inline")), r.put(t, randomBytes(1, 100_000))
		alias := digest.SHA512.FromString("inline")
		if err := r.elsewhere(t).SetDescriptor(t.Context(), alias, Descriptor{Digest: inline}); err != nil {
			t.Fatal(err)
		}
		r.wants(t, "inline", 1, r.get(t, inline))
		r.wants(t, "data", 1, r.stat(t, data))
		r.wants(t, "alias", 1, r.stat(t, alias)) // the link is cached
		time.Sleep(time.Minute)
		r.wants(t, "inline, warm", 0, r.get(t, inline))
		r.wants(t, "data, warm", 0, r.stat(t, data))
		r.wants(t, "alias, warm", 0, r.stat(t, alias))
		time.Sleep(time.Nanosecond)
		r.wants(t, "alias, expired", 2, r.stat(t, alias))
		r.wants(t, "inline, read by its alias", 0, r.get(t, inline))
		r.wants(t, "data, expired", 1, r.stat(t, data))

		// A deletion at another replica is seen when the entry expires.
		if err := r.elsewhere(t).Delete(t.Context(), data); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			r.wants(t, "deleted elsewhere", 0, r.stat(t, data))
			time.Sleep(20 * time.Second)
		}
		time.Sleep(time.Nanosecond)
		if _, err := r.Stat(t.Context(), data); !errors.Is(err, ErrBlobUnknown) {
			t.Errorf("Stat a minute after the deletion elsewhere = %v, want ErrBlobUnknown", err)
		}
	})
}

// TestCacheBound evicts the entry that was used longest ago.
func TestCacheBound(t *testing.T) {
	r := newReads(t, Config{Cache: CacheConfig{Entries: 2}})
	var all []digest.Digest
	for i := range 3 {
		all = append(all, r.put(t, randomBytes(uint64(i), 100_000)))
	}
	r.wants(t, "first", 1, r.stat(t, all[0]))
	r.wants(t, "second", 1, r.stat(t, all[1]))
	r.wants(t, "first again", 0, r.stat(t, all[0]))
	r.wants(t, "third", 1, r.stat(t, all[2]))
	r.wants(t, "first, used last", 0, r.stat(t, all[0]))
	r.wants(t, "second, evicted", 1, r.stat(t, all[1]))

	none := newReads(t, Config{Cache: CacheConfig{Entries: -1}})
	d := none.put(t, []byte("inline"))
	for range 2 {
		none.wants(t, "without a cache", 1, none.get(t, d))
		none.wants(t, "without a cache", 1, none.stat(t, d))
	}
}

// TestInlineBudget caches more bytes of inline blobs than their budget. The entry of
// a blob without its bytes still answers reads of its description.
func TestInlineBudget(t *testing.T) {
	r := newReads(t, Config{InlineMax: 64 << 10})
	first := r.put(t, []byte("first"))
	r.wants(t, "first", 1, r.get(t, first))
	for i := range inlineBudget / (64 << 10) {
		r.wants(t, "another", 1, r.get(t, r.put(t, fmt.Appendf(nil, "another %d", i))))
	}
	r.wants(t, "Stat of the first", 0, r.stat(t, first))
	r.wants(t, "HEAD of the first", 0, func() error { _, err := r.serve(t, http.MethodHead, first); return err })
	r.wants(t, "Get of the first", 1, r.get(t, first))
	r.wants(t, "Get of the first, warm", 0, r.get(t, first))
}

// TestDeleteDuringRead deletes a blob after a read at the same replica has read the
// link, and before that read ends. Later reads there do not find the blob.
func TestDeleteDuringRead(t *testing.T) {
	for _, size := range []int{10, 100_000} {
		synctest.Test(t, func(t *testing.T) {
			r := newReads(t, Config{})
			d := r.put(t, randomBytes(1, size))
			held := make(chan struct{})
			var hold bool
			r.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
				err := do(ctx)
				if hold && c.Method == "Open" && strings.Contains(c.Key, "/links/") {
					hold = false
					<-held // it has read the link
				}
				return err
			}
			hold = true
			done := make(chan error)
			go func() { done <- r.get(t, d)() }()
			synctest.Wait()
			if err := r.Delete(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			close(held)
			if err := <-done; err != nil {
				t.Errorf("Get that started before = %v, want success", err)
			}
			if _, err := r.Stat(t.Context(), d); !errors.Is(err, ErrBlobUnknown) {
				t.Errorf("Stat after Delete = %v, want ErrBlobUnknown", err)
			}
			if _, err := r.serve(t, http.MethodGet, d); !errors.Is(err, ErrBlobUnknown) {
				t.Errorf("GET after Delete = %v, want ErrBlobUnknown", err)
			}

			// A blob that is pushed again is found immediately.
			r.put(t, randomBytes(1, size))
			r.wants(t, "pushed again", 1, r.stat(t, d))
			r.wants(t, "pushed again, warm", 0, r.stat(t, d))

			// A deletion with a lost response may have taken effect.
			r.intercept = (&drivertest.Faulty{Mode: drivertest.Unanswered, Nth: 1, Match: func(c drivertest.Call) bool { return c.Method == "DeleteIf" }}).Intercept
			if err := r.Delete(t.Context(), d); !errors.Is(err, drivertest.ErrInjected) {
				t.Errorf("Delete = %v, want ErrInjected", err)
			}
			if _, err := r.Stat(t.Context(), d); !errors.Is(err, ErrBlobUnknown) {
				t.Errorf("Stat after a Delete with a lost response = %v, want ErrBlobUnknown", err)
			}
		})
	}
}

// TestNoCacheDecidesAWrite deletes a blob at another replica. The cache of this one
// still answers reads, but writes do not rely on it.
func TestNoCacheDecidesAWrite(t *testing.T) {
	for _, size := range []int{1000, 300_000} { // in a session record, and in a part
		p := randomBytes(1, size)
		d, alias := digest.FromBytes(p), digest.SHA512.FromBytes(p)
		for name, request := range map[string]func(r *reads, u Upload) error{
			"PUT again": func(r *reads, u Upload) error {
				_, err := r.FinishUpload(t.Context(), u.ID, u.State, Body{bytes.NewReader(nil), 0, -1, nil}, Descriptor{Digest: d})
				if err == nil {
					_, err = r.elsewhere(t).Stat(t.Context(), d)
				}
				return err
			},
			"Mount": func(r *reads, _ Upload) error { _, err := r.other(t).Mount(t.Context(), named(t, "a"), d); return err },
			"Mount by sha512": func(r *reads, _ Upload) error {
				_, err := r.other(t).Mount(t.Context(), named(t, "a"), alias)
				return err
			},
			"SetDescriptor": func(r *reads, _ Upload) error { return r.SetDescriptor(t.Context(), alias, Descriptor{Digest: d}) },
			"Delete":        func(r *reads, _ Upload) error { return r.Delete(t.Context(), d) },
		} {
			r := newReads(t, Config{})
			u, err := r.StartUpload("")
			must(t, err)
			u, err = r.AppendUpload(t.Context(), u.ID, u.State, Body{bytes.NewReader(p), -1, -1, nil})
			must(t, err)
			_, err = r.FinishUpload(t.Context(), u.ID, u.State, Body{bytes.NewReader(nil), 0, -1, nil}, Descriptor{Digest: d})
			must(t, err)
			must(t, r.SetDescriptor(t.Context(), alias, Descriptor{Digest: d}))
			must(t, r.stat(t, alias)())
			must(t, r.elsewhere(t).Delete(t.Context(), d))
			r.wants(t, "Stat after the deletion elsewhere", 0, r.stat(t, alias))

			err = request(r, u)
			want := ErrBlobUnknown
			switch {
			case name == "PUT again" && size == 1000: // the bytes of the session are spent
				want = ErrBlobUploadUnknown
			case name == "PUT again": // creates the link again
				want = nil
			}
			if !errors.Is(err, want) {
				t.Errorf("%s of %d bytes after the deletion elsewhere = %v, want %v", name, size, err, want)
			}
		}
	}
}

// TestCacheKeepsRepositoriesApart reads a blob that is cached for another repository.
func TestCacheKeepsRepositoriesApart(t *testing.T) {
	r := newReads(t, Config{})
	d := r.put(t, []byte("inline"))
	r.wants(t, "here", 1, r.get(t, d))
	for _, name := range []string{"b", "a/a", "aa"} {
		if _, err := repository(t, r.s, name).Get(t.Context(), d); !errors.Is(err, ErrBlobUnknown) {
			t.Errorf("Get in %s = %v, want ErrBlobUnknown", name, err)
		}
	}
}

// TestKnownLinks asks which links a push of a manifest may count as good: those that
// this process has read or written as good within the last TTL.
func TestKnownLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReads(t, Config{Cache: CacheConfig{TTL: time.Minute}})
		wantKnown := func(what string, d digest.Digest, want bool) {
			t.Helper()
			if got := r.s.cache.known(linkID{"a", d}); got != want {
				t.Errorf("%s: known = %t, want %t", what, got, want)
			}
		}
		// A push and a mount know what they have written, from when the write started.
		slow := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			if strings.Contains(c.Key, "/links/") {
				time.Sleep(20 * time.Second)
			}
			return do(ctx)
		}
		r.intercept = slow
		desc, err := r.Put(t.Context(), "", []byte("pushed"))
		must(t, err)
		wantKnown("pushed", desc.Digest, true)
		r.wants(t, "pushed", 0, r.get(t, desc.Digest))
		time.Sleep(40 * time.Second)
		wantKnown("pushed 60 s ago", desc.Digest, true)
		time.Sleep(time.Nanosecond)
		wantKnown("pushed over 60 s ago", desc.Digest, false)

		elsewhere := repository(t, openStore(t, r.bucket, Config{}), "b")
		other, err := elsewhere.Put(t.Context(), "", []byte("other"))
		must(t, err)
		r.intercept = nil
		_, err = r.Mount(t.Context(), named(t, "b"), other.Digest)
		must(t, err)
		wantKnown("mounted", other.Digest, true)

		// A read knows a link, from when the read started.
		d := r.put(t, []byte("read"))
		wantKnown("not read yet", d, false)
		r.intercept = slow
		must(t, r.stat(t, d)())
		wantKnown("read", d, true)
		time.Sleep(40*time.Second + time.Nanosecond)
		wantKnown("read over 60 s ago", d, false)

		// A deletion is known before it returns. One that starts during a push wins.
		r.intercept = nil
		must(t, r.stat(t, d)())
		must(t, r.Delete(t.Context(), d))
		wantKnown("deleted", d, false)
		r.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			err := do(ctx)
			if c.Method == "Create" && strings.Contains(c.Key, "/links/") {
				must(t, r.Delete(t.Context(), d))
			}
			return err
		}
		_, err = r.Put(t.Context(), "", []byte("read"))
		must(t, err)
		wantKnown("deleted before its push returned", d, false)
	})
}

// TestCondemnedIsNotCached reads a link and an alias that are condemned. They read as
// before, but neither is known afterwards.
func TestCondemnedIsNotCached(t *testing.T) {
	r := newReads(t, Config{})
	d, alias := r.put(t, []byte("inline")), digest.SHA512.FromString("inline")
	must(t, r.elsewhere(t).SetDescriptor(t.Context(), alias, Descriptor{Digest: d}))
	condemnLink(t, r.bucket, "a", d)
	condemnAlias(t, r.bucket, alias)
	for range 2 {
		r.wants(t, "GET by sha512", 2, r.get(t, alias))
	}
	if r.s.cache.known(linkID{"a", d}) {
		t.Error("a condemned link is known")
	}
}

// condemnLink marks a link as the collector does.
func condemnLink(t *testing.T, b drivers.Bucket, repository string, d digest.Digest) {
	t.Helper()
	condemn(t, b, catalog.LinkKey(d, repository), func(l *catalog.Record) { l.Condemned = true })
}

// condemnAlias marks an alias as the collector does.
func condemnAlias(t *testing.T, b drivers.Bucket, d digest.Digest) {
	t.Helper()
	condemn(t, b, catalog.AliasKey(d), func(a *catalog.Alias) { a.Condemned = true })
}

// condemn replaces the object under key with one that has a mark, and the same raw
// bytes.
func condemn[T any](t *testing.T, b drivers.Bucket, key string, mark func(*T)) {
	t.Helper()
	s, err := envelope.Read[T](t.Context(), b, key)
	must(t, err)
	mark(&s.Value)
	_, err = envelope.Replace(t.Context(), b, key, s.Object.Tag, s.Value, drivers.NewBody(s.Raw))
	must(t, err)
}
