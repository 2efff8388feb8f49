package blobstore

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// TestConditionOnTagOfAnotherLife checks that a tag counts as absent if its manifest has
// another ID.
func TestConditionOnTagOfAnotherLife(t *testing.T) {
	p := newPushes(t, Config{})
	old, next := imageOf(p.blob("old")), imageOf(p.blob("next"))
	p.mustPut(old.tagged("v1"))
	p.changeManifest(old.Digest, func(m *catalog.Manifest) { m.ID = catalog.NewID() })
	if err := p.put(next.tagged("v1").onlyIf(TagCondition{Digest: old.Digest})); !errors.Is(err, ErrTagChanged) {
		t.Errorf("Put if the tag names the manifest = %v, want %v", err, ErrTagChanged)
	}
	must(t, p.put(next.tagged("v1").onlyIf(TagCondition{Absent: true})))
	p.wantResolves("v1", next.Digest)
}

// TestLinkDamagedAsItIsKept checks that a link which becomes damaged while a push takes
// the collector's mark off is missing.
func TestLinkDamagedAsItIsKept(t *testing.T) {
	p := newPushes(t, Config{})
	blob := p.blob("config")
	condemnLink(t, p.bucket, pushRepo, blob)
	p.intercept = before("Replace link", 1, func() {
		condemn(t, p.bucket, catalog.LinkKey(blob, pushRepo), func(r *catalog.Record) { r.State, r.Condemned = catalog.Damaged, false })
	})
	if err := p.put(imageOf(blob)); !isA[ErrManifestBlobUnknown](err) {
		t.Errorf("Put = %v, want an ErrManifestBlobUnknown", err)
	}
}

// TestKnownLinkAges checks that the time for which a process knows a link starts before
// the request to the store.
func TestKnownLinkAges(t *testing.T) {
	for _, kind := range []string{"Open link", "Replace link"} {
		synctest.Test(t, func(t *testing.T) {
			p := newPushes(t, Config{Cache: CacheConfig{Entries: 100, TTL: 10 * time.Second}})
			blob := p.blob("config")
			condemnLink(t, p.bucket, pushRepo, blob)
			p.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
				err := do(ctx)
				if isCall(c, kind) {
					time.Sleep(11 * time.Second)
				}
				return err
			}
			must(t, p.put(imageOf(blob)))
			if kind == "Open link" { // a link without a mark
				time.Sleep(time.Minute)
				must(t, p.put(imageOf(blob, blob)))
			}
			if p.s.cache.known(linkID{pushRepo, blob}) {
				t.Errorf("the link is known although its %s took longer than the TTL", kind)
			}
		})
	}
}

// TestTagMeetsDeletion deletes or removes the manifest of Tag after the tag was written
// or lost. Tag brings no manifest back.
func TestTagMeetsDeletion(t *testing.T) {
	deleted := func(p *pushes, put ManifestPut) {
		p.changeManifest(put.Digest, func(m *catalog.Manifest) { m.State = catalog.Deleted })
	}
	removed := func(p *pushes, put ManifestPut) {
		must(p.t, p.bucket.Delete(p.t.Context(), catalog.ManifestKey(pushRepo, put.Digest)))
	}
	for _, tt := range []struct {
		name  string
		cfg   Config
		call  string // before which it happens
		nth   int
		meets func(p *pushes, put ManifestPut)
		want  error
	}{
		{"deleted before its hint", Config{}, "Replace manifest", 1, deleted, ErrManifestUnknown},
		{"removed before its hint", Config{}, "Replace manifest", 1, removed, ErrManifestUnknown},
		{"deleted after an immutable tag was written", withImmutable("v*"), "Replace manifest", 2, deleted, ErrUnavailable},
		{"removed after an immutable tag was written", withImmutable("v*"), "Replace manifest", 2, removed, ErrUnavailable},
	} {
		p := newPushes(t, tt.cfg)
		put := imageOf(p.blob("config"))
		p.mustPut(put)
		p.intercept = before(tt.call, tt.nth, func() { tt.meets(p, put) })
		if err := p.Tags().Tag(t.Context(), "v1", Descriptor{Digest: put.Digest}); !errors.Is(err, tt.want) {
			t.Errorf("%s: Tag = %v, want %v", tt.name, err, tt.want)
		}
		if p.exists(put.Digest) && p.stored(put.Digest).Value.State != catalog.Deleted {
			t.Errorf("%s: the manifest = %+v, want it deleted", tt.name, p.stored(put.Digest).Value)
		}
	}
}

// TestReferencesAreCheckedOnce checks that a push onto a deleted manifest reads its
// children once.
func TestReferencesAreCheckedOnce(t *testing.T) {
	p := newPushes(t, Config{})
	child := imageOf(p.blob("config"))
	index := indexOf(child.Digest)
	p.mustPut(child)
	p.mustPut(index)
	p.mustDelete(index.Digest)
	must(t, p.put(index))
	p.wantRequests("Put", "Open manifest", "Open manifest", "Open marker", "Replace manifest")
}

// TestMarkerFails checks that no manifest is stored without the marker of its repository.
func TestMarkerFails(t *testing.T) {
	p := newPushes(t, Config{})
	put := imageOf(p.blob("config"))
	p.intercept = (&drivertest.Faulty{Mode: drivertest.Lost, Nth: 1, Match: func(c drivertest.Call) bool { return isCall(c, "Create marker") }}).Intercept
	if err := p.put(put); err == nil || p.exists(put.Digest) {
		t.Errorf("Put without a marker = %v, and the manifest is stored: %v, want an error", err, p.exists(put.Digest))
	}
}

// TestMoreHintsAreKept checks that a manifest that is made live again still has more tags
// than hints.
func TestMoreHintsAreKept(t *testing.T) {
	p := newPushes(t, Config{})
	put := imageOf(p.blob("config")).tagged("v1")
	p.mustPut(put)
	p.changeManifest(put.Digest, func(m *catalog.Manifest) { m.State, m.MoreHints = catalog.Condemned, true })
	must(t, p.put(put))
	if m := p.stored(put.Digest).Value; m.State != catalog.Live || !m.MoreHints {
		t.Errorf("the manifest = %+v, want it live, with more hints", m)
	}
}

// TestEarlierTagsAreNotWrittenAgain loses the second tag of a push to another writer. The
// first tag is written once.
func TestEarlierTagsAreNotWrittenAgain(t *testing.T) {
	p := newPushes(t, Config{})
	put, other := imageOf(p.blob("config")).tagged("a", "b"), imageOf(p.blob("other")).tagged("b")
	writes := 0
	p.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if isCall(c, "Create tag") && c.Key == catalog.TagKey(pushRepo, "b") {
			p.mustPut(other)
		}
		if c.Writes() && c.Key == catalog.TagKey(pushRepo, "a") {
			writes++
		}
		return do(ctx)
	}
	must(t, p.put(put))
	p.wantResolves("b", put.Digest)
	if writes != 1 {
		t.Errorf("the first tag is written %d times, want once", writes)
	}
}

// TestFullStoreHasNoTag checks that a store that is full is reported as such: it has not
// written the tag.
func TestFullStoreHasNoTag(t *testing.T) {
	p := newPushes(t, Config{})
	p.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if isCall(c, "Create tag") {
			return drivers.ErrFull
		}
		return do(ctx)
	}
	if err := p.put(imageOf(p.blob("config")).tagged("v1")); !errors.Is(err, ErrFull) || errors.Is(err, ErrUnavailable) {
		t.Errorf("Put = %v, want %v only", err, ErrFull)
	}
}

// TestImmutableTagMeetsAnotherLife gives the manifest another ID after an immutable tag
// was written. The tag is written again, and resolves.
func TestImmutableTagMeetsAnotherLife(t *testing.T) {
	p := newPushes(t, withImmutable("v*"))
	put := imageOf(p.blob("config")).tagged("v1")
	p.intercept = before("Replace manifest", 1, func() {
		p.changeManifest(put.Digest, func(m *catalog.Manifest) { m.ID = catalog.NewID() })
	})
	must(t, p.put(put))
	p.wantResolves("v1", put.Digest)
}

// TestDeleteMeetsNextLife brings a manifest back before a deletion of it tidies up. The
// tag of the next life stays.
func TestDeleteMeetsNextLife(t *testing.T) {
	p := newPushes(t, Config{})
	put := imageOf(p.blob("config")).tagged("v1")
	p.mustPut(put)
	p.intercept = before("Open tag", 1, func() { p.mustPut(put) })
	must(t, p.Manifests().Delete(t.Context(), put.Digest))
	p.wantResolves("v1", put.Digest)
}

// TestDeleteReadsImmutableTagsAgain writes an immutable tag, and its confirmation, before
// the Replace of a deletion. The deletion reads the tags again, and is refused.
func TestDeleteReadsImmutableTagsAgain(t *testing.T) {
	p := newPushes(t, withImmutable("v*"))
	put := imageOf(p.blob("config"))
	p.mustPut(put)
	p.intercept = before("Replace manifest", 1, func() { p.mustPut(put.tagged("v1")) })
	if err := p.Manifests().Delete(t.Context(), put.Digest); !errors.Is(err, ErrTagImmutable) {
		t.Errorf("Delete = %v, want %v", err, ErrTagImmutable)
	}
	p.wantResolves("v1", put.Digest)
}

// TestDeleteNeedsAllTags fails the LIST of tags that shows whether an immutable one names
// the manifest. The manifest stays.
func TestDeleteNeedsAllTags(t *testing.T) {
	p := newPushes(t, withImmutable("v*"))
	put := imageOf(p.blob("config")).tagged("v1")
	p.mustPut(put)
	p.changeManifest(put.Digest, func(m *catalog.Manifest) { m.Hints, m.MoreHints = nil, true })
	p.intercept = (&drivertest.Faulty{Mode: drivertest.Lost, Nth: 1, Match: func(c drivertest.Call) bool { return c.Method == "List" }}).Intercept
	if err := p.Manifests().Delete(t.Context(), put.Digest); !errors.Is(err, drivertest.ErrInjected) {
		t.Errorf("Delete whose LIST fails = %v, want %v", err, drivertest.ErrInjected)
	}
	p.wantResolves("v1", put.Digest)
}

// TestDeleteOfTagsThatDisappear lets another process delete a hinted tag first. Nothing is
// left to the collector, so nothing is logged.
func TestDeleteOfTagsThatDisappear(t *testing.T) {
	var log strings.Builder
	p := newPushes(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	put := imageOf(p.blob("config")).tagged("v1", "v2")
	p.mustPut(put)
	must(t, p.another().Tags().Untag(t.Context(), "v1"))
	p.intercept = before("DeleteIf tag", 1, func() {
		must(t, p.bucket.Delete(t.Context(), catalog.TagKey(pushRepo, "v2")))
	})
	must(t, p.Manifests().Delete(t.Context(), put.Digest))
	if log.Len() > 0 {
		t.Errorf("log has\n%s, want nothing", &log)
	}
}

// TestHeadOfTagThatMoves moves the tag, and deletes its manifest, as a HEAD takes the
// collector's mark off the manifest. The HEAD returns what the tag names then.
func TestHeadOfTagThatMoves(t *testing.T) {
	p := newPushes(t, Config{})
	put, next := imageOf(p.blob("config")).tagged("v1"), imageOf(p.blob("next")).tagged("v1")
	p.mustPut(put)
	p.changeManifest(put.Digest, markCondemned)
	p.intercept = before("Replace manifest", 1, func() {
		p.mustDelete(put.Digest)
		p.mustPut(next)
	})
	w, err := serveManifest(t, p.Manifests(), http.MethodHead, "v1")
	if got := w.Header().Get("Docker-Content-Digest"); err != nil || got != next.Digest.String() {
		t.Errorf("HEAD = %v, %s, want %s", err, got, next.Digest)
	}
}

// TestHeadAfterDeadline lets the write of a HEAD last longer than a request may. Its client
// cannot rely on the manifest.
func TestHeadAfterDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPushes(t, Config{RequestLimit: time.Hour, Grace: 3 * time.Hour})
		put := imageOf(p.blob("config"))
		p.mustPut(put)
		p.changeManifest(put.Digest, markCondemned)
		p.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			err := do(context.WithoutCancel(ctx))
			if isCall(c, "Replace manifest") {
				time.Sleep(time.Hour + 1)
			}
			return err
		}
		if w, err := serveManifest(t, p.Manifests(), http.MethodHead, put.Digest.String()); !errors.Is(err, ErrUnavailable) {
			t.Errorf("HEAD that takes an hour = %d, %v, want %v", w.Code, err, ErrUnavailable)
		}
	})
}

// TestGetOfDamagedManifest checks that Get hashes a long manifest before it returns it.
func TestGetOfDamagedManifest(t *testing.T) {
	p := newPushes(t, Config{})
	put := longImage(p.blob("config"))
	p.mustPut(put)
	p.damage(put.Digest)
	if m, err := p.Manifests().Get(t.Context(), put.Digest); !errors.Is(err, ErrManifestUnknown) {
		t.Errorf("Get of a damaged manifest = %d bytes, %v, want %v", len(m.Content), err, ErrManifestUnknown)
	}
}
