package blobstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// Attacks on manifests, tags and referrers. Each test runs the schedules of the attack,
// and then breaks the rules that answer it: without them the same search finds a
// violation.

// attack runs all schedules of these scenarios, or a bounded number of them.
func attack(t *testing.T, scenarios ...scenario) {
	t.Helper()
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			if sc.after == nil {
				sc.after = aftermath
			}
			done := sim.Explore(t, sc.ofImages().simulated(), mostKept())
			if done.Violation != nil {
				t.Error(done.Violation)
			}
			t.Logf("%d schedules", done.Schedules)
		})
	}
}

// dying returns a scenario for each call of the first actor: its process dies of it. The
// call takes effect or not.
func dying(sc scenario, calls int) []scenario {
	var all []scenario
	for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Unanswered} {
		for n := range calls {
			sc.fault = sim.Fault{Nth: n + 1, Mode: mode, Dead: true}
			dead := sc
			dead.name = sc.name + ", " + mode.String() + " at call " + string(rune('1'+n))
			all = append(all, dead)
		}
	}
	return all
}

// once returns an actor that makes a request once, and whose process may die.
func once(name string, request func(c *client) error) actor {
	return actor{name, func(c *client) error {
		return expect(possible(request(c)), drivertest.ErrInjected, ErrUnavailable)
	}}
}

// TestAttack31TagMovedBackToADeletedManifest moves a tag to a manifest that is deleted
// meanwhile, while another client moves the tag after the deletion.
func TestAttack31TagMovedBackToADeletedManifest(t *testing.T) {
	attack(t, scenario{
		name:   "three clients",
		setup:  left(movedBack()),
		actors: []actor{does("P", puts(imageN2, "t")), does("D", deletes(imageN2)), does("Q", puts(imageN, "t"))},
	})
	breakRules(t, 31)
}

// TestAttack32TagReadBeforeADeletion reads a tag before a deletion of its manifest, and
// stores the manifest again after it.
func TestAttack32TagReadBeforeADeletion(t *testing.T) {
	attack(t, scenario{
		name:   "PUT and DELETE",
		setup:  left(pushBlobs, puts(imageN, "t")),
		actors: []actor{does("P", puts(imageN, "t")), does("D", deletes(imageN)), does("R", getT)},
	})
	breakRules(t, 32)
}

// TestAttack33ReferrerAgainstItsDeletion pushes a referrer while it is deleted, and while
// the collector removes the deleted manifest and its entry.
func TestAttack33ReferrerAgainstItsDeletion(t *testing.T) {
	attack(t, scenario{
		name:   "DELETE",
		setup:  leftAs("signed"),
		actors: []actor{does("P", puts(signature)), does("D", deletes(signature))},
	}, scenario{
		name:   "collector",
		setup:  leftAs("old, deleted"),
		actors: []actor{does("P", puts(signature)), {"G", patient((*client).collect)}},
	})
	breakRules(t, 33)
}

// TestAttack34KilledAfterTheEntry kills a push at each call. A client that finds the
// manifest by HEAD skips its push.
func TestAttack34KilledAfterTheEntry(t *testing.T) {
	attack(t, dying(scenario{
		name:   "killed",
		setup:  left(pushBlobs, puts(imageN, "t")),
		actors: []actor{once("P", puts(signature, "s")), does("Q", headOrPut(signature, "s"))},
		after: func(run *simRun) error {
			return errors.Join(run.clients[1].referrers(imageN, signature), aftermath(run))
		},
	}, 7)...)
	breakRules(t, 34)
}

// headOrPut pushes a manifest unless a HEAD finds it.
func headOrPut(i sim.Image, tags ...string) func(c *client) error {
	return func(c *client) error {
		err := c.headImage(i)
		if errors.Is(err, ErrManifestUnknown) {
			return c.putImage(i, tags...)
		}
		return err
	}
}

// TestAttack35KilledWhileDeleting kills a push of a tag while its manifest is deleted. The
// tag never resolves to a manifest that cannot be read, and the collector removes it.
func TestAttack35KilledWhileDeleting(t *testing.T) {
	killed := scenario{
		name:   "killed",
		setup:  left(pushBlobs, puts(imageN)),
		actors: []actor{once("P", puts(imageN, "t")), does("D", deletes(imageN))},
	}
	attack(t, dying(killed, 7)...)
	breakRule(t, brokenImageRule{scenario: scenario{
		name:   "the collector removes tags that do not resolve",
		setup:  left(pushBlobs, puts(imageN)),
		actors: killed.actors,
		fault:  sim.Fault{Nth: 7, Mode: drivertest.Unanswered, Dead: true},
		after: func(run *simRun) error {
			return aftermathOn(run, swallow("DeleteIf", "/tags/")(run.Bucket))
		},
	}, kept: func(s *scenario) { s.after = aftermath }})
}

// TestAttack36Conditions races requests with conditions. A lost response does not make a
// request move a tag twice.
func TestAttack36Conditions(t *testing.T) {
	create := putsIf(TagCondition{Absent: true}, imageN, "t")
	move := putsIf(TagCondition{Digest: imageN.Digest()}, imageN2, "t")
	back := putsIf(TagCondition{Digest: imageN2.Digest()}, imageN, "t")
	scenarios := []scenario{
		{name: "If-None-Match twice", setup: left(pushBlobs), actors: []actor{
			does("A", create), does("B", putsIf(TagCondition{Absent: true}, imageN2, "t")),
		}},
		{name: "If-Match twice", setup: left(movedBack(), puts(imageN, "t")), actors: []actor{
			does("A", move), does("B", putsIf(TagCondition{Digest: imageN.Digest()}, sim.Image{Name: "3"}, "t")),
		}},
		{name: "there and back", setup: left(movedBack(), puts(imageN, "t")), actors: []actor{does("A", move), does("B", back)}},
	}
	for _, sc := range scenarios[1:] {
		sc.name += ", late"
		sc.fault = sim.Fault{Nth: 1, Mode: drivertest.Late}
		scenarios = append(scenarios, sc)
	}
	attack(t, scenarios...)
	breakRules(t, 36)
}

// TestAttack37ImmutableTags races pushes and deletions of an immutable tag and of its
// manifest.
func TestAttack37ImmutableTags(t *testing.T) {
	cfg := immutableConfig()
	untag := func(c *client) error { return c.untag("v1") }
	attack(t,
		scenario{name: "PUT and PUT", images: cfg, setup: left(pushBlobs), actors: []actor{
			does("A", puts(imageN, "v1")), does("B", puts(imageN2, "v1")),
		}},
		scenario{name: "PUT and DELETE", images: cfg, setup: left(pushBlobs, puts(imageN)), actors: []actor{
			does("A", puts(imageN, "v1")), does("B", deletes(imageN)),
		}},
		scenario{name: "PUT and DELETE of the tag", images: cfg, setup: left(pushBlobs), actors: []actor{
			does("A", puts(imageN, "v1")), does("B", untag),
		}},
		scenario{name: "a tag that does not resolve", images: cfg, setup: left(pushBlobs, puts(imageN, "v1"), dieDeleting(imageN), forget), actors: []actor{
			does("A", puts(imageN2, "v1")), does("B", puts(imageN)),
		}},
	)
	breakRules(t, 37)
}

// forget lets the ledger start with a repository in which nothing can be read.
func forget(c *client) error {
	c.run.Ledger.Forget()
	return pushBlobs(c)
}

// TestAttack38SeveralTags moves several tags, of which one is lost to a rule or to a
// condition. The request is not refused once it has moved another one.
func TestAttack38SeveralTags(t *testing.T) {
	attack(t,
		scenario{name: "immutable", images: immutableConfig(), setup: left(pushBlobs), actors: []actor{
			does("A", puts(imageN, "a", "v1")), does("B", puts(imageN2, "v1")),
		}},
		scenario{name: "conditional", setup: left(pushBlobs), actors: []actor{
			does("A", putsIf(TagCondition{Absent: true}, imageN, "a", "b")), does("B", puts(imageN2, "b")),
		}},
	)
	breakRules(t, 38)
}

// TestAttack39CachedManifestOfAnEarlierLife reads a tag at a replica that has cached the
// manifest of an earlier life.
func TestAttack39CachedManifestOfAnEarlierLife(t *testing.T) {
	attack(t, scenario{
		name: "GET",
		setup: func(run *simRun) error {
			return errors.Join(left(pushBlobs, puts(imageN, "t"))(run), getT(run.clients[0]))
		},
		actors: []actor{does("A", getT), does("B", deletes(imageN), puts(imageN, "t"))},
	})
	breakRules(t, 39)
}

// TestAttack40Children pushes an index of a manifest that is deleted, or condemned.
func TestAttack40Children(t *testing.T) {
	attack(t,
		scenario{name: "DELETE", setup: left(pushBlobs, puts(imageN)), actors: []actor{
			does("A", puts(indexOfN, "i")), does("B", deletes(imageN)),
		}},
		scenario{name: "collector", setup: leftAs("condemned manifest"), actors: []actor{
			does("A", puts(indexOfN, "i")), {"B", patient((*client).collect)},
		}},
	)
	breakRules(t, 40)
}

// TestAttack41NamedBetweenMarkAndRemoval names an old manifest while a run is between its
// mark and its removal: by an index after a HEAD, and as a signature of an image that is
// tagged again.
func TestAttack41NamedBetweenMarkAndRemoval(t *testing.T) {
	collects := actor{"G", patient((*client).collect)}
	headN := func(c *client) error { return c.headImage(imageN) }
	signed := left(pushBlobs, puts(imageN), puts(signature), (*client).growAndCollect, (*client).passGrace)
	attack(t,
		scenario{name: "condemned", setup: leftAs("condemned manifest"), actors: []actor{
			does("A", headN, puts(indexOfN, "i")), collects,
		}},
		scenario{name: "old", setup: leftAs("old, untagged"), actors: []actor{
			does("A", headN, puts(indexOfN, "i")), {"G", patient((*client).collectTwice)},
		}},
		scenario{name: "signature", setup: signed, actors: []actor{does("A", puts(imageN, "t")), collects}},
	)
	breakRules(t, 41)
}

// TestAttack42KnownLinks pushes a manifest whose link was known as good before it was
// condemned and removed, before the machine was suspended, and before another replica
// deleted it.
func TestAttack42KnownLinks(t *testing.T) {
	known := func(run *simRun) error {
		return errors.Join(left(pushBlobs, puts(imageN2, "u"), (*client).passGrace)(run), headLayer(run.clients[0]))
	}
	attack(t,
		scenario{name: "collector", setup: known, actors: []actor{
			does("A", puts(imageN)), {"G", patient((*client).collectTwice)},
		}},
		scenario{name: "DELETE", setup: known, actors: []actor{
			does("A", passTTL, puts(imageN, "t")), does("B", func(c *client) error { return c.delete(repoA, layerBlob) }),
		}},
	)
	breakRules(t, 42)
}

// TestAttack43ManifestThatComesBack pushes a manifest that is here already, while it is
// deleted and a run removes its links.
func TestAttack43ManifestThatComesBack(t *testing.T) {
	attack(t, scenario{
		name:   "DELETE and collector",
		setup:  left(pushBlobs, puts(imageN2, "u"), (*client).growAndCollect, storeLate, (*client).passGrace),
		actors: []actor{does("A", puts(imageN, "t")), does("B", deletes(imageN), (*client).collect)},
	})
	breakRules(t, 43)
}

// TestAttack50ClocksAndEmptyObjects runs clients beside the collector on stores whose
// clock differs by a day from that of the replicas, and on a store that makes conditional
// deletions of empty objects. Ages are differences of the store's own times.
func TestAttack50ClocksAndEmptyObjects(t *testing.T) {
	for name, open := range map[string]opener{
		"store ahead": atTime(day), "store behind": atTime(-day), "empty objects": inEmptied,
	} {
		attack(t,
			scenario{name: name + ", link", open: open, setup: leftAs("condemned link"), actors: []actor{
				does("A", puts(imageN, "t")), {"G", patient((*client).collect)},
			}},
			scenario{name: name + ", manifest", open: open, setup: leftAs("old, untagged"), actors: []actor{
				does("A", deletes(imageN), puts(imageN, "t")), {"G", patient((*client).collectTwice)},
			}},
			scenario{name: name + ", entry", open: open, setup: leftAs("old, deleted"), actors: []actor{
				does("A", puts(signature)), {"G", patient((*client).collect)},
			}},
		)
	}
	breakRule(t, brokenImageRule{scenario: scenario{
		name:   "the collector uses the store's clock",
		setup:  left(pushBlobs, puts(imageN2, "u"), (*client).passGrace),
		actors: []actor{does("A", puts(imageN)), {"G", patient((*client).collectHastily)}},
		tamper: startLater,
	}, kept: func(s *scenario) { s.tamper = nil }})
}

const day = 24 * time.Hour

// startLater returns a bucket in which a run of the collector starts a day later.
func startLater(b drivers.Bucket) drivers.Bucket { return lateStart{b} }

type lateStart struct{ drivers.Bucket }

// Stat returns the description of an object.
func (l lateStart) Stat(ctx context.Context, key string) (drivers.Object, error) {
	o, err := l.Bucket.Stat(ctx, key)
	o.Modified = o.Modified.Add(day)
	return o, err
}

// atTime returns an opener of a store whose clock is ahead of that of the replicas.
func atTime(ahead time.Duration) opener {
	return func(ctx context.Context) (drivers.Bucket, error) {
		return memory.Open(ctx, memory.Config{Store: &memory.Store{
			Habits: tinyS3(),
			Now:    func() time.Time { return time.Now().Add(ahead) },
		}})
	}
}
