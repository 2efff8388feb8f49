package blobstore

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/drivers/drivertest"
)

// TestDeleteManifest deletes a manifest with two tags that name it, one that has been
// moved away, and a subject.
func TestDeleteManifest(t *testing.T) {
	p := newPushes(t, Config{})
	subject := digest.FromString("subject")
	put := imageOf(p.blob("config")).with("subject", refTo(manifest.MediaTypeImage, subject)).tagged("a", "b", "moved")
	other := imageOf(p.blob("other"))
	must(t, p.put(put))
	must(t, p.put(other.tagged("moved")))
	p.calls = nil
	must(t, p.Manifests().Delete(t.Context(), put.Digest))
	got := p.requests()
	if want := []string{"Open manifest", "Replace manifest"}; !slices.Equal(got[:2], want) {
		t.Errorf("Delete makes %q, want %q first", got, want)
	}
	slices.Sort(got[2:])
	if want := []string{"DeleteIf tag", "DeleteIf tag", "Open tag", "Open tag", "Open tag"}; !slices.Equal(got[2:], want) {
		t.Errorf("Delete makes %q, want %q at the end", got, want)
	}
	if m := p.stored(put.Digest); m.Value.State != catalog.Deleted || m.RawSize != 0 {
		t.Errorf("the manifest = %+v with %d bytes, want it deleted, without bytes", m.Value, m.RawSize)
	}
	for _, tag := range []string{"a", "b"} {
		if stored := p.storedTag(tag); stored.Object.Key != "" {
			t.Errorf("the tag %s is left", tag)
		}
	}
	p.wantResolves("moved", other.Digest)
	if _, err := p.bucket.Stat(t.Context(), catalog.EntryKey(pushRepo, subject, put.Digest)); err != nil {
		t.Errorf("the referrers entry after Delete: %v, want it untouched", err)
	}
	for _, d := range []digest.Digest{put.Digest, digest.FromString("never there")} {
		if err := p.Manifests().Delete(t.Context(), d); !errors.Is(err, ErrManifestUnknown) {
			t.Errorf("Delete of an unknown manifest = %v, want %v", err, ErrManifestUnknown)
		}
	}
	if err := p.Manifests().Delete(t.Context(), "sha256:abc"); !isInvalidDigest(err) {
		t.Errorf("Delete of a malformed digest = %v, want an ErrBlobInvalidDigest", err)
	}
	if _, ok := p.s.cache.manifest(manifestID{pushRepo, put.Digest}); ok {
		t.Error("the process still knows the manifest after it has deleted it")
	}
}

// TestDeleteManyTags checks that the tags of a manifest with more tags than hints are
// left to the collector. They do not resolve.
func TestDeleteManyTags(t *testing.T) {
	p := newPushes(t, Config{})
	put := imageOf(p.blob("config")).tagged("v1")
	p.mustPut(put)
	p.changeManifest(put.Digest, func(m *catalog.Manifest) { m.MoreHints = true })
	must(t, p.Manifests().Delete(t.Context(), put.Digest))
	p.wantRequests("Delete", "Open manifest", "Replace manifest")
	p.wantResolves("v1", "")
}

// TestDeleteRefused checks that a manifest stays if an immutable tag names it, in this
// life of it.
func TestDeleteRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(p *pushes, put ManifestPut) // after the push by v1 and x
		want   error
	}{
		{"named", func(*pushes, ManifestPut) {}, ErrTagImmutable},
		{"not in the hints of many", func(p *pushes, put ManifestPut) {
			p.changeManifest(put.Digest, func(m *catalog.Manifest) { m.Hints, m.MoreHints = nil, true })
		}, ErrTagImmutable},
		{"the tag names another manifest", func(p *pushes, _ ManifestPut) { p.mustPut(imageOf(p.blob("b")).tagged("v1")) }, nil},
		{"the tag was deleted", func(p *pushes, _ ManifestPut) { must(p.t, p.another().Tags().Untag(p.t.Context(), "v1")) }, nil},
		{"the tag names an earlier life", func(p *pushes, put ManifestPut) {
			p.changeManifest(put.Digest, func(m *catalog.Manifest) { m.ID = catalog.NewID() })
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPushes(t, Config{})
			put := imageOf(p.blob("config")).tagged("v1", "x")
			p.mustPut(put)
			tt.change(p, put)
			guarded := newPushesOn(t, p.bucket, withImmutable("v*"))
			if err := guarded.Manifests().Delete(t.Context(), put.Digest); !errors.Is(err, tt.want) {
				t.Errorf("Delete = %v, want %v", err, tt.want)
			}
			if got := guarded.requests(); got[1] != "Open tag" && got[1] != "List tag" {
				t.Errorf("Delete makes %q, want it to read tags between the manifest's GET and its Replace", got)
			}
			if readable := p.stored(put.Digest).Value.Readable(); readable != (tt.want != nil) {
				t.Errorf("after Delete = %v the manifest can be read: %v", tt.want, readable)
			}
		})
	}
}

// TestDeleteLostAnswer loses the answer to the Replace of a deletion, or lets another
// process change the manifest.
func TestDeleteLostAnswer(t *testing.T) {
	for _, tt := range []struct {
		name string
		mode drivertest.Mode
		race func(p *pushes, put ManifestPut) // after the Replace
		lost bool
		want error
		left bool // the manifest can be read in the end
	}{
		{"it took effect", drivertest.Unanswered, nil, true, nil, false},
		{"it did not", drivertest.Lost, nil, true, drivertest.ErrInjected, true},
		{"it took effect, and the manifest is back", drivertest.Unanswered, func(p *pushes, put ManifestPut) { p.mustPut(put) }, true, nil, true},
		{"it did not, and another deletion did", drivertest.Lost, func(p *pushes, put ManifestPut) { p.mustDelete(put.Digest) }, true, nil, false},
		{"it did not, and the manifest was deleted and is back", drivertest.Lost, func(p *pushes, put ManifestPut) {
			p.mustDelete(put.Digest)
			p.mustPut(put)
		}, true, nil, true},
		{"it did not, and the collector has removed the manifest", drivertest.Lost, func(p *pushes, put ManifestPut) {
			must(p.t, p.bucket.Delete(p.t.Context(), catalog.ManifestKey(pushRepo, put.Digest)))
		}, true, nil, false},
		{"it did not, and the hints have changed", drivertest.Lost, func(p *pushes, put ManifestPut) { p.mustPut(put.tagged("v2")) }, true, nil, false},
		{"another deletion was first", 0, func(p *pushes, put ManifestPut) { p.mustDelete(put.Digest) }, false, ErrManifestUnknown, false},
		{"a hint was first", 0, func(p *pushes, put ManifestPut) { p.mustPut(put.tagged("v2")) }, false, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPushes(t, Config{})
			put := imageOf(p.blob("config")).tagged("v1")
			p.mustPut(put)
			f := &drivertest.Faulty{Mode: tt.mode, Nth: 1, Match: func(c drivertest.Call) bool { return tt.lost && isCall(c, "Replace manifest") }}
			raced := tt.race == nil
			p.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
				if isCall(c, "Replace manifest") && !tt.lost && !raced {
					raced = true
					tt.race(p, put)
				}
				err := f.Intercept(ctx, c, do)
				if isCall(c, "Replace manifest") && !raced {
					raced = true
					tt.race(p, put)
				}
				return err
			}
			if err := p.Manifests().Delete(t.Context(), put.Digest); !errors.Is(err, tt.want) {
				t.Errorf("Delete = %v, want %v", err, tt.want)
			}
			m, err := catalog.New(p.bucket).ReadManifest(t.Context(), pushRepo, put.Digest)
			if left := err == nil && m.Value.Readable(); left != tt.left {
				t.Errorf("after Delete the manifest = %+v, %v, want it to be left: %v", m.Value, err, tt.left)
			}
		})
	}
}

// TestDeleteTidiesUp fails each call of a deletion that tidies up, and disconnects the
// client. The deletion succeeds, and no tag resolves. Tags that were moved meanwhile
// stay.
func TestDeleteTidiesUp(t *testing.T) {
	for _, call := range []string{"Open tag", "DeleteIf tag"} {
		for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Unanswered} {
			p := newPushes(t, Config{})
			put := imageOf(p.blob("config")).tagged("v1")
			p.mustPut(put)
			f := &drivertest.Faulty{Mode: mode, Nth: 1, Match: func(c drivertest.Call) bool { return isCall(c, call) }}
			p.intercept = f.Intercept
			must(t, p.Manifests().Delete(t.Context(), put.Digest))
			p.wantResolves("v1", "")
		}
	}
	p := newPushes(t, Config{})
	put, other := imageOf(p.blob("config")).tagged("v1", "v2"), imageOf(p.blob("other"))
	p.mustPut(put)
	ctx, disconnect := context.WithCancel(t.Context())
	moved := false
	p.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if isCall(c, "Replace manifest") {
			disconnect()
		}
		if isCall(c, "DeleteIf tag") && c.Key == catalog.TagKey(pushRepo, "v1") && !moved {
			moved = true
			p.mustPut(other.tagged("v1"))
		}
		if err := ctx.Err(); err != nil {
			t.Errorf("%v on a context that has ended: %v", c, err)
		}
		return do(ctx)
	}
	must(t, p.Manifests().Delete(ctx, put.Digest))
	p.wantResolves("v1", other.Digest)
	if stored := p.storedTag("v2"); stored.Object.Key != "" {
		t.Error("a tag of the deleted manifest is left after the client has disconnected")
	}
}

// TestDeleteAfterDeadline lets a call of a deletion last longer than a request may.
func TestDeleteAfterDeadline(t *testing.T) {
	for _, kind := range []string{"Open manifest", "Replace manifest", "Open tag", "DeleteIf tag"} {
		synctest.Test(t, func(t *testing.T) {
			p := newPushes(t, Config{RequestLimit: time.Hour, Grace: 3 * time.Hour})
			put := imageOf(p.blob("config")).tagged("v1")
			p.mustPut(put)
			late := false
			p.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
				if late && c.Writes() {
					t.Errorf("%v after the deadline", c)
				}
				err := do(context.WithoutCancel(ctx))
				if isCall(c, kind) {
					late = true
					time.Sleep(time.Hour + 1)
				}
				return err
			}
			if err := p.Manifests().Delete(t.Context(), put.Digest); !errors.Is(err, ErrUnavailable) || !late {
				t.Errorf("Delete whose %s takes an hour = %v, want %v", kind, err, ErrUnavailable)
			}
		})
	}
}

// TestDeleteAndPutRace deletes a manifest before each call of a push of it. An
// acknowledged push is whole unless the deletion came later, and a push that starts
// afterwards brings everything back.
func TestDeleteAndPutRace(t *testing.T) {
	for nth := 1; ; nth++ {
		p := newPushes(t, Config{})
		put := imageOf(p.blob("config")).tagged("v1", "v2")
		p.mustPut(put)
		n := 0
		p.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			if n++; n == nth {
				if err := p.another().Manifests().Delete(ctx, put.Digest); err != nil && !errors.Is(err, ErrManifestUnknown) {
					t.Error(err)
				}
			}
			return do(ctx)
		}
		must(t, p.put(put))
		if n < nth {
			break
		}
		tags := []digest.Digest{}
		for _, tag := range put.Tags {
			if stored := p.storedTag(tag); stored.Object.Key != "" && stored.Value.Names(p.stored(put.Digest).Value) && p.stored(put.Digest).Value.Readable() {
				tags = append(tags, stored.Value.Digest)
			}
		}
		if readable := p.stored(put.Digest).Value.Readable(); readable != (len(tags) == 2) {
			t.Errorf("deleted before call %d: the manifest can be read: %v, and %d tags resolve", nth, readable, len(tags))
		}
		p.intercept = nil
		must(t, p.put(put))
		p.wantResolves("v1", put.Digest)
		p.wantResolves("v2", put.Digest)
	}
}
