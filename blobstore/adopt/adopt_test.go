package adopt_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/distribution/reference"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/adopt"
	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

func run(t *testing.T, b drivers.Bucket, cfg adopt.Config) *adopt.Report {
	t.Helper()
	rep, err := adopt.Run(t.Context(), b, cfg)
	if err != nil {
		t.Fatalf("Run = %v", err)
	}
	return rep
}

// open returns a repository of berth in the bucket, as a process without a cache has it.
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

// checkSample checks that berth serves all of a sample.
func checkSample(t *testing.T, b drivers.Bucket, name string, s sample) {
	t.Helper()
	repo := open(t, b, name)
	for d, want := range map[digest.Digest]string{s.config: "{}", s.layer: "layer"} {
		if got, err := repo.Get(t.Context(), d); err != nil || string(got) != want {
			t.Errorf("%s: Get(%s) = %q, %v, want %q", name, d, got, err, want)
		}
	}
	for d, want := range map[digest.Digest]string{
		s.image: manifest.MediaTypeDockerImage, s.artifact: manifest.MediaTypeImage, s.list: manifest.MediaTypeIndex,
	} {
		m, err := repo.Manifests().Get(t.Context(), d)
		if err != nil || m.MediaType != want || digest.FromBytes(m.Content) != d {
			t.Errorf("%s: Get(%s) = %s, %v, want its bytes and %s", name, d, m.MediaType, err, want)
		}
	}
	for tag, want := range map[string]digest.Digest{"latest": s.image, "v1": s.image, "sha256-" + s.image.Encoded(): s.list} {
		if got, err := repo.Tags().Get(t.Context(), tag); err != nil || got.Digest != want {
			t.Errorf("%s: tag %s = %s, %v, want %s", name, tag, got.Digest, err, want)
		}
	}
	var referrers []digest.Digest
	for r, err := range repo.Manifests().Referrers(t.Context(), s.image, "") {
		if err != nil {
			t.Fatal(err)
		}
		referrers = append(referrers, r.Digest)
	}
	if want := []digest.Digest{s.artifact}; !slices.Equal(referrers, want) {
		t.Errorf("%s: referrers of the image = %v, want %v", name, referrers, want)
	}
}

// objects returns the keys and tags of all objects with the prefix.
func objects(t *testing.T, b drivers.Bucket, prefix string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for o, err := range b.List(t.Context(), prefix, "", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if o, err = b.Stat(t.Context(), o.Key); err != nil {
			t.Fatal(err)
		}
		found[o.Key] = o.Tag
	}
	return found
}

// TestRun checks that berth serves all that the old registry had, that a run changes none
// of its objects, and that a second run takes nothing.
func TestRun(t *testing.T) {
	o := newOldRegistry(t)
	names := []string{"a", "a/b", "a/1", "library/nginx"}
	samples := map[string]sample{}
	for _, name := range names {
		samples[name] = o.sample(name)
	}
	before := objects(t, o.b, catalog.DistributionPrefix)
	tick()
	rep := run(t, o.b, adopt.Config{})
	want := adopt.Report{Repositories: 4, Links: 8, Blobs: 2, BlobBytes: 7, Manifests: 12, Referrers: 4, Tags: 12, Skipped: []adopt.Skip{}}
	if diff := cmp.Diff(&want, rep); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	for _, name := range names {
		checkSample(t, o.b, name, samples[name])
	}
	if diff := cmp.Diff(before, objects(t, o.b, catalog.DistributionPrefix)); diff != "" {
		t.Errorf("the objects of the old registry have changed (-want +got):\n%s", diff)
	}
	rec, err := catalog.New(o.b).ReadRecord(t.Context(), samples["a"].layer)
	if err != nil || rec.Value.State != catalog.Unverified || rec.Value.Data != catalog.DistributionDataKey(samples["a"].layer) {
		t.Errorf("record = %+v, %v, want an unverified one with the old data", rec.Value, err)
	}
	rep = run(t, o.b, adopt.Config{})
	if want := (adopt.Report{Repositories: 4, Older: 32, Skipped: []adopt.Skip{}}); !cmp.Equal(&want, rep) {
		t.Errorf("second report = %+v, want %+v", rep, want)
	}
}

// TestDryRun checks that a dry run writes nothing and reports what a run does.
func TestDryRun(t *testing.T) {
	o := newOldRegistry(t)
	o.sample("a")
	before := objects(t, o.b, "")
	dry := run(t, o.b, adopt.Config{DryRun: true})
	if diff := cmp.Diff(before, objects(t, o.b, "")); diff != "" {
		t.Errorf("a dry run has changed the bucket (-want +got):\n%s", diff)
	}
	wet := run(t, o.b, adopt.Config{})
	dry.DryRun = false
	if diff := cmp.Diff(dry, wet); diff != "" {
		t.Errorf("reports of a dry run and a run (-dry +run):\n%s", diff)
	}
}

// TestNoRegistry checks the error for a bucket without an old registry.
func TestNoRegistry(t *testing.T) {
	if _, err := adopt.Run(t.Context(), newOldRegistry(t).b, adopt.Config{}); !errors.Is(err, adopt.ErrNoRegistry) {
		t.Errorf("Run = %v, want %v", err, adopt.ErrNoRegistry)
	}
	if _, err := adopt.Run(t.Context(), newOldRegistry(t).b, adopt.Config{Rate: -1}); err == nil || !strings.Contains(err.Error(), "adopt.Config.Rate") {
		t.Errorf("Run = %v, want an error that names adopt.Config.Rate", err)
	}
}

// TestSkipped checks what cannot be taken over, and that the rest is.
func TestSkipped(t *testing.T) {
	o := newOldRegistry(t)
	s := o.sample("a")
	missing, wrong := digest.FromString("missing"), digest.FromString("wrong")
	layers, revisions := catalog.DistributionLayers("a"), catalog.DistributionRevisions("a")
	o.link(layers, missing, missing)
	o.link(layers, wrong, s.layer)
	o.put(layers+"sha256/"+digest.FromString("broken").Encoded()+"/link", "?")
	sha512 := digest.SHA512.FromString("layer")
	o.link(layers, sha512, s.layer)
	schema1 := o.manifest("a", `{"schemaVersion":1,"name":"a","tag":"old","fsLayers":[]}`, "old")
	o.link(revisions, missing, missing)
	o.link(revisions, wrong, s.image)
	long := o.manifest("a", image("", "", s.config)+strings.Repeat(" ", 4<<10))
	o.put("docker/registry/v2/repositories/Upper/_layers/sha256/x/link", "x")
	var lines []string
	rep := run(t, o.b, adopt.Config{MaxManifest: 4 << 10, Skipped: func(s adopt.Skip) { lines = append(lines, s.String()) }})
	checkSample(t, o.b, "a", s)
	slices.Sort(lines)
	want := []string{
		"a: blob " + missing.String() + ": its bytes are missing, or empty",
		"a: blob " + digest.FromString("broken").String() + ": the link is broken: it holds no digest",
		"a: blob " + sha512.String() + ": berth finds blobs by sha256, and the bytes were not hashed by sha512 here: push the blob again by this digest",
		"a: blob " + wrong.String() + ": the link names " + s.layer.String(),
		"a: manifest " + missing.String() + ": its bytes are missing, or empty",
		"a: manifest " + schema1.String() + ": Docker schema 1 is not supported: push the image again with a current client, which sends schema 2 or OCI",
		"a: manifest " + wrong.String() + ": its bytes do not have its digest",
		"a: manifest " + long.String() + ": it is longer than 4096 bytes",
		"a: tag old: it names " + schema1.String() + ", which the repository does not have",
		"Upper: repository Upper: its name is not that of a repository",
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
	if len(rep.Skipped) != len(want) {
		t.Errorf("the report has %d entries of what was skipped, want %d", len(rep.Skipped), len(want))
	}
	state, err := catalog.New(o.b).ReadAdoption(t.Context(), "a")
	if err != nil || state.Value.Unreadable != 4 || !state.Value.Holds() {
		t.Errorf("state = %+v, %v, want 4 unreadable manifests that hold the links", state.Value, err)
	}

	// Once the operator has removed them, the collector may work again.
	for _, d := range []digest.Digest{missing, wrong, schema1, long} {
		if err := o.b.Delete(t.Context(), revisions+"sha256/"+d.Encoded()+"/link"); err != nil {
			t.Fatal(err)
		}
	}
	run(t, o.b, adopt.Config{})
	if state, err := catalog.New(o.b).ReadAdoption(t.Context(), "a"); err != nil || state.Value.Holds() {
		t.Errorf("state = %+v, %v, want one that holds nothing", state.Value, err)
	}
}

// TestEmptyBlob checks that the blob without bytes is taken over, which some stores cannot
// list.
func TestEmptyBlob(t *testing.T) {
	o := newOldRegistry(t)
	o.link(catalog.DistributionLayers("a"), digest.FromString(""), digest.FromString(""))
	run(t, o.b, adopt.Config{})
	if got, err := open(t, o.b, "a").Get(t.Context(), digest.FromString("")); err != nil || len(got) != 0 {
		t.Errorf("Get = %q, %v, want no bytes", got, err)
	}
}

// TestDeletedStaysDeleted checks that a second run brings nothing back that a client of
// berth has deleted, and takes what the old registry has stored since.
func TestDeletedStaysDeleted(t *testing.T) {
	o := newOldRegistry(t)
	s := o.sample("a")
	tick()
	run(t, o.b, adopt.Config{})
	repo := open(t, o.b, "a")
	for _, err := range []error{
		repo.Delete(t.Context(), s.layer), repo.Manifests().Delete(t.Context(), s.image), repo.Tags().Untag(t.Context(), "sha256-"+s.image.Encoded()),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	tick()
	later := o.layer("a", "later")
	next := o.manifest("a", image("", "", s.config, later), "v2")
	run(t, o.b, adopt.Config{})
	if _, err := repo.Stat(t.Context(), s.layer); !errors.Is(err, blobstore.ErrBlobUnknown) {
		t.Errorf("Stat of a deleted blob = %v, want %v", err, blobstore.ErrBlobUnknown)
	}
	for _, tag := range []string{"latest", "v1", "sha256-" + s.image.Encoded()} {
		if _, err := repo.Tags().Get(t.Context(), tag); !errors.Is(err, blobstore.ErrManifestUnknown) {
			t.Errorf("deleted tag %s = %v, want %v", tag, err, blobstore.ErrManifestUnknown)
		}
	}
	if got, err := repo.Tags().Get(t.Context(), "v2"); err != nil || got.Digest != next {
		t.Errorf("new tag = %s, %v, want %s", got.Digest, err, next)
	}
	if _, err := repo.Stat(t.Context(), later); err != nil {
		t.Errorf("Stat of a new blob = %v, want nil", err)
	}
}

// TestLastWriterHasTheTag checks that a tag belongs to the registry that wrote it last, and
// that an immutable tag is not moved.
func TestLastWriterHasTheTag(t *testing.T) {
	o := newOldRegistry(t)
	config := o.layer("a", "{}")
	first := o.manifest("a", image("", "", config), "here", "there", "fixed")
	tick()
	run(t, o.b, adopt.Config{})
	repo := open(t, o.b, "a")
	ours, err := repo.Manifests().Put(t.Context(), blobstore.ManifestPut{
		MediaType: manifest.MediaTypeImage, Content: []byte(image("", "", config, config)), Tags: []string{"there"}})
	if err != nil {
		t.Fatal(err)
	}
	tick()
	theirs := o.manifest("a", image("", "", config, config, config), "there", "here", "fixed")
	tick()
	if err := repo.Tags().Tag(t.Context(), "here", ours.Descriptor); err != nil {
		t.Fatal(err)
	}
	rep := run(t, o.b, adopt.Config{Immutable: func(_, tag string) bool { return tag == "fixed" }})
	for tag, want := range map[string]digest.Digest{"here": ours.Digest, "there": theirs, "fixed": first} {
		if got, err := repo.Tags().Get(t.Context(), tag); err != nil || got.Digest != want {
			t.Errorf("tag %s = %s, %v, want %s", tag, got.Digest, err, want)
		}
	}
	if rep.Kept != 1 || len(rep.Skipped) != 1 || rep.Tags != 1 {
		t.Errorf("report = %+v, want one tag kept, one skipped and one moved", rep)
	}
}

// TestConcurrentRuns checks that runs that run concurrently, beside clients, take over
// everything.
func TestConcurrentRuns(t *testing.T) {
	o := newOldRegistry(t)
	samples := map[string]sample{"a": o.sample("a"), "b": o.sample("b")}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if _, err := adopt.Run(t.Context(), o.b, adopt.Config{Concurrency: 4}); err != nil {
				t.Errorf("Run = %v", err)
			}
		})
	}
	repo := open(t, o.b, "a")
	for n := range 5 {
		wg.Go(func() {
			config, err := repo.Put(t.Context(), "", []byte("{}")) // an adopted blob
			if err != nil {
				t.Errorf("Put = %v", err)
				return
			}
			content := image("", "", config.Digest, slices.Repeat([]digest.Digest{config.Digest}, n+2)...)
			put := blobstore.ManifestPut{MediaType: manifest.MediaTypeImage, Content: []byte(content), Tags: []string{tagOf(n)}}
			if _, err := repo.Manifests().Put(t.Context(), put); err != nil {
				t.Errorf("Put of a manifest = %v", err)
			}
		})
	}
	wg.Wait()
	checkSample(t, o.b, "a", samples["a"])
	checkSample(t, o.b, "b", samples["b"])
	for n := range 5 {
		if _, err := repo.Tags().Get(t.Context(), tagOf(n)); err != nil {
			t.Errorf("tag %s = %v, want nil", tagOf(n), err)
		}
	}
}

// TestKilledRuns kills a run at each of its requests, before and after the request takes
// effect, and runs again.
func TestKilledRuns(t *testing.T) {
	for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Unanswered} {
		for n := 1; ; n++ {
			o := newOldRegistry(t)
			s := o.sample("a")
			f := &drivertest.Faulty{Mode: mode, Nth: n, Dead: true}
			_, err := adopt.Run(t.Context(), drivertest.Wrap(o.b, f.Intercept), adopt.Config{Concurrency: 1})
			call, hit := f.Hit()
			if !hit {
				if err != nil || n < 20 {
					t.Errorf("after %d requests: %v, want nil after at least 20", n-1, err)
				}
				break
			}
			if err == nil {
				t.Errorf("%v %v: Run = nil, want an error", mode, call)
			}
			run(t, o.b, adopt.Config{})
			checkSample(t, o.b, "a", s)
			if state, err := catalog.New(o.b).ReadAdoption(t.Context(), "a"); err != nil || state.Value.Holds() {
				t.Errorf("%v %v: state = %+v, %v, want a finished one", mode, call, state.Value, err)
			}
			if t.Failed() {
				t.Fatalf("killed at request %d, %v, %v", n, call, mode)
			}
		}
	}
}
