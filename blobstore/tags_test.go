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
	"github.com/berthhq/berth/drivers/drivertest"
)

// TestUntag deletes a tag, and keeps the manifest and its other tags.
func TestUntag(t *testing.T) {
	p := newPushes(t, Config{})
	put := imageOf(p.blob("config")).tagged("a", "b")
	p.mustPut(put)
	p.calls = nil
	must(t, p.Tags().Untag(t.Context(), "a"))
	p.wantRequests("Untag", "Open tag", "Open manifest", "DeleteIf tag")
	must(t, p.put(put))
	p.calls = nil
	must(t, p.Tags().Untag(t.Context(), "a"))
	p.wantRequests("Untag with a known manifest", "Open tag", "DeleteIf tag")
	if stored := p.storedTag("a"); stored.Object.Key != "" {
		t.Error("the tag is left")
	}
	p.wantResolves("b", put.Digest)
	if err := p.Tags().Untag(t.Context(), "a"); !errors.Is(err, ErrManifestUnknown) {
		t.Errorf("a second Untag = %v, want %v", err, ErrManifestUnknown)
	}
	if err := p.Tags().Untag(t.Context(), "/"); !errors.Is(err, ErrTagInvalid) {
		t.Errorf("Untag of an invalid tag = %v, want %v", err, ErrTagInvalid)
	}
}

// TestUntagByState deletes tags that resolve or do not, with and without a race.
func TestUntagByState(t *testing.T) {
	dead := func(p *pushes, put ManifestPut) {
		next := p.stored(put.Digest).Value
		next.State = catalog.Deleted
		_, err := catalog.New(p.bucket).ReplaceManifest(p.t.Context(), p.s.newDeadline(), p.stored(put.Digest), next, nil)
		must(p.t, err)
	}
	for _, tt := range []struct {
		name   string
		config Config
		before func(p *pushes, put ManifestPut)
		call   string // before which race is called
		race   func(p *pushes, put ManifestPut)
		want   error
		left   bool // a tag that resolves
	}{
		{"condemned manifest", Config{}, func(p *pushes, put ManifestPut) { p.changeManifest(put.Digest, markCondemned) }, "", nil, nil, false},
		{"deleted manifest", Config{}, dead, "", nil, ErrManifestUnknown, false},
		{"manifest of another life", Config{}, func(p *pushes, put ManifestPut) {
			p.changeManifest(put.Digest, func(m *catalog.Manifest) { m.ID = catalog.NewID() })
		}, "", nil, ErrManifestUnknown, false},
		{"removed manifest", Config{}, func(p *pushes, put ManifestPut) {
			must(p.t, p.bucket.Delete(p.t.Context(), catalog.ManifestKey(pushRepo, put.Digest)))
		}, "", nil, ErrManifestUnknown, false},
		{"immutable", withImmutable("v*"), nil, "", nil, ErrTagImmutable, true},
		{"immutable, and deleted manifest", withImmutable("v*"), dead, "", nil, ErrManifestUnknown, false},
		{"deleted manifest, and pushed again", Config{}, dead, "Open manifest", func(p *pushes, put ManifestPut) { p.mustPut(put) }, nil, false},
		{"moved before the deletion", Config{}, nil, "DeleteIf tag", func(p *pushes, _ ManifestPut) {
			p.mustPut(imageOf(p.blob("other")).tagged("v1"))
		}, nil, false},
		{"deleted before the deletion", Config{}, nil, "DeleteIf tag", func(p *pushes, _ ManifestPut) {
			must(p.t, p.another().Tags().Untag(p.t.Context(), "v1"))
		}, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPushes(t, tt.config)
			put := imageOf(p.blob("config")).tagged("v1")
			p.mustPut(put)
			if tt.before != nil {
				tt.before(p, put)
			}
			if tt.race != nil {
				p.intercept = before(tt.call, 1, func() { tt.race(p, put) })
			}
			if err := p.Tags().Untag(t.Context(), "v1"); !errors.Is(err, tt.want) {
				t.Errorf("Untag = %v, want %v", err, tt.want)
			}
			if tt.left {
				p.wantResolves("v1", put.Digest)
			} else {
				p.wantResolves("v1", "")
			}
		})
	}
}

// TestUntagLostAnswer loses the answer to the deletion of a tag.
func TestUntagLostAnswer(t *testing.T) {
	for _, tt := range []struct {
		name string
		mode drivertest.Mode
		move bool // another process moves the tag after the call
		want error
	}{
		{"it took effect", drivertest.Unanswered, false, nil},
		{"it did not", drivertest.Lost, false, drivertest.ErrInjected},
		{"it took effect, and the tag is there again", drivertest.Unanswered, true, ErrUnavailable},
		{"it did not, and the tag was moved", drivertest.Lost, true, ErrUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPushes(t, Config{})
			put, other := imageOf(p.blob("config")).tagged("v1"), imageOf(p.blob("other")).tagged("v1")
			p.mustPut(put)
			f := &drivertest.Faulty{Mode: tt.mode, Nth: 1, Match: func(c drivertest.Call) bool { return isCall(c, "DeleteIf tag") }}
			p.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
				err := f.Intercept(ctx, c, do)
				if isCall(c, "DeleteIf tag") && tt.move {
					p.mustPut(other)
				}
				return err
			}
			if err := p.Tags().Untag(t.Context(), "v1"); !errors.Is(err, tt.want) {
				t.Errorf("Untag = %v, want %v", err, tt.want)
			}
			if tt.move {
				p.wantResolves("v1", other.Digest)
			}
		})
	}
}

// TestUntagAfterDeadline lets each call of Untag last longer than a request may.
func TestUntagAfterDeadline(t *testing.T) {
	for _, kind := range []string{"Open tag", "Open manifest", "DeleteIf tag"} {
		synctest.Test(t, func(t *testing.T) {
			p := newPushes(t, Config{RequestLimit: time.Hour, Grace: 3 * time.Hour})
			p.mustPut(imageOf(p.blob("config")).tagged("v1"))
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
			if err := p.Tags().Untag(t.Context(), "v1"); !errors.Is(err, ErrUnavailable) || !late {
				t.Errorf("Untag whose %s takes an hour = %v, want %v", kind, err, ErrUnavailable)
			}
		})
	}
}

// TestTag moves tags to a manifest that is there.
func TestTag(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(p *pushes, put ManifestPut)
		tag    string
		want   error
	}{
		{"a new tag", nil, "v2", nil},
		{"a tag of another manifest", nil, "other", nil},
		{"its own tag", nil, "x", nil},
		{"an immutable tag of another manifest", nil, "v1", ErrTagImmutable},
		{"an invalid tag", nil, "-", ErrTagInvalid},
		{"a condemned manifest", func(p *pushes, put ManifestPut) { p.changeManifest(put.Digest, markCondemned) }, "v2", nil},
		{"a deleted manifest", func(p *pushes, put ManifestPut) { p.mustDelete(put.Digest) }, "v2", ErrManifestUnknown},
		{"a removed manifest", func(p *pushes, put ManifestPut) {
			must(p.t, p.bucket.Delete(p.t.Context(), catalog.ManifestKey(pushRepo, put.Digest)))
		}, "v2", ErrManifestUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPushes(t, withImmutable("v*"))
			put, other := imageOf(p.blob("config")).tagged("x"), imageOf(p.blob("other")).tagged("other", "v1")
			p.mustPut(put)
			p.mustPut(other)
			if tt.change != nil {
				tt.change(p, put)
			}
			if err := p.Tags().Tag(t.Context(), tt.tag, Descriptor{Digest: put.Digest}); !errors.Is(err, tt.want) {
				t.Errorf("Tag = %v, want %v", err, tt.want)
			}
			if tt.want != nil {
				return
			}
			p.wantResolves(tt.tag, put.Digest)
			if m := p.stored(put.Digest); m.Value.State != catalog.Live || string(m.Raw) != string(put.Content) || !slices.Contains(m.Value.Hints, tt.tag) {
				t.Errorf("the manifest = %+v with %q, want it live, with the hint %s", m.Value, m.Raw, tt.tag)
			}
		})
	}
	p := newPushes(t, Config{})
	if err := p.Tags().Tag(t.Context(), "v1", Descriptor{Digest: "sha256:x"}); !isInvalidDigest(err) {
		t.Errorf("Tag of a malformed digest = %v, want an ErrBlobInvalidDigest", err)
	}
}

// TestTagAndDeleteRace deletes the manifest before each call of Tag. The tag resolves
// only if the manifest can be read.
func TestTagAndDeleteRace(t *testing.T) {
	for nth := 1; ; nth++ {
		p := newPushes(t, Config{})
		put, other := imageOf(p.blob("config")), imageOf(p.blob("other")).tagged("v1")
		p.mustPut(put)
		p.mustPut(other)
		n := 0
		p.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			if n++; n == nth {
				p.mustDelete(put.Digest)
			}
			return do(ctx)
		}
		err := p.Tags().Tag(t.Context(), "v1", Descriptor{Digest: put.Digest})
		if n < nth {
			must(t, err)
			p.wantResolves("v1", put.Digest)
			return
		}
		want := digest.Digest("") // the deletion came after Tag
		if errors.Is(err, ErrManifestUnknown) {
			want = other.Digest
		} else if err != nil {
			t.Errorf("deleted before call %d: Tag = %v", nth, err)
		}
		p.wantResolves("v1", want)
	}
}
