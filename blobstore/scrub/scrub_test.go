package scrub_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/blobstore/scrub"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

func newBucket(t *testing.T) drivers.Bucket {
	t.Helper()
	b, err := memory.Open(t.Context(), memory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// open returns a repository in the bucket, as a process without a cache has it.
func open(t *testing.T, b drivers.Bucket, name string) *blobstore.Repository {
	t.Helper()
	store, err := blobstore.Open(t.Context(), b, blobstore.Config{Cache: blobstore.CacheConfig{TTL: -1, Entries: -1}})
	if err != nil {
		t.Fatal(err)
	}
	named, err := reference.WithName(name)
	if err != nil {
		t.Fatal(err)
	}
	return store.Repository(named)
}

func put(t *testing.T, repo *blobstore.Repository, content string) digest.Digest {
	t.Helper()
	desc, err := repo.Put(t.Context(), "", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return desc.Digest
}

// large returns content that is not stored in its record.
func large(c string) string { return strings.Repeat(c, 20<<10) }

// putImage stores an image, in an index with the tag.
func putImage(t *testing.T, repo *blobstore.Repository, tag string, config digest.Digest, layers ...digest.Digest) digest.Digest {
	t.Helper()
	describe := func(mediaType string, d digest.Digest) map[string]any {
		return map[string]any{"mediaType": mediaType, "digest": d, "size": 1}
	}
	var all []any
	for _, d := range layers {
		all = append(all, describe("application/vnd.example", d))
	}
	image := map[string]any{"schemaVersion": 2, "mediaType": manifest.MediaTypeImage, "config": describe("application/vnd.example", config), "layers": all}
	child := putManifest(t, repo, image)
	return putManifest(t, repo, map[string]any{"schemaVersion": 2, "mediaType": manifest.MediaTypeIndex,
		"manifests": []any{describe(manifest.MediaTypeImage, child)}}, tag)
}

func putManifest(t *testing.T, repo *blobstore.Repository, doc map[string]any, tags ...string) digest.Digest {
	t.Helper()
	content, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	m, err := repo.Manifests().Put(t.Context(), blobstore.ManifestPut{Content: content, Tags: tags})
	if err != nil {
		t.Fatal(err)
	}
	return m.Digest
}

// dataKey returns the data key of a blob.
func dataKey(t *testing.T, b drivers.Bucket, d digest.Digest) string {
	t.Helper()
	rec, err := catalog.New(b).ReadRecord(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return rec.Value.Data
}

// spoil replaces the object under a key.
func spoil(t *testing.T, b drivers.Bucket, key, content string) {
	t.Helper()
	if err := b.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if content == "" {
		return
	}
	if _, err := b.Create(t.Context(), key, drivers.NewBody([]byte(content))); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, b drivers.Bucket, cfg scrub.Config) *scrub.Report {
	t.Helper()
	rep, err := scrub.Run(t.Context(), b, cfg)
	if err != nil {
		t.Fatalf("Run = %v", err)
	}
	return rep
}

// problems returns the findings in a short form.
func problems(rep *scrub.Report) map[digest.Digest]string {
	found := map[digest.Digest]string{}
	for _, f := range rep.Findings {
		found[f.Digest] = string(f.Problem) + " " + f.Kind + " " + strings.Join(f.Repositories, ",") + " " + strings.Join(f.Tags, ",")
	}
	return found
}

// TestFindings checks what a run finds, and that a bucket without problems has none.
func TestFindings(t *testing.T) {
	b := newBucket(t)
	a, z := open(t, b, "a"), open(t, b, "z")
	config := put(t, a, "{}")
	rotten, short, lost, unlinked := put(t, a, large("r")), put(t, a, large("s")), put(t, a, large("l")), put(t, a, large("u"))
	put(t, z, large("r"))
	putImage(t, a, "rotten", config, rotten)
	putImage(t, a, "short", config, short)
	putImage(t, a, "lost", config, lost, rotten)
	putImage(t, a, "unlinked", config, unlinked)
	putImage(t, a, "whole", config)
	rep := run(t, b, scrub.Config{})
	if len(rep.Findings) != 0 || rep.Blobs != 5 || rep.Manifests != 10 || rep.Bytes != 4*20<<10 || !rep.Complete {
		t.Errorf("report of a whole bucket = %+v, want no findings, 5 blobs and 10 manifests", rep)
	}
	spoil(t, b, dataKey(t, b, rotten), large("x"))
	spoil(t, b, dataKey(t, b, short), "x")
	spoil(t, b, dataKey(t, b, lost), "")
	if err := a.Delete(t.Context(), unlinked); err != nil {
		t.Fatal(err)
	}
	want := map[digest.Digest]string{
		rotten:   "damaged blob a,z a:lost,a:rotten",
		short:    "damaged blob a a:short",
		lost:     "missing blob a a:lost",
		unlinked: "missing blob a a:unlinked",
	}
	if diff := cmp.Diff(want, problems(run(t, b, scrub.Config{}))); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	delete(want, rotten)
	rep = run(t, b, scrub.Config{Cheap: true})
	if diff := cmp.Diff(want, problems(rep)); diff != "" || rep.Bytes != 0 {
		t.Errorf("findings of the cheap mode, which has read %d bytes (-want +got):\n%s", rep.Bytes, diff)
	}
}

// TestBrokenManifests checks findings about manifests.
func TestBrokenManifests(t *testing.T) {
	b := newBucket(t)
	repo := open(t, b, "a")
	config := put(t, repo, "{}")
	index := putImage(t, repo, "v1", config)
	m, err := repo.Manifests().Get(t.Context(), index)
	if err != nil {
		t.Fatal(err)
	}
	var child digest.Digest
	for d, err := range catalog.New(b).Manifests(t.Context(), "a") {
		if err != nil {
			t.Fatal(err)
		}
		if d != index {
			child = d
		}
	}
	if err := repo.Manifests().Delete(t.Context(), child); err != nil {
		t.Fatal(err)
	}
	want := map[digest.Digest]string{child: "missing manifest a a:v1"}
	if diff := cmp.Diff(want, problems(run(t, b, scrub.Config{}))); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if rep := run(t, b, scrub.Config{SparseIndexes: true}); len(rep.Findings) != 0 {
		t.Errorf("findings = %v, want none if indexes may be sparse", rep.Findings)
	}
	stored, err := catalog.New(b).ReadManifest(t.Context(), "a", index)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := catalog.New(b).ReplaceManifest(t.Context(), deadline.New(time.Hour), stored, stored.Value, bytes.ToUpper(m.Content)); err != nil {
		t.Fatal(err)
	}
	want = map[digest.Digest]string{index: "damaged manifest a a:v1"}
	if diff := cmp.Diff(want, problems(run(t, b, scrub.Config{}))); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

// TestQuarantine checks that marked blobs cannot be read, that a push heals them, and that
// the next run repairs the links of the other repositories.
func TestQuarantine(t *testing.T) {
	for _, content := range []string{large("x"), ""} {
		b := newBucket(t)
		a, z := open(t, b, "a"), open(t, b, "z")
		d := put(t, a, large("r"))
		put(t, z, large("r"))
		spoil(t, b, dataKey(t, b, d), content)
		rep := run(t, b, scrub.Config{Quarantine: true})
		if len(rep.Findings) != 1 || !rep.Findings[0].Quarantined || rep.Links != 2 {
			t.Errorf("report = %+v, want one blob in quarantine, and its two links", rep)
		}
		for _, repo := range []*blobstore.Repository{a, z} {
			if _, err := repo.Stat(t.Context(), d); !errors.Is(err, blobstore.ErrBlobUnknown) {
				t.Errorf("Stat of a damaged blob = %v, want %v", err, blobstore.ErrBlobUnknown)
			}
		}
		put(t, a, large("r"))
		if rep := run(t, b, scrub.Config{Quarantine: true}); len(rep.Findings) != 0 || rep.Links != 1 {
			t.Errorf("report after a push = %+v, want no findings, and one link repaired", rep)
		}
		for _, repo := range []*blobstore.Repository{a, z} {
			if got, err := repo.Get(t.Context(), d); err != nil || string(got) != large("r") {
				t.Errorf("Get after a push = %d bytes, %v, want the blob", len(got), err)
			}
		}
	}
}

// TestVerifiesAdopted checks that an adopted blob becomes live, so that a push stores no
// second copy, and that a damaged one does not.
func TestVerifiesAdopted(t *testing.T) {
	b := newBucket(t)
	repo := open(t, b, "a")
	good, bad := digest.FromString(large("g")), digest.FromString(large("b"))
	c := catalog.New(b)
	for _, d := range []digest.Digest{good, bad} {
		key := catalog.DistributionDataKey(d)
		spoil(t, b, key, large("g"))
		rec, _, err := c.EnsureAdopted(t.Context(), deadline.New(time.Hour), d, int64(len(large("g"))), key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.WriteLink(t.Context(), deadline.New(time.Hour), "a", rec); err != nil {
			t.Fatal(err)
		}
	}
	if rep := run(t, b, scrub.Config{Cheap: true}); rep.Verified != 0 {
		t.Errorf("the cheap mode has verified %d blobs, want 0", rep.Verified)
	}
	rep := run(t, b, scrub.Config{})
	if rep.Verified != 1 || len(rep.Findings) != 1 || rep.Findings[0].Digest != bad {
		t.Errorf("report = %+v, want one blob verified and one damaged", rep)
	}
	put(t, repo, large("g"))
	put(t, repo, large("b"))
	if got, want := dataKey(t, b, good), catalog.DistributionDataKey(good); got != want {
		t.Errorf("after a push the data is %s, want %s: the push must not store the bytes again", got, want)
	}
	if got := dataKey(t, b, bad); !strings.HasPrefix(got, drivers.BulkPrefix) {
		t.Errorf("after a push the data is %s, want the push's own", got)
	}
}

// TestRestores checks that a blob that was marked as damaged, and is whole, becomes live.
func TestRestores(t *testing.T) {
	b := newBucket(t)
	repo := open(t, b, "a")
	d := put(t, repo, large("r"))
	key := dataKey(t, b, d)
	spoil(t, b, key, "")
	run(t, b, scrub.Config{Quarantine: true})
	spoil(t, b, key, large("r"))
	if rep := run(t, b, scrub.Config{}); rep.Restored != 1 || len(rep.Findings) != 0 {
		t.Errorf("report = %+v, want one blob restored", rep)
	}
	if _, err := repo.Stat(t.Context(), d); err != nil {
		t.Errorf("Stat = %v, want nil", err)
	}
}

// TestUnreadable checks that an error of the store about one blob is a finding, is not
// quarantined, and does not end the run.
func TestUnreadable(t *testing.T) {
	b := newBucket(t)
	d := put(t, open(t, b, "a"), large("r"))
	f := &drivertest.Faulty{Match: func(c drivertest.Call) bool { return strings.HasPrefix(c.Key, drivers.BulkPrefix) }}
	rep := run(t, drivertest.Wrap(b, f.Intercept), scrub.Config{Quarantine: true})
	if len(rep.Findings) != 1 || rep.Findings[0].Problem != scrub.Unreadable || rep.Findings[0].Quarantined {
		t.Errorf("findings = %v, want one unreadable blob, not in quarantine", rep.Findings)
	}
	if rec, err := catalog.New(b).ReadRecord(t.Context(), d); err != nil || rec.Value.State != catalog.Live {
		t.Errorf("record = %s, %v, want a live one", rec.Value.State, err)
	}
}

// TestBrokenResponse checks that a read that breaks off continues where it stopped.
func TestBrokenResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(t)
		put(t, open(t, b, "a"), large("r"))
		f := &drivertest.Faulty{Mode: drivertest.Unanswered, Nth: 1, Err: drivers.ErrBusy,
			Match: func(c drivertest.Call) bool {
				return c.Method == "Open" && strings.HasPrefix(c.Key, drivers.BulkPrefix)
			}}
		rep := run(t, drivertest.Wrap(b, f.Intercept), scrub.Config{})
		if len(rep.Findings) != 0 || rep.Bytes != 20<<10 {
			t.Errorf("findings = %v after %d bytes, want none after %d", rep.Findings, rep.Bytes, 20<<10)
		}
	})
}

// TestBandwidth checks that a run reads no faster than it may.
func TestBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(t)
		repo := open(t, b, "a")
		for _, c := range []string{"a", "b", "c"} {
			put(t, repo, strings.Repeat(c, 1<<20))
		}
		start := time.Now()
		run(t, b, scrub.Config{Bandwidth: 1 << 20})
		if took := time.Since(start); took < 2500*time.Millisecond || took > 3200*time.Millisecond {
			t.Errorf("3 MiB at 1 MiB/s took %v, want about 3 s", took)
		}
	})
}

// TestShares checks that runs of a share of the bucket continue one another, and keep what
// they have found.
func TestShares(t *testing.T) {
	b := newBucket(t)
	repo := open(t, b, "a")
	for n := range 600 {
		put(t, repo, strings.Repeat("x", n))
	}
	blobs, runs := int64(0), 0
	for complete := false; !complete; runs++ {
		rep := run(t, b, scrub.Config{Share: 0.1})
		blobs += rep.Blobs
		complete = rep.Complete
		if rep.Resumed != (runs > 0) {
			t.Errorf("run %d: Resumed = %v, want %v", runs, rep.Resumed, runs > 0)
		}
	}
	if blobs != 600 || runs < 3 {
		t.Errorf("%d runs have verified %d blobs, want at least 3 and 600", runs, blobs)
	}
}

// TestTwoRuns checks that a run stops when another one has started.
func TestTwoRuns(t *testing.T) {
	b := newBucket(t)
	put(t, open(t, b, "a"), large("r"))
	second := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if c.Method == "Open" && strings.HasPrefix(c.Key, drivers.BulkPrefix) {
			run(t, b, scrub.Config{})
		}
		return do(ctx)
	}
	if _, err := scrub.Run(t.Context(), drivertest.Wrap(b, second), scrub.Config{}); !errors.Is(err, scrub.ErrContinuedElsewhere) {
		t.Errorf("Run = %v, want %v", err, scrub.ErrContinuedElsewhere)
	}
}

// TestKilledRuns kills a run at each of its requests, before and after the request takes
// effect, while it marks a blob, and runs again.
func TestKilledRuns(t *testing.T) {
	for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Unanswered} {
		for n := 1; ; n++ {
			b := newBucket(t)
			a := open(t, b, "a")
			config, d := put(t, a, "{}"), put(t, a, large("r"))
			put(t, open(t, b, "z"), large("r"))
			putImage(t, a, "v1", config, d)
			spoil(t, b, dataKey(t, b, d), large("x"))
			f := &drivertest.Faulty{Mode: mode, Nth: n, Dead: true}
			_, err := scrub.Run(t.Context(), drivertest.Wrap(b, f.Intercept), scrub.Config{Quarantine: true, Concurrency: 1})
			if _, hit := f.Hit(); !hit {
				if err != nil || n < 15 {
					t.Errorf("after %d requests: %v, want nil after at least 15", n-1, err)
				}
				break
			}
			rep := run(t, b, scrub.Config{Quarantine: true})
			if want := map[digest.Digest]string{d: "damaged blob a,z a:v1"}; !cmp.Equal(want, problems(rep)) {
				t.Fatalf("killed at request %d, %v: findings = %v, want %v", n, mode, problems(rep), want)
			}
			for _, name := range []string{"a", "z"} {
				if link, err := catalog.New(b).ReadLink(t.Context(), d, name); err != nil || link.Value.State != catalog.Damaged {
					t.Fatalf("killed at request %d, %v: link of %s is %s, %v, want damaged", n, mode, name, link.Value.State, err)
				}
			}
		}
	}
}

// TestHealedMeanwhile checks that a push that heals a blob while a run marks it keeps its
// link.
func TestHealedMeanwhile(t *testing.T) {
	for n := 1; ; n++ {
		b := newBucket(t)
		a := open(t, b, "a")
		d := put(t, a, large("r"))
		spoil(t, b, dataKey(t, b, d), large("x"))
		seen := 0
		healed := false
		push := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			if rec, err := catalog.New(b).ReadRecord(ctx, d); err == nil && rec.Value.State == catalog.Damaged {
				if seen++; seen == n {
					put(t, a, large("r"))
					healed = true
				}
			}
			return do(ctx)
		}
		if _, err := scrub.Run(t.Context(), drivertest.Wrap(b, push), scrub.Config{Quarantine: true, Concurrency: 1}); err != nil {
			t.Fatal(err)
		}
		if !healed {
			if n < 4 {
				t.Errorf("a push came after each of %d requests, want at least 3", n-1)
			}
			return
		}
		if got, err := a.Get(t.Context(), d); err != nil || string(got) != large("r") {
			t.Errorf("a push before request %d after the mark: Get = %d bytes, %v, want the blob", n, len(got), err)
		}
	}
}

// TestConfig checks that an error names the field.
func TestConfig(t *testing.T) {
	if _, err := scrub.Run(t.Context(), newBucket(t), scrub.Config{Bandwidth: -1}); err == nil || !slices.Contains(strings.Fields(err.Error()), "scrub.Config.Bandwidth:") {
		t.Errorf("Run = %v, want an error that names scrub.Config.Bandwidth", err)
	}
}
