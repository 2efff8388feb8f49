package collect_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/collect"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/upload"
)

// large pushes a blob with data of its own to the repository, and returns its digest and
// its data key.
func (c *collected) large(text string) (digest.Digest, string) {
	c.t.Helper()
	d := digest.FromString(text)
	key := catalog.NewDataKey(d)
	_, err := c.Bucket.Create(c.ctx(), key, drivers.NewBody([]byte(text)))
	c.must(err)
	rec, err := c.c.EnsureRecord(c.ctx(), due(), catalog.Content{Digest: d, Size: int64(len(text)), Key: key})
	c.must(err)
	_, err = c.c.WriteLink(c.ctx(), due(), library, rec)
	c.must(err)
	return d, key
}

func (c *collected) has(key string) bool {
	c.t.Helper()
	_, err := c.Bucket.Stat(c.ctx(), key)
	if errors.Is(err, drivers.ErrNotFound) {
		return false
	}
	c.must(err)
	return true
}

// keys returns the keys with a prefix.
func (c *collected) keys(prefix string) (all []string) {
	c.t.Helper()
	for o, err := range c.Bucket.List(c.ctx(), prefix, "", 0) {
		c.must(err)
		all = append(all, o.Key)
	}
	return all
}

// TestUnlinkedBlobIsRemoved deletes the only link of a blob. The record is condemned, then
// removed, and its data waits in the dead list before it is deleted.
func TestUnlinkedBlobIsRemoved(t *testing.T) {
	onCollector(t, func(c *collected) {
		d, key := c.large("large")
		kept, keptKey := c.large("kept")
		c.must(c.c.DeleteLink(c.ctx(), due(), d, library))
		c.run(1)
		rec, err := c.c.ReadRecord(c.ctx(), d)
		if err != nil || rec.Value.State != catalog.Condemned {
			t.Errorf("after a run the record is %q, %v, want condemned", rec.Value.State, err)
		}
		c.run(1)
		if _, err := c.c.ReadRecord(c.ctx(), d); !errors.Is(err, drivers.ErrNotFound) || !c.has(key) || len(c.keys(catalog.DeadPrefix)) == 0 {
			t.Errorf("after two runs: record %v, data there %v, dead %q, want only the data and entries of it", err, c.has(key), c.keys(catalog.DeadPrefix))
		}
		time.Sleep(c.Grace + 2*time.Hour)
		r, err := c.report(c.ctx())
		c.must(err)
		if c.has(key) || !c.has(keptKey) || len(c.keys(catalog.DeadPrefix)) != 0 || r.Data != (collect.Counts{Removed: 1, Bytes: 5}) {
			t.Errorf("after three runs: data there %v, other data there %v, dead %q, report %+v", c.has(key), c.has(keptKey), c.keys(catalog.DeadPrefix), r.Data)
		}
		if rec, err := c.c.ReadRecord(c.ctx(), kept); err != nil || rec.Value.State != catalog.Live {
			t.Errorf("the record of the other blob is %q, %v", rec.Value.State, err)
		}
		if left := c.keys(catalog.CollectPrefix); !slices.Equal(left, []string{catalog.FinishedKey, catalog.WalkedKey}) {
			t.Errorf("the state of the collector is %q", left)
		}
	})
}

// TestRevivedBlobStays makes a condemned record live before the next run.
func TestRevivedBlobStays(t *testing.T) {
	onCollector(t, func(c *collected) {
		d, key := c.large("large")
		c.must(c.c.DeleteLink(c.ctx(), due(), d, library))
		c.run(1)
		rec, err := c.c.Revive(c.ctx(), due(), d)
		c.must(err)
		_, err = c.c.WriteLink(c.ctx(), due(), library, rec)
		c.must(err)
		c.run(4)
		if rec, err := c.c.ReadRecord(c.ctx(), d); err != nil || rec.Value.State != catalog.Live || !c.has(key) {
			t.Errorf("the record is %q, %v, data there %v", rec.Value.State, err, c.has(key))
		}
	})
}

// TestForeignDataStays removes the record of data that another registry has left. Its bytes
// stay.
func TestForeignDataStays(t *testing.T) {
	onCollector(t, func(c *collected) {
		const key = "docker/registry/v2/blobs/sha256/aa/data"
		_, err := c.Bucket.Create(c.ctx(), key, drivers.NewBody([]byte("old")))
		c.must(err)
		d := digest.FromString("old")
		_, err = envelope.Create(c.ctx(), c.Bucket, catalog.RecordKey(d),
			catalog.Record{ID: "1", Digest: d, Size: 3, State: catalog.Unverified, Data: key}, drivers.Body{})
		c.must(err)
		c.run(4)
		if got := c.keys(catalog.BlobsPrefix); len(got) != 0 || !c.has(key) || len(c.keys(catalog.DeadPrefix)) != 0 {
			t.Errorf("left %q, dead %q, the foreign data there %v, want only the data", got, c.keys(catalog.DeadPrefix), c.has(key))
		}
	})
}

// TestUnnamedData deletes data that a killed push has left, whatever its age by the store,
// which may be that of the start of its upload.
func TestUnnamedData(t *testing.T) {
	for _, concurrency := range []int{1, 2} {
		onCollector(t, func(c *collected) {
			c.Concurrency = concurrency
			c.run(1) // what it has walked does not hide what comes later
			d := digest.FromString("left")
			key := catalog.NewDataKey(d)
			_, err := c.Bucket.Create(c.ctx(), key, drivers.NewBody([]byte("left")))
			c.must(err)
			_, named := c.large("named")
			c.run(4)
			if c.has(key) || !c.has(named) || len(c.keys(catalog.DeadPrefix)) != 0 {
				t.Errorf("the data is there: %v, named data: %v, dead %q", c.has(key), c.has(named), c.keys(catalog.DeadPrefix))
			}
		})
	}
}

// wantKeys fails the test unless the keys exist as they should.
func (c *collected) wantKeys(want map[string]bool) {
	c.t.Helper()
	for key, exists := range want {
		if c.has(key) != exists {
			c.t.Errorf("%s is there: %v, want %v", key, !exists, exists)
		}
	}
}

// TestDeadList has one entry of each kind.
func TestDeadList(t *testing.T) {
	onCollector(t, func(c *collected) {
		enter := func(d digest.Digest, key string) string {
			t.Helper()
			s, err := envelope.Create(c.ctx(), c.Bucket, catalog.NewDeadKey(), catalog.Dead{Digest: d, Data: key}, drivers.Body{})
			c.must(err)
			return s.Object.Key
		}
		live, liveKey := c.large("live")
		liveEntry := enter(live, liveKey)
		damaged, damagedKey := c.large("damaged")
		rec, err := c.c.ReadRecord(c.ctx(), damaged)
		c.must(err)
		rec.Value.State = catalog.Damaged
		_, err = envelope.Replace(c.ctx(), c.Bucket, rec.Object.Key, rec.Object.Tag, rec.Value, drivers.Body{})
		c.must(err)
		damagedEntry := enter(damaged, damagedKey)
		healed, oldKey := c.large("healed")
		rec, err = c.c.ReadRecord(c.ctx(), healed)
		c.must(err)
		newKey := catalog.NewDataKey(healed)
		_, err = c.Bucket.Create(c.ctx(), newKey, drivers.NewBody([]byte("healed")))
		c.must(err)
		rec.Value.Data = newKey
		_, err = envelope.Replace(c.ctx(), c.Bucket, rec.Object.Key, rec.Object.Tag, rec.Value, drivers.Body{})
		c.must(err)
		healedEntry := enter(healed, oldKey)
		gone := enter(digest.FromString("gone"), catalog.NewDataKey(digest.FromString("gone")))
		foreign := enter(digest.FromString("foreign"), "docker/data")

		time.Sleep(c.Grace)
		if err := c.Run(c.ctx()); err != nil || len(c.keys(catalog.DeadPrefix)) != 5 {
			t.Errorf("Run = %v, entries %q: none is old enough", err, c.keys(catalog.DeadPrefix))
		}
		time.Sleep(3 * time.Hour)
		if err := c.Run(c.ctx()); err == nil || !strings.Contains(err.Error(), foreign) {
			t.Errorf("Run = %v, want an error about %s", err, foreign)
		}
		c.wantKeys(map[string]bool{liveEntry: false, damagedEntry: true, healedEntry: true, gone: false, foreign: true})
		link, err := c.c.ReadLink(c.ctx(), healed, library)
		if err != nil || link.Value.Data != newKey || !c.has(oldKey) {
			t.Errorf("the link of the healed blob names %q, %v, old data there %v, want the new data and the old data still there", link.Value.Data, err, c.has(oldKey))
		}
		_ = c.Run(c.ctx())
		c.wantKeys(map[string]bool{oldKey: false, newKey: true, liveKey: true, damagedKey: true})
	})
}

// TestSessions removes sessions that are over: open ones, and a committed one of which the
// data was stored but never published.
func TestSessions(t *testing.T) {
	onCollector(t, func(c *collected) {
		m, err := upload.Open(c.ctx(), upload.Config{
			Bucket: c.Bucket, Layout: catalog.Layout{},
			Settings: upload.Settings{Memory: 256 << 20, PartSize: 5 << 20, ParallelParts: 1, SessionLifetime: time.Hour},
		})
		c.must(err)
		p := bytes.Repeat([]byte("x"), 6<<20)
		for range 2 {
			w, err := m.Resume(c.ctx(), m.Start(library, digest.Canonical), upload.Options{Length: -1, Deadline: due()})
			c.must(err)
			_, err = w.Write(p)
			c.must(err)
			_, err = w.Suspend(c.ctx())
			c.must(err)
			c.must(w.Close())
		}
		time.Sleep(c.Grace)
		c.must(c.Run(c.ctx()))
		if n := len(c.keys(catalog.UploadsPrefix)); n != 2 {
			t.Errorf("%d records of young sessions are left, want 2", n)
		}
		c.run(5)
		uploads := 0
		for _, err := range c.Bucket.Uploads(c.ctx(), "") {
			c.must(err)
			uploads++
		}
		if left := c.keys(catalog.UploadsPrefix); len(left) != 0 || uploads != 0 {
			t.Errorf("left: %q and %d uploads, want none", left, uploads)
		}
	})
}

// TestGraceIsRefused runs with a grace that is too short for the configuration, or for the
// limits that a process has stored in the bucket.
func TestGraceIsRefused(t *testing.T) {
	onCollector(t, func(c *collected) {
		c.Grace = 3*time.Hour + time.Minute
		c.must(c.Run(c.ctx()))
		c.must(c.c.RaiseLimits(c.ctx(), catalog.Limits{Request: time.Hour, Cache: 2 * time.Minute}))
		err := c.Run(c.ctx())
		if g, ok := errors.AsType[*collect.GraceError](err); !ok || g.Least != 3*time.Hour+2*time.Minute {
			t.Errorf("Run = %v, want a GraceError of 3h2m", err)
		}
	})
}

// TestDryRunChangesNothing runs on a bucket in which a run has much to do.
func TestDryRunChangesNothing(t *testing.T) {
	onCollector(t, func(c *collected) {
		c.blobsToCollect()
		c.run(1)
		before := c.keys("")
		c.DryRun = true
		time.Sleep(grace + time.Minute)
		dry, err := c.report(c.ctx())
		c.must(err)
		if got := c.keys(""); !slices.Equal(got, before) {
			t.Errorf("after a dry run the keys are\n%q, want\n%q", got, before)
		}
		c.DryRun = false
		wet, err := c.report(c.ctx())
		c.must(err)
		for _, r := range []*collect.Report{&dry, &wet} {
			r.Started, r.DryRun, r.Seconds, r.Requests = time.Time{}, false, 0, collect.Requests{}
			r.Dead = collect.Counts{} // a dry run does not count the entries of records
		}
		if dry.Links.Removed == 0 || dry.Manifests.Removed == 0 || dry.ByRepository[library].Frees == 0 {
			t.Errorf("the dry run reports %+v, want removed links and manifests, and freed bytes", dry)
		}
		if dry.Links != wet.Links || dry.Manifests != wet.Manifests || dry.ByRepository[library] != wet.ByRepository[library] {
			t.Errorf("the dry run reports\n%+v, and the run\n%+v", dry, wet)
		}
	})
}

// blobsToCollect leaves manifests and blobs that runs will remove.
func (c *collected) blobsToCollect() {
	kept, _ := c.large("kept")
	c.image(imageOf("kept", kept), "kept")
	gone, _ := c.large("gone")
	c.image(imageOf("gone", gone))
	c.large("unnamed")
}
