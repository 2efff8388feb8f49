package blobstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// withImmutable returns a configuration in which these tags are immutable.
func withImmutable(tags ...string) Config {
	return Config{Manifests: ManifestConfig{ImmutableTags: []ImmutableTags{{Tags: tags}}}}
}

// TestConditions checks what a condition or an immutable tag allows, by what the tag
// names before the push. A tag that does not resolve counts as absent. A push that is
// refused stores nothing.
func TestConditions(t *testing.T) {
	absent := TagCondition{Absent: true}
	for _, tt := range []struct {
		name      string
		before    string // what the tag names: nothing, new, old, third, or dead for a deleted manifest
		condition func(old ManifestPut) TagCondition
		immutable bool
		want      error
	}{
		{"absent, and it is", "", func(ManifestPut) TagCondition { return absent }, false, nil},
		{"absent, and it is not", "old", func(ManifestPut) TagCondition { return absent }, false, ErrTagChanged},
		{"absent, and it names the manifest", "new", func(ManifestPut) TagCondition { return absent }, false, ErrTagChanged},
		{"absent, and it does not resolve", "dead", func(ManifestPut) TagCondition { return absent }, false, nil},
		{"a digest, and it names it", "old", func(old ManifestPut) TagCondition { return TagCondition{Digest: old.Digest} }, false, nil},
		{"a digest, and it names another", "third", func(old ManifestPut) TagCondition { return TagCondition{Digest: old.Digest} }, false, ErrTagChanged},
		{"a digest, and it names the manifest", "new", func(old ManifestPut) TagCondition { return TagCondition{Digest: old.Digest} }, false, ErrTagChanged},
		{"a digest, and it is absent", "", func(old ManifestPut) TagCondition { return TagCondition{Digest: old.Digest} }, false, ErrTagChanged},
		{"a digest, and it does not resolve", "dead", func(old ManifestPut) TagCondition { return TagCondition{Digest: old.Digest} }, false, ErrTagChanged},
		{"immutable and absent", "", nil, true, nil},
		{"immutable, and it names another", "old", nil, true, ErrTagImmutable},
		{"immutable, and it names the manifest", "new", nil, true, nil},
		{"immutable, and it does not resolve", "dead", nil, true, nil},
		{"no condition", "old", nil, false, nil},
	} {
		for _, known := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, known: %v", tt.name, known), func(t *testing.T) {
				p := newPushes(t, Config{})
				put := imageOf(p.blob("config")).tagged("x", "y")
				old, third := imageOf(p.blob("old")), imageOf(p.blob("third"))
				switch tt.before {
				case "new":
					p.mustPut(put.tagged("x"))
				case "old", "dead":
					p.mustPut(old.tagged("x"))
				case "third":
					p.mustPut(third.tagged("x"))
				}
				if tt.before == "dead" {
					next := p.stored(old.Digest).Value
					next.State = catalog.Deleted
					_, err := catalog.New(p.bucket).ReplaceManifest(t.Context(), p.s.newDeadline(), p.stored(old.Digest), next, nil)
					must(t, err)
				}
				if tt.condition != nil {
					put.Tags = []string{"x"}
					put.Condition = tt.condition(old)
				}
				if tt.immutable {
					p = newPushesOn(t, p.bucket, withImmutable("x"))
				}
				if known {
					_, err := p.Stat(t.Context(), digest.FromString("config"))
					must(t, err)
				}
				p.calls = nil
				err := p.put(put)
				if !errors.Is(err, tt.want) {
					t.Errorf("Put = %v, want %v", err, tt.want)
				}
				if tt.want == nil {
					p.wantResolves("x", put.Digest)
				} else if slices.ContainsFunc(p.calls, drivertest.Call.Writes) {
					t.Errorf("a refused Put makes %q", p.requests())
				}
			})
		}
	}
}

// TestLostTag lets another process change a tag after the push has read it. The push
// reads the tag again, then the manifest, and decides again.
func TestLostTag(t *testing.T) {
	for _, tt := range []struct {
		name   string
		exists bool // the tag, before the push
		cond   func(p *pushes, old ManifestPut) TagCondition
		config Config
		race   func(p *pushes, put, other ManifestPut) // before the tag is written
		check  func(error) bool
		want   string // what the tag names in the end
	}{
		{"created meanwhile", false, nil, Config{}, func(p *pushes, _, other ManifestPut) { p.mustPut(other.tagged("b")) }, nil, "put"},
		{"moved meanwhile", true, nil, Config{}, func(p *pushes, _, other ManifestPut) { p.mustPut(other.tagged("b")) }, nil, "put"},
		{"deleted meanwhile", true, nil, Config{}, func(p *pushes, _, _ ManifestPut) {
			must(p.t, p.another().Tags().Untag(p.t.Context(), "b"))
		}, nil, "put"},
		{"moved, and the manifest deleted meanwhile", true, nil, Config{}, func(p *pushes, put, other ManifestPut) {
			p.mustPut(other.tagged("b"))
			p.mustDelete(put.Digest)
		}, nil, "put"},
		{"created meanwhile, and must be absent", false, func(*pushes, ManifestPut) TagCondition { return TagCondition{Absent: true} }, Config{},
			func(p *pushes, _, other ManifestPut) { p.mustPut(other.tagged("b")) }, is(ErrTagChanged), "other"},
		{"moved meanwhile, and must name the old one", true, func(_ *pushes, old ManifestPut) TagCondition { return TagCondition{Digest: old.Digest} }, Config{},
			func(p *pushes, _, other ManifestPut) { p.mustPut(other.tagged("b")) }, is(ErrTagChanged), "other"},
		{"created meanwhile and immutable", false, nil, withImmutable("b"),
			func(p *pushes, _, other ManifestPut) { p.mustPut(other.tagged("b")) }, is(ErrTagImmutable), "other"},
		{"created meanwhile, immutable, with this manifest", false, nil, withImmutable("b"),
			func(p *pushes, put, _ ManifestPut) { p.mustPut(put.tagged("b")) }, nil, "put"},
	} {
		for _, tags := range [][]string{{"b"}, {"a", "b"}} { // a is written before b
			t.Run(fmt.Sprintf("%s, %q", tt.name, tags), func(t *testing.T) {
				p := newPushes(t, tt.config)
				old, put, other := imageOf(p.blob("old")), imageOf(p.blob("config")).tagged(tags...), imageOf(p.blob("other"))
				if tt.exists {
					p.mustPut(old.tagged("a", "b"))
				}
				if tt.cond != nil {
					put.Condition = tt.cond(p, old)
				}
				method := map[bool]string{false: "Create", true: "Replace"}[tt.exists]
				p.calls = nil
				p.intercept = before(method+" tag", len(tags), func() { tt.race(p, put, other) })
				err := p.put(put)
				check := tt.check
				switch {
				case check == nil:
					check = is(nil)
				case len(tags) == 2: // a was moved already, so nothing may be denied
					check = func(err error) bool {
						return errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrTagChanged) && !errors.Is(err, ErrTagImmutable)
					}
				}
				if !check(err) {
					t.Errorf("Put = %v", err)
				}
				p.wantResolves("b", map[string]digest.Digest{"put": put.Digest, "other": other.Digest}[tt.want])
				if err == nil && len(tags) == 2 {
					p.wantResolves("a", put.Digest)
				}
				p.wantManifestReadAfterTag()
			})
		}
	}
}

// wantManifestReadAfterTag checks that the push reads the manifest once more after it has
// read a tag for the last time.
func (p *pushes) wantManifestReadAfterTag() {
	p.t.Helper()
	got := p.requests()
	last := -1
	for i, r := range got {
		if r == "Open tag" {
			last = i
		}
	}
	if !slices.Contains(got[last+1:], "Open manifest") {
		p.t.Errorf("the push makes %q, want it to read the manifest after the tag", got)
	}
}

// TestTagIsWrittenAgain moves a tag away and back, to a manifest of a later life, while
// a push that has read the tag before is about to write it. That push must not succeed
// on its old reading: the tag would name a manifest that was deleted.
func TestTagIsWrittenAgain(t *testing.T) {
	p := newPushes(t, Config{})
	put := imageOf(p.blob("config")).tagged("v1")
	p.mustPut(put)
	_, err := p.Stat(t.Context(), digest.FromString("config"))
	must(t, err)
	p.intercept = before("Replace tag", 1, func() {
		p.mustDelete(put.Digest)
		p.mustPut(put)
		p.mustPut(put) // names it already, and is written again
	})
	must(t, p.put(put))
	p.wantResolves("v1", put.Digest)
}

// TestLostAnswerOfTag loses the answer to the write of a tag. The push succeeds only if
// it reads its own tag back, and never writes a tag twice that it must not.
func TestLostAnswerOfTag(t *testing.T) {
	const create, replace = "Create tag", "Replace tag"
	for _, tt := range []struct {
		name    string
		call    string // whose answer is lost
		mode    drivertest.Mode
		other   bool // another process moves the tag away and back, after the call
		guarded bool
		want    error
		writes  int // of the tag, by the push
	}{
		{"create, stored", create, drivertest.Unanswered, false, false, nil, 1},
		{"create, not stored", create, drivertest.Lost, false, false, ErrUnavailable, 1},
		{"create, late", create, drivertest.Late, false, false, ErrUnavailable, 1},
		{"create, stored, and changed since", create, drivertest.Unanswered, true, false, ErrUnavailable, 1},
		{"create, not stored, and changed since", create, drivertest.Lost, true, false, ErrUnavailable, 1},
		{"replace, stored", replace, drivertest.Unanswered, false, false, nil, 1},
		{"replace, not stored", replace, drivertest.Lost, false, false, ErrUnavailable, 1},
		{"replace, stored, and changed since", replace, drivertest.Unanswered, true, false, nil, 2},
		{"replace, not stored, and changed since", replace, drivertest.Lost, true, false, nil, 2},
		{"conditional replace, stored", replace, drivertest.Unanswered, false, true, nil, 1},
		{"conditional replace, stored, and changed since", replace, drivertest.Unanswered, true, true, ErrUnavailable, 1},
		{"conditional replace, not stored, and changed since", replace, drivertest.Lost, true, true, ErrUnavailable, 1},
		{"conditional create, stored", create, drivertest.Unanswered, false, true, nil, 1},
		{"conditional create, stored, and changed since", create, drivertest.Unanswered, true, true, ErrUnavailable, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPushes(t, Config{})
			old, put := imageOf(p.blob("old")).tagged("v1"), imageOf(p.blob("config")).tagged("v1")
			p.mustPut(old.tagged())
			if tt.call == replace {
				p.mustPut(old)
			}
			if tt.guarded {
				put.Condition = TagCondition{Absent: tt.call == create}
				if tt.call == replace {
					put.Condition.Digest = old.Digest
				}
			}
			f := &drivertest.Faulty{Mode: tt.mode, Nth: 1, Match: func(c drivertest.Call) bool { return isCall(c, tt.call) }}
			p.calls = nil
			p.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
				err := f.Intercept(ctx, c, do)
				if _, hit := f.Hit(); hit && isCall(c, tt.call) && errors.Is(err, drivertest.ErrInjected) && tt.other {
					p.mustPut(imageOf(digest.FromString("config"), digest.FromString("old")).tagged("v1"))
					p.mustPut(old)
				}
				return err
			}
			if err := p.put(put); !errors.Is(err, tt.want) {
				t.Errorf("Put = %v, want %v", err, tt.want)
			}
			writes := 0
			for _, c := range p.calls {
				if c.Writes() && isCall(c, c.Method+" tag") {
					writes++
				}
			}
			if writes != tt.writes {
				t.Errorf("the push writes the tag %d times, want %d", writes, tt.writes)
			}
			if tt.want == nil {
				p.wantResolves("v1", put.Digest)
			}
		})
	}
}

// TestImmutableTagAgainstDelete deletes a manifest around the moment at which a push
// writes an immutable tag. Either the deletion is refused, or the push brings the
// manifest back: an acknowledged immutable tag resolves.
func TestImmutableTagAgainstDelete(t *testing.T) {
	for _, call := range []string{"Open manifest", "Replace manifest", "Create tag", "confirm", "Replace tag"} {
		for _, until := range []string{"before its GET", "before its Replace"} {
			t.Run(call+", "+until, func(t *testing.T) {
				p := newPushes(t, withImmutable("v*"))
				put := imageOf(p.blob("config"))
				p.mustPut(put.tagged("old"))
				// The deletion stops before its Replace until the push gets to the call.
				reached, resumed := make(chan struct{}), make(chan error)
				deleter := newPushesOn(t, p.bucket, withImmutable("v*"))
				deleter.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
					if isCall(c, map[string]string{"before its GET": "Open manifest", "before its Replace": "Replace manifest"}[until]) {
						<-reached
					}
					return do(ctx)
				}
				go func() { resumed <- deleter.Manifests().Delete(t.Context(), put.Digest) }()
				written, raced := false, false
				var deleted error
				p.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
					isConfirm := call == "confirm" && written && isCall(c, "Replace manifest")
					if !raced && (isCall(c, call) || isConfirm) {
						raced = true
						close(reached)
						deleted = <-resumed
					}
					written = written || isCall(c, "Create tag")
					return do(ctx)
				}
				err := p.put(put.tagged("v1"))
				if !raced { // a Replace of the tag happens only if the manifest was deleted
					close(reached)
					deleted = <-resumed
				}
				must(t, err)
				p.wantResolves("v1", put.Digest)
				if deleted != nil && !errors.Is(deleted, ErrTagImmutable) {
					t.Errorf("Delete = %v, want success or %v", deleted, ErrTagImmutable)
				}
			})
		}
	}
}

// TestRetriedTag lets a driver's own retry of a write meet another writer. The write may
// have taken effect, so a conditional push must not write again.
func TestRetriedTag(t *testing.T) {
	p := newPushes(t, Config{})
	old, put := imageOf(p.blob("old")).tagged("v1"), imageOf(p.blob("config")).tagged("v1")
	p.mustPut(old)
	p.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		err := do(ctx)
		if isCall(c, "Replace tag") && err == nil {
			p.mustPut(old)
			return fmt.Errorf("%w: %w", drivers.ErrChanged, drivers.ErrUnanswered)
		}
		return err
	}
	if err := p.put(put.onlyIf(TagCondition{Digest: old.Digest})); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Put = %v, want %v", err, ErrUnavailable)
	}
	p.wantResolves("v1", old.Digest)
}
