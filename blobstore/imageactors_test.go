package blobstore

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
)

// The blobs and manifests of the simulations of images.
var (
	configBlob, layerBlob = []byte("config"), []byte("layer")

	imageN    = sim.Image{Name: "n", Blobs: []digest.Digest{digest.FromBytes(configBlob), digest.FromBytes(layerBlob)}}
	imageN2   = sim.Image{Name: "n2", Blobs: []digest.Digest{digest.FromBytes(configBlob)}}
	indexOfN  = sim.Image{Name: "index", Children: []digest.Digest{imageN.Digest()}}
	signature = sim.Image{Name: "signature", Blobs: []digest.Digest{digest.FromBytes(configBlob)}, Subject: imageN.Digest()}
)

// imageState is what a repository has when the actors start.
type imageState struct {
	name  string
	leave func(c *client) error
}

// pushBlobs pushes the blobs of all images.
func pushBlobs(c *client) error {
	return errors.Join(c.push(repoA, configBlob), c.push(repoA, layerBlob))
}

// steps returns a function that does one thing after another.
func steps(all ...func(c *client) error) func(c *client) error {
	return func(c *client) error {
		for _, step := range all {
			if err := step(c); err != nil {
				return err
			}
		}
		return nil
	}
}

func puts(i sim.Image, tags ...string) func(c *client) error {
	return func(c *client) error { return c.putImage(i, tags...) }
}

// imageStates returns the states. The name of a state in which a run of the collector
// finds something to do starts with "old" or "condemned".
func imageStates() []imageState {
	grow := (*client).passGrace // everything becomes old
	return []imageState{
		{"new", pushBlobs},
		{"tagged", steps(pushBlobs, puts(imageN, "t"))},
		{"other tagged", steps(pushBlobs, puts(imageN2, "t"), puts(imageN))},
		{"signed", steps(pushBlobs, puts(imageN, "t"), puts(signature))},
		{"deleted", steps(pushBlobs, puts(imageN, "t"), dieDeleting(imageN))},
		{"old, untagged", steps(pushBlobs, puts(imageN2, "t"), puts(imageN), grow)},
		{"old, deleted", steps(pushBlobs, puts(signature, "t"), dieDeleting(signature), grow)},
		{"condemned manifest", steps(pushBlobs, puts(imageN2, "u"), puts(imageN), (*client).growAndCollect, grow)},
		{"condemned link", steps(pushBlobs, puts(imageN2, "u"), (*client).growAndCollect, grow)},
		{"condemned marker", steps(pushBlobs, puts(imageN2), (*client).deleteN2, (*client).growAndCollect, grow)},
	}
}

func (c *client) deleteN2() error { return c.deleteImage(imageN2) }

// dieDeleting deletes a manifest as a process does that dies before it deletes the tags.
func dieDeleting(i sim.Image) func(c *client) error {
	return func(c *client) error {
		answered := c.run.Ledger.DeletingManifest(repoA, i.Digest())
		m, err := envelope.Read[catalog.Manifest](c.ctx(), c.run.Bucket, catalog.ManifestKey(repoA, i.Digest()))
		if err != nil {
			return err
		}
		m.Value.State = catalog.Deleted
		_, err = envelope.Replace(c.ctx(), c.run.Bucket, m.Object.Key, m.Object.Tag, m.Value, drivers.Body{})
		answered(outcome(err))
		return err
	}
}

// patient repeats a request that the store or the time has failed. Once the process has
// died, it repeats the request at another one.
func patient(request func(c *client) error) func(c *client) error {
	return func(c *client) error {
		var failed []error
		for range maxRequests {
			if c.run.Dead(c.actor) {
				if err := c.moveToSpare(); err != nil {
					return err
				}
			}
			err := c.run.Request(func() error { return request(c) })
			if expect(err, drivertest.ErrInjected, ErrUnavailable, drivers.ErrBusy) != nil || err == nil {
				return err
			}
			failed = append(failed, err)
		}
		return errors.Join(append(failed, errGaveUp)...)
	}
}

// moveToSpare lets the client make its next requests to another process.
func (c *client) moveToSpare() (err error) {
	if c.moved {
		return nil
	}
	c.moved, c.bucket = true, c.run.Spare(c.actor)
	c.s, err = Open(c.ctx(), c.bucket, c.s.cfg)
	return err
}

// possible returns nil for a response that is checked by the ledger: whether it is
// right depends on the other actors.
func possible(err error) error {
	switch outcome(err) {
	case sim.Absent, sim.Refused, sim.Rejected:
		return nil
	}
	return err
}

// does returns an actor of one request, or of several.
func does(name string, requests ...func(c *client) error) actor {
	return actor{name, func(c *client) error {
		for _, request := range requests {
			if err := patient(func(c *client) error { return possible(request(c)) })(c); err != nil {
				return err
			}
		}
		return nil
	}}
}

const (
	collectOnce  = "collect"
	collectTwice = "collect twice"
)

// imageActors returns what clients, and the collector, may do.
func imageActors() []actor {
	deleteN := deletes(imageN)
	push := func(p []byte) func(c *client) error {
		return func(c *client) error { return c.push(repoA, p) }
	}
	headN := func(c *client) error { return c.headImage(imageN) }
	return []actor{
		does("PUT n as t", puts(imageN, "t")),
		does("PUT n2 as t", puts(imageN2, "t")),
		does("PUT n", puts(imageN)),
		does("PUT n as t and u", puts(imageN, "t", "u")),
		does("PUT n as t if absent", putsIf(TagCondition{Absent: true}, imageN, "t")),
		does("PUT n2 as t if it is n", putsIf(TagCondition{Digest: imageN.Digest()}, imageN2, "t")),
		does("PUT signature", puts(signature)),
		does("HEAD n and PUT index as i", headN, puts(indexOfN, "i")),
		does("HEAD layer and PUT n as t", headLayer, puts(imageN, "t")),
		does("tag n as u", func(c *client) error { return c.tag(imageN, "u") }),
		does("DELETE n", deleteN),
		does("DELETE signature", deletes(signature)),
		does("DELETE n and PUT it as t", deleteN, puts(imageN, "t")),
		does("DELETE t", func(c *client) error { return c.untag("t") }),
		does("GET t", getT),
		does("DELETE layer", func(c *client) error { return expect(c.delete(repoA, layerBlob), ErrBlobUnknown) }),
		does("push layer and PUT n", push(layerBlob), puts(imageN)),
		{collectOnce, patient((*client).collect)},
		{collectTwice, patient((*client).collectTwice)},
	}
}

// growAndCollect lets everything become old, and runs the collector.
func (c *client) growAndCollect() error {
	if err := c.passGrace(); err != nil {
		return err
	}
	return c.collect()
}

// collectTwice runs the collector, and again a grace later.
func (c *client) collectTwice() error {
	if err := c.collect(); err != nil {
		return err
	}
	return c.growAndCollect()
}

// aftermath runs the collector once all actors have finished, and checks the run after
// each time. A manifest without a tag is removed by the second run, its blobs by the
// fourth, and the marker of its repository by the sixth.
func aftermath(run *simRun) error { return aftermathOn(run, run.Bucket) }

// aftermathOn is aftermath with a collector that uses this bucket.
func aftermathOn(run *simRun, b drivers.Bucket) error {
	untidy := errors.New("not run")
	for range 7 {
		time.Sleep(imageGrace + time.Minute)
		if err := errors.Join(run.collectOn(b), run.Check()); err != nil {
			return err
		}
		inv, err := run.Invariants.Read(run.Ctx, run.Bucket)
		if err != nil {
			return err
		}
		if untidy = tidy(inv); untidy == nil {
			break
		}
	}
	return errors.Join(run.Settle(), untidy)
}

// tidy returns an error for each object that the collector must have removed, or from
// which it must have taken its mark.
func tidy(inv *sim.Inventory) error {
	var left []string
	readable := map[string]bool{}
	for key, m := range inv.Manifests {
		if readable[key] = m.Value.State == catalog.Live; !readable[key] {
			left = append(left, fmt.Sprintf("%s (%s)", key, m.Value.State))
		}
	}
	for key := range inv.Tags {
		if repository, tag, _ := catalog.ParseTagKey(key); inv.Resolve(repository, tag) == "" {
			left = append(left, key)
		}
	}
	for key := range inv.Entries {
		repository, _, referrer, _ := catalog.ParseEntryKey(key)
		if !readable[catalog.ManifestKey(repository, referrer)] {
			left = append(left, key)
		}
	}
	for key, link := range inv.Links {
		if link.Value.Condemned {
			left = append(left, key)
		}
	}
	for repository, marker := range inv.Markers {
		if marker.Value.State == catalog.Condemned {
			left = append(left, "marker of "+repository)
		}
	}
	if left != nil {
		return fmt.Errorf("the collector has left:\n\t%s", strings.Join(left, "\n\t"))
	}
	return nil
}
