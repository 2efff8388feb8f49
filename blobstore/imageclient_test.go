package blobstore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/collect"
	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// The times of the simulations of images. A request lasts at most imageLimit, and so
// does a write once it was sent.
const (
	imageLimit = time.Hour
	imageTTL   = 10 * time.Minute
	imageGrace = 3 * (imageLimit + imageTTL)
)

// imageConfig returns the configuration of a replica in the simulations of images.
func imageConfig() Config {
	c := tiny()
	c.Cache = CacheConfig{Entries: 100, TTL: imageTTL}
	c.RequestLimit, c.Grace, c.Upload.SessionLifetime = imageLimit, imageGrace, time.Hour
	return c
}

// boundary is called where a request starts and where it ends. Only the histories of
// manifests and tags depend on it.
func (c *client) boundary() {
	if c.run.images {
		c.run.Boundary(c.actor)
	}
}

// outcome returns the response to a request for a manifest or a tag, as the ledger
// distinguishes it.
func outcome(err error) sim.Outcome {
	switch {
	case err == nil:
		return sim.Done
	case errors.Is(err, ErrManifestUnknown):
		return sim.Absent
	case errors.Is(err, ErrTagChanged), errors.Is(err, ErrTagImmutable):
		return sim.Refused
	case isManifestRefused(err):
		return sim.Rejected
	}
	return sim.Failed
}

// isManifestRefused reports whether a manifest was refused because of what it is, or
// because what it refers to is unknown.
func isManifestRefused(err error) bool {
	_, unknown := errors.AsType[ErrManifestBlobUnknown](err)
	_, invalid := errors.AsType[ErrManifestInvalid](err)
	return unknown || invalid
}

// putImage makes a PUT of a manifest, by its digest or by a tag: the store cannot
// distinguish them.
func (c *client) putImage(i sim.Image, tags ...string) error {
	return c.putImageIf(TagCondition{}, i, tags...)
}

// putImageIf is putImage with a condition.
func (c *client) putImageIf(cond TagCondition, i sim.Image, tags ...string) error {
	p, d := i.Bytes(), i.Digest()
	c.boundary()
	answered := c.run.Ledger.Putting(sim.Put{
		Repository: repoA,
		Digest:     d,
		Content:    p,
		Tags:       tags,
		IfAbsent:   cond.Absent,
		IfDigest:   cond.Digest,
	})
	desc, err := c.in(repoA).Manifests().Put(c.ctx(), ManifestPut{Content: p, Digest: d, Tags: tags, Condition: cond})
	c.boundary()
	answered(outcome(err))
	if err == nil && desc.Digest != d {
		return fmt.Errorf("PUT by %s = %s", d, desc.Digest)
	}
	return err
}

// tag moves a tag to a manifest that is there.
func (c *client) tag(i sim.Image, tag string) error {
	c.boundary()
	answered := c.run.Ledger.Tagging(repoA, tag, i.Digest())
	err := c.in(repoA).Tags().Tag(c.ctx(), tag, Descriptor{Digest: i.Digest()})
	c.boundary()
	answered(outcome(err))
	return err
}

func (c *client) untag(tag string) error {
	c.boundary()
	answered := c.run.Ledger.Untagging(repoA, tag, c.cached)
	err := c.in(repoA).Tags().Untag(c.ctx(), tag)
	c.boundary()
	answered(outcome(err))
	return err
}

func (c *client) deleteImage(i sim.Image) error {
	c.boundary()
	answered := c.run.Ledger.DeletingManifest(repoA, i.Digest())
	err := c.in(repoA).Manifests().Delete(c.ctx(), i.Digest())
	c.boundary()
	answered(outcome(err))
	return err
}

// getImage makes a GET of a tag or a digest, and returns the digest of the manifest. A
// caller who may only pull makes it.
func (c *client) getImage(ref string) (digest.Digest, error) {
	c.boundary()
	answered := c.run.Ledger.Reading(repoA, ref)
	d, _, err := serveImage(c.ctx(), c.in(repoA).ReadOnly().Manifests(), http.MethodGet, ref)
	c.boundary()
	if err == nil && !c.cached || errors.Is(err, ErrManifestUnknown) {
		answered(d) // a cache may return what was deleted, but it hides nothing
	}
	return d, err
}

// age returns how old a response to a HEAD may be.
func (c *client) age() time.Duration {
	if c.cached {
		return imageTTL
	}
	return 0
}

// headImage makes a HEAD of a digest, by a caller who may push.
func (c *client) headImage(i sim.Image) error {
	c.boundary()
	used := c.run.Ledger.Using(repoA, i.Digest(), c.age())
	_, _, err := serveImage(c.ctx(), c.in(repoA).Manifests(), http.MethodHead, i.Digest().String())
	c.boundary()
	if err == nil {
		used()
	}
	return err
}

// serveImage makes a GET or HEAD of a manifest, and checks the response.
func serveImage(ctx context.Context, m *Manifests, method, ref string) (digest.Digest, []byte, error) {
	w := httptest.NewRecorder()
	if err := m.ServeManifest(ctx, w, httptest.NewRequestWithContext(ctx, method, "/", nil), ref); err != nil {
		return "", nil, err
	}
	d, p := digest.Digest(w.Header().Get("Docker-Content-Digest")), w.Body.Bytes()
	if w.Code != http.StatusOK || d.Validate() != nil {
		return "", nil, fmt.Errorf("%s of %s: status %d, digest %q", method, ref, w.Code, d)
	}
	if method == http.MethodGet && d.Algorithm().FromBytes(p) != d {
		return "", nil, fmt.Errorf("%s of %s: %d bytes that are not those of %s", method, ref, len(p), d)
	}
	return d, p, nil
}

// readImages is a sim.Scenario's ReadManifest.
func readImages(ctx context.Context, b drivers.Bucket) (sim.ManifestFunc, error) {
	s, err := Open(ctx, b, withoutCache(imageConfig()))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, repository, ref string) (digest.Digest, []byte, error) {
		d, p, err := serveImage(ctx, unchecked(s, repository).ReadOnly().Manifests(), http.MethodGet, ref)
		return d, p, expect(err, ErrManifestUnknown)
	}, nil
}

// headBlob makes a HEAD of a blob, by a caller who may push.
func (c *client) headBlob(p []byte) error {
	c.boundary()
	used := c.run.Ledger.UsingBlob(repoA, p, c.age())
	r := httptest.NewRequestWithContext(c.ctx(), http.MethodHead, "/", nil)
	err := c.in(repoA).ServeBlob(c.ctx(), httptest.NewRecorder(), r, digest.FromBytes(p))
	c.boundary()
	if err == nil {
		used()
	}
	return err
}

// referrers returns an error unless the referrers of a manifest are these.
func (c *client) referrers(of sim.Image, want ...sim.Image) error {
	got := map[digest.Digest]bool{}
	for desc, err := range c.in(repoA).Manifests().Referrers(c.ctx(), of.Digest(), "") {
		if err != nil {
			return err
		}
		got[desc.Digest] = true
	}
	for _, i := range want {
		if !got[i.Digest()] {
			return fmt.Errorf("referrers of %s: %s is not listed", of.Name, i.Name)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("referrers of %s: %d are listed, want %d", of.Name, len(got), len(want))
	}
	return nil
}

// collect runs the collector in the process of the client.
func (c *client) collect() error {
	return c.run.collectOn(c.bucket)
}

// collectOn runs the collector in a process with this bucket. The ledger learns when the
// run has its start.
func (run *simRun) collectOn(b drivers.Bucket) error {
	cfg := run.collector
	cfg.Bucket = drivertest.Wrap(b, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		err := do(ctx)
		if c.Method == "Stat" && catalog.IsStartKey(c.Key) && err == nil {
			run.Ledger.Collecting()
		}
		return err
	})
	k, err := collect.New(cfg)
	if err != nil {
		return err
	}
	_, err = k.Run(run.Ctx)
	return err
}

// pass makes time pass for all processes and the store.
func (c *client) pass(d time.Duration) error { return c.run.Pass(c.actor, d) }

// passGrace makes a grace pass, in steps that a request can outlast.
func (c *client) passGrace() error {
	const step = imageLimit - time.Minute
	for left := imageGrace + time.Minute; left > 0; left -= step {
		if err := c.pass(min(left, step)); err != nil {
			return err
		}
	}
	return nil
}

// collects prepares a run for a collector, which removes all that it may.
func (run *simRun) collects(cfg Config) {
	run.images, run.Invariants.OldAliases = true, true
	run.collector = collect.Config{
		Grace:             cfg.Grace,
		UntaggedAfter:     time.Hour,
		UnreferencedAfter: time.Hour,
	}
	run.Ledger.Grace, run.Ledger.MaxAge = cfg.Grace, max(cfg.Cache.TTL, 0)
	if cfg.Cache.Entries < 0 {
		run.Ledger.MaxAge = 0
	}
	if rules := cfg.Manifests.ImmutableTags; rules != nil {
		immutable, _ := newImmutability(rules) // Open has checked them
		run.Ledger.Immutable = func(repository, tag string) bool { return immutable.of(repository).match(tag) }
	}
}
