package blobstore

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers"
)

// brokenReferenceRules returns the rules about what a manifest refers to.
func brokenReferenceRules() []brokenImageRule {
	link := new(snapshot)
	another := sim.Image{Name: "another", Blobs: imageN.Blobs}
	layer512 := digest.SHA512.FromBytes(layerBlob)
	named512 := sim.Image{Name: "512", Blobs: []digest.Digest{digest.FromBytes(configBlob), layer512}}
	push := func(p []byte) func(c *client) error {
		return func(c *client) error { return c.push(repoA, p) }
	}
	deleteLayer := func(c *client) error { return c.delete(repoA, layerBlob) }
	return []brokenImageRule{
		{attack: 40, scenario: scenario{
			name:    "a deleted child is missing",
			setup:   left(pushBlobs, puts(imageN), deletes(imageN)),
			actors:  []actor{does("A", puts(indexOfN, "i")), does("B", getT)},
			tamperA: rewriting(imageN.Digest().Encoded(), func(_ drivers.Bucket, m *catalog.Manifest) { m.State = catalog.Live }),
		}},
		{
			scenario: scenario{
				name:   "a manifest vouches for no link",
				setup:  left(pushBlobs, puts(imageN, "t"), deleteLayer),
				actors: []actor{does("A", passTTL, puts(imageN, "t"), knowLayer, puts(another)), does("B", getT)},
			},
			kept: func(s *scenario) { s.actors[0] = does("A", passTTL, puts(imageN, "t"), puts(another)) },
		},
		{scenario: scenario{
			name: "the alias of a reference is made good",
			setup: left(
				func(c *client) error { return c.pushAs(repoA, layerBlob, layer512) }, deleteLayer,
				(*client).collectAlias,
			),
			actors:  []actor{does("A", push(layerBlob), push(configBlob), puts(named512)), {"B", patient((*client).collect)}},
			tamperA: rewriting(catalog.AliasesPrefix, func(_ drivers.Bucket, a *catalog.Alias) { a.Condemned = false }),
		}},
		{attack: 43, scenario: scenario{
			name: "the references of a manifest that comes back are checked",
			setup: left(
				pushBlobs, puts(imageN2, "u"), takes(link, catalog.LinkKey(digest.FromBytes(layerBlob), repoA)),
				(*client).growAndCollect, storeLate, (*client).passGrace,
			),
			actors:  []actor{does("A", puts(imageN, "t")), does("B", deletes(imageN), (*client).collect)},
			tamperA: link.eachRead,
		}},
	}
}

func passTTL(c *client) error { return c.pass(2 * imageTTL) }

// collectAlias runs the collector until an alias whose record it has removed is condemned
// and old.
func (c *client) collectAlias() error {
	for range 2 {
		if err := c.growAndCollect(); err != nil {
			return err
		}
	}
	return c.passGrace()
}

// knowLayer lets the process know the link of the layer, without reading it.
func knowLayer(c *client) error {
	d := digest.FromBytes(layerBlob)
	id := linkID{repoA, d}
	c.s.cache.putLink(c.s.cache.start(), id, record{Digest: d, State: live}, layerBlob)
	return nil
}

// storeLate stores n as a request does that has read its links before they were
// condemned.
func storeLate(c *client) error {
	p := imageN.Bytes()
	m := catalog.Manifest{
		ID:           catalog.NewID(),
		Digest:       imageN.Digest(),
		Size:         int64(len(p)),
		MediaType:    "application/vnd.oci.image.manifest.v1+json",
		ArtifactType: "application/vnd.oci.image.config.v1+json",
		State:        catalog.Live,
		Hints:        []string{"t"},
	}
	answered := c.run.Ledger.Putting(sim.Put{Repository: repoA, Digest: imageN.Digest(), Content: p})
	_, err := catalog.New(c.run.Bucket).CreateManifest(c.ctx(), c.s.newDeadline(), repoA, m, p)
	answered(outcome(err))
	return err
}

// brokenEntryRules returns the rules about referrers entries and markers.
func brokenEntryRules() []brokenImageRule {
	deleteEntry := func(c *client) error {
		if err := expect(c.deleteImage(signature), ErrManifestUnknown); err != nil {
			return err
		}
		return c.bucket.Delete(c.ctx(), catalog.EntryKey(repoA, imageN.Digest(), signature.Digest()))
	}
	return []brokenImageRule{
		{attack: 34, scenario: scenario{
			name:    "the entry is written before the manifest",
			setup:   left(pushBlobs, puts(imageN, "t")),
			actors:  []actor{does("A", puts(signature, "s")), does("B", getT)},
			tamperA: postponeEntries,
		}},
		{attack: 33, scenario: scenario{
			name:    "an entry that exists is replaced",
			setup:   leftAs("old, deleted"),
			actors:  []actor{does("A", puts(signature)), {"B", patient((*client).collect)}},
			tamperA: swallow("Replace", "/referrers/"),
		}},
		{
			attack: 33,
			scenario: scenario{
				name:   "a deletion never touches the entry",
				setup:  leftAs("signed"),
				actors: []actor{{"A", deleteEntry}, does("B", puts(signature))},
			},
			kept: func(s *scenario) { s.actors[0] = does("A", deletes(signature)) },
		},
		{scenario: scenario{
			name:    "a condemned marker is made good",
			setup:   leftAs("condemned marker"),
			actors:  []actor{does("A", puts(imageN, "t")), {"B", patient((*client).collect)}},
			tamperA: rewriting(catalog.MarkersPrefix, func(_ drivers.Bucket, m *catalog.Marker) { m.State = catalog.Live }),
		}},
	}
}

// brokenMarks returns the rules about what the collector has condemned.
func brokenMarks() []brokenImageRule {
	cold := withoutCache(imageConfig())
	collects := actor{"B", patient((*client).collect)}
	ignoreMarks := rewriting("/links/", func(_ drivers.Bucket, r *record) { r.Condemned = false })
	return []brokenImageRule{
		{attack: 42, scenario: scenario{
			name:    "a condemned link is made good",
			setup:   leftAs("condemned link"),
			actors:  []actor{does("A", puts(imageN, "t")), collects},
			tamperA: ignoreMarks,
		}},
		{attack: 40, scenario: scenario{
			name:    "a condemned child is made good",
			setup:   leftAs("condemned manifest"),
			actors:  []actor{does("A", puts(indexOfN, "i")), collects},
			tamperA: rewriting(imageN.Digest().Encoded(), func(_ drivers.Bucket, m *catalog.Manifest) { m.State = catalog.Live }),
		}},
		{attack: 41, scenario: scenario{
			name:    "HEAD takes the mark off a manifest",
			images:  &cold,
			setup:   leftAs("condemned manifest"),
			actors:  []actor{does("A", func(c *client) error { return c.headImage(imageN) }), collects},
			tamperA: swallow("Replace", "/manifests/"),
		}},
		{attack: 42, scenario: scenario{
			name:    "HEAD takes the mark off a link",
			setup:   leftAs("condemned link"),
			actors:  []actor{does("A", headLayer), collects},
			tamperA: ignoreMarks,
		}},
	}
}

func headLayer(c *client) error { return expect(c.headBlob(layerBlob), ErrBlobUnknown) }

// collectHastily runs the collector, and again a minute later.
func (c *client) collectHastily() error {
	if err := c.collect(); err != nil {
		return err
	}
	if err := c.pass(time.Minute); err != nil {
		return err
	}
	return c.collect()
}

// brokenTimes returns the rules about time.
func brokenTimes() []brokenImageRule {
	twice := actor{"B", patient((*client).collectTwice)}
	hastily := actor{"B", patient((*client).collectHastily)}
	endless, remembers := imageConfig(), imageConfig()
	endless.RequestLimit, endless.Grace = 1000*time.Hour, 2000*time.Hour
	remembers.Cache.TTL = 1000 * time.Hour
	keepsLimits := func(s *scenario) { s.images = nil }
	normal := func(run *simRun) error {
		run.collector.Grace, run.Ledger.Grace = imageGrace, imageGrace
		// The process has not stored its limits.
		if err := run.Bucket.Delete(run.Ctx, catalog.LimitsKey); err != nil {
			return err
		}
		run.collector.Limits = catalog.Limits{Request: imageLimit, Cache: imageTTL, Session: time.Hour}
		return left(pushBlobs, puts(imageN2, "u"), (*client).passGrace)(run)
	}
	return []brokenImageRule{
		{
			scenario: scenario{
				name:   "a request writes nothing after its limit",
				images: &endless,
				setup:  normal,
				actors: []actor{does("A", puts(imageN)), twice},
			},
			kept: keepsLimits,
			slow: true,
		},
		{
			attack: 42,
			scenario: scenario{
				name:   "a process knows a link for a limited time",
				images: &remembers,
				setup: func(run *simRun) error {
					if err := normal(run); err != nil {
						return err
					}
					return headLayer(run.clients[0])
				},
				actors: []actor{does("A", puts(imageN)), twice},
			},
			kept: keepsLimits,
		},
		{
			scenario: scenario{
				name: "the collector waits for a grace",
				setup: func(run *simRun) error {
					err := normal(run)
					run.collector.UntaggedAfter, run.collector.UnreferencedAfter, run.collector.Broken.WrongStart = 1, 1, true
					return err
				},
				actors: []actor{does("A", puts(imageN)), hastily},
			},
			kept: func(s *scenario) { s.setup = normal },
		},
	}
}
