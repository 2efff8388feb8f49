package blobstore

import (
	"errors"
	"testing"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// brokenImageRule is a scenario in which one rule is broken. Unless kept is nil, it keeps
// the rule again; otherwise the rule is kept without tamperA.
type brokenImageRule struct {
	scenario
	attack int // the number of the attack that made the rule; see attacks_test.go
	kept   func(*scenario)
	slow   bool // the violation is in one of thousands of schedules
}

// TestBrokenRulesOfImagesAreFound breaks rules of the protocol of manifests and tags on
// purpose, as TestBrokenRulesAreFound does. The other rules are broken by the tests of the
// attacks that they answer.
func TestBrokenRulesOfImagesAreFound(t *testing.T) { breakRules(t, 0) }

// breakRules breaks the rules that answer an attack. The search finds a violation only
// while the rule is broken.
func breakRules(t *testing.T, attack int) {
	t.Helper()
	for _, rules := range [][]brokenImageRule{
		brokenTagRules(), brokenImmutableRules(), brokenReferenceRules(), brokenEntryRules(), brokenMarks(), brokenTimes(),
	} {
		for _, rule := range rules {
			if rule.attack == attack {
				breakRule(t, rule)
			}
		}
	}
}

func breakRule(t *testing.T, rule brokenImageRule) {
	t.Helper()
	t.Run(rule.name, func(t *testing.T) {
		t.Parallel()
		rule.test(t)
	})
}

func (rule brokenImageRule) test(t *testing.T) {
	t.Helper()
	if rule.slow && !soak() {
		t.Skip("takes a minute: make soak runs it (BERTH_TEST_SOAK=1)")
	}
	if done := sim.Explore(t, rule.ofImages().simulated(), 0); done.Violation == nil {
		t.Errorf("the rule was broken, and no violation is found in %d schedules", done.Schedules)
	} else {
		t.Log(done.Violation)
	}
	if rule.tamperA = nil; rule.kept != nil {
		rule.kept(&rule.scenario)
	}
	if done := sim.Explore(t, rule.ofImages().simulated(), mostKept()); done.Violation != nil {
		t.Errorf("the rule was kept, and a violation is found: %v", done.Violation)
	}
}

// ofImages returns the scenario with the usual configuration, unless it has its own.
func (sc scenario) ofImages() scenario {
	if sc.images == nil {
		cfg := imageConfig()
		sc.images = &cfg
	}
	return sc
}

// mostKept returns the number of schedules in which a rule is kept. It is zero for all.
func mostKept() int {
	switch {
	case soak():
		return 0
	case long():
		return 50
	default:
		return 10
	}
}

// left returns the setup of a rule: what the second client does.
func left(all ...func(c *client) error) func(*simRun) error {
	return func(run *simRun) error { return steps(all...)(run.clients[1]) }
}

// leftAs returns the setup of a rule that leaves an image state.
func leftAs(name string) func(*simRun) error {
	for _, s := range imageStates() {
		if s.name == name {
			return left(s.leave)
		}
	}
	panic("no state " + name)
}

func takes(s *snapshot, key string) func(c *client) error {
	return func(c *client) error { return s.take(c, key) }
}

func deletes(i sim.Image) func(c *client) error {
	return func(c *client) error { return c.deleteImage(i) }
}

func putsIf(cond TagCondition, i sim.Image, tags ...string) func(c *client) error {
	return func(c *client) error { return c.putImageIf(cond, i, tags...) }
}

func keyOf(i sim.Image) string { return catalog.ManifestKey(repoA, i.Digest()) }

// movedBack leaves t at n2, with both manifests hinting at it.
func movedBack() func(c *client) error {
	return steps(pushBlobs, puts(imageN, "t"), puts(imageN2, "t"))
}

// brokenTagRules returns the rules about tags.
func brokenTagRules() []brokenImageRule {
	n, n39 := new(snapshot), new(snapshot)
	isN, isN2 := TagCondition{Digest: imageN.Digest()}, TagCondition{Digest: imageN2.Digest()}
	cold := withoutCache(imageConfig())
	unsettled := scenario{
		setup:  left(movedBack()),
		actors: []actor{does("A", puts(imageN, "t")), does("B", deletes(imageN), puts(imageN2, "t"))},
	}
	named := func(name string, s scenario, tamper func(drivers.Bucket) drivers.Bucket) scenario {
		s.name, s.tamperA = name, tamper
		return s
	}
	return []brokenImageRule{
		{attack: 31, scenario: scenario{
			name:    "the manifest is read after the tags",
			setup:   left(movedBack(), takes(n, keyOf(imageN))),
			actors:  []actor{does("A", puts(imageN, "t")), does("B", deletes(imageN), puts(imageN2, "t"))},
			tamperA: n.firstRead,
		}},
		{attack: 31, scenario: scenario{
			name:    "a tag is written although it names the manifest already",
			setup:   left(movedBack()),
			actors:  []actor{does("A", deletes(imageN), puts(imageN2, "t")), does("B", puts(imageN, "t"))},
			tamperA: skipEqualTags,
		}},
		{attack: 32, scenario: named("a tag is replaced as it was read before the manifest", unsettled, replaceTagsBlindly)},
		{attack: 32, scenario: named("a tag that was lost is read again", scenario{
			setup:  left(pushBlobs, puts(imageN, "t")),
			actors: []actor{does("A", puts(imageN, "t")), does("B", deletes(imageN))},
		}, ignoreLostTags)},
		{attack: 36, scenario: named("a condition holds as the tag is written", scenario{
			setup:  left(pushBlobs, puts(imageN2), puts(imageN, "t")),
			actors: []actor{does("A", putsIf(isN, imageN2, "t")), does("B", puts(sim.Image{Name: "3"}, "t"))},
		}, replaceTagsBlindly)},
		{attack: 39, scenario: named("a manifest that does not fit the tag is read from the store", scenario{
			setup: func(run *simRun) error {
				err := left(pushBlobs, puts(imageN, "t"), takes(n39, keyOf(imageN)))(run)
				return errors.Join(err, getT(run.clients[0])) // caches n
			},
			actors: []actor{does("A", getT), does("B", deletes(imageN), puts(imageN, "t"))},
		}, n39.eachRead)},
		{
			attack: 36,
			scenario: scenario{
				name:   "a tag is not acknowledged if its response is lost",
				setup:  left(pushBlobs),
				fault:  sim.Fault{Nth: 3, Mode: drivertest.Late}, // after the marker and the manifest
				actors: []actor{{"A", putAndBelieve}, does("B", putsIf(TagCondition{Absent: true}, imageN2, "t"))},
			},
			kept: func(s *scenario) { s.actors[0] = does("A", puts(imageN, "t")) },
		},
		{
			attack: 36,
			scenario: scenario{
				name:   "a tag is moved once by a conditional request",
				setup:  left(pushBlobs, puts(imageN2, "t"), puts(imageN, "t")),
				fault:  sim.Fault{Nth: 1, Mode: drivertest.Late},
				actors: []actor{{"A", putAndRepeat}, does("B", putsIf(isN2, imageN, "t"))},
			},
			kept: func(s *scenario) { s.actors[0] = does("A", putsIf(isN, imageN2, "t")) },
		},
		{scenario: scenario{
			name:    "tags are not cached",
			images:  &cold,
			setup:   left(pushBlobs, puts(imageN, "t")),
			actors:  []actor{does("A", getTTwice), does("B", puts(imageN2, "t"))},
			tamperA: rememberTags,
		}},
	}
}

func getT(c *client) error { _, err := c.getImage("t"); return err }

func getTTwice(c *client) error {
	if err := possible(getT(c)); err != nil {
		return err
	}
	return getT(c)
}

// putAndBelieve moves t to n, and takes a response that is lost for a success.
func putAndBelieve(c *client) error {
	c.boundary()
	answered := c.run.Ledger.Putting(sim.Put{Repository: repoA, Digest: imageN.Digest(), Content: imageN.Bytes(), Tags: []string{"t"}})
	_, err := c.in(repoA).Manifests().Put(c.ctx(), ManifestPut{Content: imageN.Bytes(), Tags: []string{"t"}})
	err = expect(err, ErrUnavailable)
	c.boundary()
	answered(outcome(err))
	return err
}

// putAndRepeat moves t from n to n2. If the response is lost, it moves t again, as part
// of the same request.
func putAndRepeat(c *client) error {
	cond := TagCondition{Digest: imageN.Digest()}
	c.boundary()
	answered := c.run.Ledger.Putting(sim.Put{
		Repository: repoA, Digest: imageN2.Digest(), Content: imageN2.Bytes(), Tags: []string{"t"}, IfDigest: cond.Digest,
	})
	err := patient(func(c *client) error {
		_, err := c.in(repoA).Manifests().Put(c.ctx(), ManifestPut{Content: imageN2.Bytes(), Tags: []string{"t"}, Condition: cond})
		return err
	})(c)
	c.boundary()
	if o := outcome(err); o == sim.Refused {
		answered(sim.Failed) // the first attempt may have taken effect
	} else {
		answered(o)
	}
	return possible(err)
}

// immutableConfig makes tags that start with v immutable.
func immutableConfig() *Config {
	c := imageConfig()
	c.Manifests.ImmutableTags = []ImmutableTags{{Tags: []string{"v*"}}}
	return &c
}

// brokenImmutableRules returns the rules about immutable tags.
func brokenImmutableRules() []brokenImageRule {
	v1 := new(snapshot)
	return []brokenImageRule{
		{
			attack: 38,
			scenario: scenario{
				name:   "a request that has moved a tag is not refused",
				images: immutableConfig(),
				setup:  left(pushBlobs),
				actors: []actor{{"A", putAndRefuse}, does("B", puts(imageN2, "v1"))},
			},
			kept: func(s *scenario) { s.actors[0] = does("A", puts(imageN, "a", "v1")) },
		},
		{attack: 37, scenario: scenario{
			name:    "a manifest is replaced after an immutable tag is written",
			images:  immutableConfig(),
			setup:   left(pushBlobs, puts(imageN)),
			actors:  []actor{does("A", puts(imageN, "v1")), does("B", deletes(imageN))},
			tamperA: swallowConfirmations,
		}},
		{attack: 37, scenario: scenario{
			name:    "immutable tags are read after the manifest that is deleted",
			images:  immutableConfig(),
			setup:   left(pushBlobs, puts(imageN), takes(v1, catalog.TagKey(repoA, "v1"))),
			actors:  []actor{does("A", deletes(imageN)), does("B", puts(imageN, "v1"))},
			tamperA: v1.eachRead,
		}},
	}
}

// putAndRefuse moves two tags, and takes a request that is unavailable for one that was
// refused.
func putAndRefuse(c *client) error {
	tags := []string{"a", "v1"}
	c.boundary()
	answered := c.run.Ledger.Putting(sim.Put{Repository: repoA, Digest: imageN.Digest(), Content: imageN.Bytes(), Tags: tags})
	_, err := c.in(repoA).Manifests().Put(c.ctx(), ManifestPut{Content: imageN.Bytes(), Tags: tags})
	if errors.Is(err, ErrUnavailable) {
		err = ErrTagImmutable
	}
	c.boundary()
	answered(outcome(err))
	return possible(err)
}
