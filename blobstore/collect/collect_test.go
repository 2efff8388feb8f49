package collect_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/collect"
	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// grace is the grace of the collector in tests.
const grace = 24 * time.Hour

const library = "library"

// collected is a bucket with a collector.
type collected struct {
	t *testing.T
	collect.Config
	c *catalog.Catalog
}

// onCollector runs f in a bubble, with an empty bucket.
func onCollector(t *testing.T, f func(c *collected)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b, err := memory.Open(t.Context(), memory.Config{Store: &memory.Store{Habits: memory.S3()}})
		if err != nil {
			t.Fatal(err)
		}
		f(&collected{t, collect.Config{
			Bucket:            b,
			Limits:            catalog.Limits{Request: time.Hour, Cache: time.Minute, Session: time.Hour, URL: time.Minute},
			Grace:             grace,
			UntaggedAfter:     time.Hour,
			UnreferencedAfter: time.Hour,
			Scratch:           t.TempDir(),
		}, catalog.New(b)})
	})
}

// Run runs the collector once.
func (c *collected) Run(ctx context.Context) error {
	_, err := c.report(ctx)
	return err
}

func (c *collected) report(ctx context.Context) (collect.Report, error) {
	k, err := collect.New(c.Config)
	if err != nil {
		return collect.Report{}, err
	}
	return k.Run(ctx)
}

func (c *collected) ctx() context.Context { return c.t.Context() }

// must fails the test if there is an error.
func (c *collected) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// run runs the collector n times, each time after everything has become old.
func (c *collected) run(n int) {
	c.t.Helper()
	for range n {
		time.Sleep(grace + time.Minute)
		c.must(c.Run(c.ctx()))
	}
}

func due() deadline.Deadline { return deadline.New(time.Hour) }

// blob pushes a blob to the repository, and returns its digest.
func (c *collected) blob(text string) digest.Digest {
	c.t.Helper()
	content := catalog.Content{Digest: digest.FromString(text), Size: int64(len(text)), Inline: []byte(text)}
	rec, err := c.c.EnsureRecord(c.ctx(), due(), content)
	c.must(err)
	_, err = c.c.WriteLink(c.ctx(), due(), library, rec)
	c.must(err)
	return content.Digest
}

// image pushes a manifest as a client does, with tags.
func (c *collected) image(i sim.Image, tags ...string) digest.Digest {
	c.t.Helper()
	ctx, p := c.ctx(), i.Bytes()
	c.must(c.c.EnsureMarker(ctx, due(), library))
	parsed, err := manifest.Parse("", p)
	c.must(err)
	if i.Subject != "" {
		c.must(c.c.WriteEntry(ctx, due(), library, i.Subject, i.Digest()))
	}
	m, err := c.c.CreateManifest(ctx, due(), library, catalog.Manifest{
		ID:           catalog.NewID(),
		Digest:       i.Digest(),
		Size:         int64(len(p)),
		MediaType:    parsed.MediaType,
		Subject:      i.Subject,
		ArtifactType: parsed.ArtifactType,
		State:        catalog.Live,
		Hints:        tags,
	}, p)
	c.must(err)
	for _, tag := range tags {
		_, err := c.c.WriteTag(ctx, due(), library, tag, catalog.StoredTag{}, catalog.TagOf(m.Value))
		c.must(err)
	}
	return i.Digest()
}

// delete deletes a manifest, and leaves its tags and its entry.
func (c *collected) delete(d digest.Digest) {
	c.t.Helper()
	m, err := c.c.ReadManifest(c.ctx(), library, d)
	c.must(err)
	next := m.Value
	next.State = catalog.Deleted
	_, err = c.c.ReplaceManifest(c.ctx(), due(), m, next, nil)
	c.must(err)
}

// left returns the objects that are left of a repository and its blobs, as their kinds
// and the start of their digests.
func (c *collected) left() []string {
	c.t.Helper()
	inv, err := new(sim.Invariants).Read(c.ctx(), c.Bucket)
	c.must(err)
	var all []string
	add := func(kind, name string) { all = append(all, kind+" "+name) }
	for key, m := range inv.Manifests {
		_, d, _ := catalog.ParseManifestKey(key)
		add(strings.TrimSpace("manifest "+strings.TrimPrefix(string(m.Value.State), "live")), d.Encoded()[:4])
	}
	for key := range inv.Tags {
		_, tag, _ := catalog.ParseTagKey(key)
		add("tag", tag)
	}
	for key := range inv.Entries {
		_, _, d, _ := catalog.ParseEntryKey(key)
		add("entry", d.Encoded()[:4])
	}
	for _, m := range inv.Markers {
		add("marker", string(m.Value.State))
	}
	for key, l := range inv.Links {
		d, _, _ := catalog.ParseLinkKey(key)
		if l.Value.Condemned {
			add("condemned link", d.Encoded()[:4])
		} else {
			add("link", d.Encoded()[:4])
		}
	}
	for d := range inv.Records {
		add("record", d.Encoded()[:4])
	}
	for d := range inv.Aliases {
		add("alias", d.Encoded()[:4])
	}
	slices.Sort(all)
	return all
}

func (c *collected) wantLeft(want ...string) {
	c.t.Helper()
	slices.Sort(want)
	if got := c.left(); !slices.Equal(got, want) {
		c.t.Errorf("left in the bucket:\n%q, want\n%q", got, want)
	}
}

func name(d digest.Digest) string { return d.Encoded()[:4] }

// TestCollectorKeepsWhatIsNamed collects a tagged image, its index and a signature.
func TestCollectorKeepsWhatIsNamed(t *testing.T) {
	onCollector(t, func(c *collected) {
		b, config := c.blob("b"), c.blob("config")
		child := c.image(sim.Image{Name: "child", Blobs: []digest.Digest{config, b}})
		index := c.image(sim.Image{Name: "index", Children: []digest.Digest{child}}, "latest")
		signature := c.image(sim.Image{Name: "signature", Blobs: []digest.Digest{config}, Subject: index})
		before := c.left()
		c.run(3)
		c.wantLeft(before...)
		c.delete(index)
		c.run(6)
		c.wantLeft()
		_ = signature
	})
}

// TestCollectorRemovesInTwoSteps collects an untagged manifest and its blob.
func TestCollectorRemovesInTwoSteps(t *testing.T) {
	onCollector(t, func(c *collected) {
		b, other := c.blob("b"), c.blob("other")
		i := c.image(sim.Image{Name: "i", Blobs: []digest.Digest{b}})
		c.must(c.Run(c.ctx()))
		c.wantLeft("link "+name(b), "link "+name(other), "manifest "+name(i), "marker live", "record "+name(b), "record "+name(other))
		c.run(1)
		c.wantLeft("link "+name(b), "condemned link "+name(other), "manifest condemned "+name(i), "marker live", "record "+name(b), "record "+name(other))
		c.must(c.Run(c.ctx()))
		c.wantLeft("link "+name(b), "condemned link "+name(other), "manifest condemned "+name(i), "marker live", "record "+name(b), "record "+name(other))
		c.run(1)
		c.wantLeft("link "+name(b), "marker live", "record "+name(b), "record "+name(other)) // the run has read the manifest first
	})
}

// TestCollectorMakesGood names what was condemned.
func TestCollectorMakesGood(t *testing.T) {
	onCollector(t, func(c *collected) {
		b := c.blob("b")
		c.image(sim.Image{Name: "keeps the repository"}, "latest")
		child := c.image(sim.Image{Name: "child", Blobs: []digest.Digest{b}})
		unnamed := c.blob("unnamed")
		c.run(1)
		c.image(sim.Image{Name: "index", Children: []digest.Digest{child}}, "index") // does not take marks off
		c.image(sim.Image{Name: "another", Blobs: []digest.Digest{unnamed}}, "another")
		c.run(1)
		for _, what := range c.left() {
			if strings.Contains(what, "condemned") {
				c.t.Errorf("%s is named, and still condemned", what)
			}
		}
		c.run(2)
		if got := c.left(); !slices.Contains(got, "manifest "+name(child)) || !slices.Contains(got, "link "+name(unnamed)) {
			c.t.Errorf("left in the bucket: %q, want the child and the blob", got)
		}
	})
}

// TestCollectorKeepsSettings keeps what the settings keep: untagged manifests, and the
// blobs of repositories without an old manifest.
func TestCollectorKeepsSettings(t *testing.T) {
	onCollector(t, func(c *collected) {
		c.UntaggedAfter, c.UnreferencedAfter = 0, 0
		c.image(sim.Image{Name: "untagged", Blobs: []digest.Digest{c.blob("b")}})
		c.blob("unnamed")
		before := c.left()
		c.run(3)
		c.wantLeft(before...)
	})
	onCollector(t, func(c *collected) {
		c.blob("b")
		before := c.left()
		c.run(3)
		c.wantLeft(before...)
		i := c.image(sim.Image{Name: "failed"})
		c.delete(i)
		c.run(4)
		c.wantLeft(before...)
	})
}

// TestCollectorAliases removes the alias of a blob that is gone, in two steps, and
// takes the mark off if the blob comes back.
func TestCollectorAliases(t *testing.T) {
	onCollector(t, func(c *collected) {
		d, other := digest.FromString("b"), digest.SHA512.FromString("b")
		c.must(c.c.WriteAlias(c.ctx(), due(), other, d, catalog.StoredAlias{}))
		c.run(2)
		c.wantLeft("alias " + name(other)) // condemned
		c.blob("b")
		c.run(1)
		a, err := c.c.ReadAlias(c.ctx(), other)
		if err != nil || a.Value.Condemned {
			c.t.Errorf("alias of a blob that is back = %+v, %v, want no mark", a.Value, err)
		}
		c.must(c.c.DeleteLink(c.ctx(), due(), d, library))
		c.run(5)
		c.wantLeft()
	})
}

// TestCollectorIsKilled kills a run at each call. The next runs remove all the same
// things, and nothing else.
func TestCollectorIsKilled(t *testing.T) {
	for n, hit := 1, true; hit; n++ {
		onCollector(t, func(c *collected) {
			keptBlob, i := c.blob("kept"), c.blob("b")
			kept := c.image(sim.Image{Name: "kept", Blobs: []digest.Digest{keptBlob}}, "kept")
			old := c.image(sim.Image{Name: "old", Blobs: []digest.Digest{i}, Subject: kept}, "old")
			c.run(1)
			c.delete(old)
			healthy := c.Bucket
			f := &drivertest.Faulty{Mode: drivertest.Unanswered, Nth: n, Dead: true}
			for range 3 {
				c.Bucket = drivertest.Wrap(healthy, f.Intercept)
				time.Sleep(grace + time.Minute)
				_ = c.Run(c.ctx()) // killed
			}
			_, hit = f.Hit()
			c.Bucket = healthy
			c.run(4)
			c.wantLeft("link "+name(keptBlob), "manifest "+name(kept), "marker live", "record "+name(keptBlob), "tag kept")
		})
	}
}

// TestCollectorLeavesAlone leaves a repository alone if it cannot be read whole.
func TestCollectorLeavesAlone(t *testing.T) {
	onCollector(t, func(c *collected) {
		c.blob("unnamed")
		c.image(sim.Image{Name: "i"})
		c.run(1)
		before := c.left()
		failing := errors.New("failing")
		healthy := c.Bucket
		c.Bucket = drivertest.Wrap(healthy, func(ctx context.Context, call drivertest.Call, do func(context.Context) error) error {
			if sim.On("Open", "/manifests/")(call) {
				return failing
			}
			return do(ctx)
		})
		for range 3 {
			time.Sleep(grace + time.Minute)
			if err := c.Run(c.ctx()); !errors.Is(err, failing) {
				c.t.Errorf("Run = %v, want the error of the store", err)
			}
		}
		c.Bucket = healthy
		c.wantLeft(before...)
	})
}

func imageOf(text string, blobs ...digest.Digest) sim.Image {
	return sim.Image{Name: text, Blobs: blobs}
}
