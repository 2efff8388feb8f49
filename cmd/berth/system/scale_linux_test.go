package system

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/filesystem"
	s3driver "github.com/berthhq/berth/drivers/s3"
)

// scale is the size of a bucket.
type scale struct {
	tags, manifests, referrers int // of one repository; the referrers are of one subject
	repositories               int
}

var (
	longScale = scale{tags: 12_000, manifests: 4_000, referrers: 5_000, repositories: 2_000}
	soakScale = scale{tags: 100_000, manifests: 50_000, referrers: 5_000, repositories: 10_000}
)

// maxPeak is the peak memory of a berth in bytes, of which 8 MiB are its cache of
// manifests. It is the same for every scale, because it depends on the longest response.
const maxPeak = 112 * miB

// TestLongScale counts the requests of operations on a large repository, and measures
// the memory of a berth that lists all of it. With BERTH_TEST_SOAK the repository has
// 100,000 tags.
func TestLongScale(t *testing.T) {
	size := longScale
	if os.Getenv("BERTH_TEST_SOAK") != "" {
		size = soakScale
	} else {
		skipUnlessLong(t, "a repository of many thousands of tags")
	}
	testScale(t, size)
}

func testScale(t *testing.T, size scale) {
	t.Run("directory", func(t *testing.T) {
		root := t.TempDir()
		bucket, err := filesystem.Open(t.Context(), filesystem.Config{Root: root})
		if err != nil {
			t.Fatal(err)
		}
		testScaleOn(t, size, bucket, append(cleanEnv(), "BERTH_STORAGE_FILESYSTEM_ROOT="+root))
	})
	t.Run("versitygw", func(t *testing.T) {
		s := emulator.VersityGW(t)
		env := s3Env(t, s)
		bucket, err := s3driver.Open(t.Context(), s3driver.Config{
			Bucket: settingOf(env, "BERTH_STORAGE_S3_BUCKET"), Region: s.Region, Endpoint: s.Endpoint, PathStyle: true,
			AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretAccessKey,
		})
		if err != nil {
			t.Fatal(err)
		}
		testScaleOn(t, size, bucket, env)
	})
}

// testScaleOn tests an empty bucket. env is the environment of a berth on it.
func testScaleOn(t *testing.T, size scale, bucket drivers.Bucket, env []string) {
	start := time.Now()
	large := newLargeRepository(t, bucket, size)
	t.Logf("wrote %+v in %v", size, time.Since(start).Round(time.Second))
	counter := new(drivertest.Counter)
	large.p, large.counter = serveInProcess(t, drivertest.Wrap(bucket, counter.Intercept), 0), counter
	t.Run("lists", large.testLists)
	t.Run("operations", large.testOperations)

	if most := large.peakOfLists(t, env); most > maxPeak {
		t.Errorf("peak memory = %d MiB after lists of everything, want at most %d MiB", most>>20, int64(maxPeak)>>20)
	} else {
		t.Logf("peak memory = %d MiB", most>>20)
	}
}

// largeRepository is a repository with many tags, manifests and referrers.
type largeRepository struct {
	scale

	config    []byte // the only blob
	subject   digest.Digest
	referring []digest.Digest // the manifests that have this subject

	p       *process
	counter *drivertest.Counter
}

const largeName = "scale/large"

// newLargeRepository writes a large repository into a bucket. Tag i names manifest i
// modulo the number of manifests.
func newLargeRepository(t *testing.T, bucket drivers.Bucket, size scale) *largeRepository {
	t.Helper()
	l := &largeRepository{scale: size, config: []byte("{}")}
	cat, due := catalog.New(bucket), deadline.New(time.Hour)
	var group errgroup.Group
	group.SetLimit(64)
	ctx := t.Context()
	l.subject = digest.FromBytes(l.manifest(0, ""))
	for i := range size.manifests {
		group.Go(func() error { return l.write(ctx, cat, due, i) })
	}
	for i := range size.referrers {
		content := l.manifest(i, l.subject)
		l.referring = append(l.referring, digest.FromBytes(content))
		group.Go(func() error {
			m := describe(content)
			m.Subject, m.ArtifactType = l.subject, "application/vnd.example.test"
			if err := cat.WriteEntry(ctx, due, largeName, m.Subject, m.Digest); err != nil {
				return err
			}
			_, err := cat.CreateManifest(ctx, due, largeName, m, content)
			return err
		})
	}
	for i := range size.repositories {
		group.Go(func() error { return cat.EnsureMarker(ctx, due, fmt.Sprintf("scale/other%06d", i)) })
	}
	group.Go(func() error { return cat.EnsureMarker(ctx, due, largeName) })
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(l.referring)
	return l
}

// write writes a manifest and its tags.
func (l *largeRepository) write(ctx context.Context, cat *catalog.Catalog, due deadline.Deadline, i int) error {
	content := l.manifest(i, "")
	m := describe(content)
	for tag := i; tag < l.tags; tag += l.manifests {
		m = m.WithHints(tagName(tag))
	}
	if _, err := cat.CreateManifest(ctx, due, largeName, m, content); err != nil {
		return err
	}
	for _, tag := range m.Hints {
		if _, err := cat.WriteTag(ctx, due, largeName, tag, catalog.StoredTag{}, catalog.TagOf(m)); err != nil {
			return err
		}
	}
	return nil
}

func tagName(i int) string { return fmt.Sprintf("v%06d", i) }

// manifest returns the content of manifest i. All of them have the same config.
func (l *largeRepository) manifest(i int, subject digest.Digest) []byte {
	content := map[string]any{
		"schemaVersion": 2, "mediaType": mediaTypeImage, "layers": []descriptor{},
		"config": descriptor{MediaType: mediaTypeConfig, Digest: digest.FromBytes(l.config), Size: len(l.config)},
	}
	if subject != "" {
		content["subject"] = descriptor{MediaType: mediaTypeImage, Digest: subject, Size: 300}
		content["artifactType"] = "application/vnd.example.test"
		content["annotations"] = map[string]string{"number": fmt.Sprint(i), "text": strings.Repeat("x", 1000)}
	} else {
		content["annotations"] = map[string]string{"number": fmt.Sprint(i)}
	}
	data, err := json.Marshal(content)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return data
}

// describe returns a new manifest.
func describe(content []byte) catalog.Manifest {
	return catalog.Manifest{
		ID: catalog.NewID(), Digest: digest.FromBytes(content), Size: int64(len(content)), MediaType: mediaTypeImage, State: catalog.Live,
	}
}

// count runs a request and requires that it costs at most this number of requests to the
// store.
func (l *largeRepository) count(t *testing.T, most int, method, path string, body []byte, status int) {
	t.Helper()
	l.counter.Reset()
	a := l.send(t, method, path, body)
	if a.status != status {
		t.Fatalf("%s %s = %d %s, want %d", method, path, a.status, a.body, status)
	}
	if n := l.counter.Total(); n > most {
		calls := l.counter.Calls()
		t.Errorf("%s %s sent %d requests to the store, want at most %d: %v", method, path, n, most, calls[:min(len(calls), 20)])
	}
}

func (l *largeRepository) send(t *testing.T, method, path string, body []byte) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, l.p.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(path, "/manifests/") && body != nil {
		req.Header.Set("Content-Type", mediaTypeImage)
	}
	res, err := l.p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var content bytes.Buffer
	if _, err := content.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	return response{res.StatusCode, res.Header, content.Bytes()}
}

// walk follows the links of a list from a path to its end. It calls page for the
// content of each page.
func (l *largeRepository) walk(t *testing.T, path string, page func(body []byte)) (pages int) {
	t.Helper()
	for path != "" {
		a := l.send(t, http.MethodGet, path, nil)
		if a.status != http.StatusOK {
			t.Fatalf("GET %s = %d %s, want 200", path, a.status, a.body)
		}
		page(a.body)
		pages++
		path, _, _ = strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"), ">")
	}
	return pages
}

// walkTags returns all tags.
func (l *largeRepository) walkTags(t *testing.T, n int) (tags []string) {
	t.Helper()
	l.walk(t, fmt.Sprintf("/v2/%s/tags/list?n=%d", largeName, n), func(body []byte) {
		tags = append(tags, decode[struct{ Tags []string }](t, body).Tags...)
	})
	return tags
}

// walkReferrers returns all referrers of the subject, and the number of pages.
func (l *largeRepository) walkReferrers(t *testing.T, query string) (found []digest.Digest, pages int) {
	t.Helper()
	pages = l.walk(t, "/v2/"+largeName+"/referrers/"+l.subject.String()+query, func(body []byte) {
		for _, d := range decode[struct{ Manifests []descriptor }](t, body).Manifests {
			found = append(found, d.Digest)
		}
	})
	return found, pages
}

// walkRepositories returns all repositories.
func (l *largeRepository) walkRepositories(t *testing.T, n int) (names []string) {
	t.Helper()
	l.walk(t, fmt.Sprintf("/v2/_catalog?n=%d", n), func(body []byte) {
		names = append(names, decode[struct{ Repositories []string }](t, body).Repositories...)
	})
	return names
}

func decode[T any](t *testing.T, body []byte) (value T) {
	t.Helper()
	if err := json.Unmarshal(body, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// peakOfLists returns the peak memory of a berth process after lists of everything.
func (l *largeRepository) peakOfLists(t *testing.T, env []string) int64 {
	t.Helper()
	p, err := start(t.TempDir(), append(env, "BERTH_MANIFESTS_CACHE_MEMORY=8MiB"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	}()
	defer func(before *process) { l.p = before }(l.p)
	l.p = p
	for range 2 {
		l.walkTags(t, 10_000)
		l.walkReferrers(t, "")
		l.walkRepositories(t, 1000)
	}
	return peak(t, p.cmd.Process.Pid)
}

func (l *largeRepository) testLists(t *testing.T) {
	tags := l.walkTags(t, 10_000)
	if len(tags) != l.tags || !slices.IsSorted(tags) || len(slices.Compact(tags)) != l.tags {
		t.Errorf("the pages have %d tags, sorted = %v, want %d different ones in order", len(tags), slices.IsSorted(tags), l.tags)
	}
	list := "/v2/" + largeName + "/tags/list"
	middle := tagName(l.tags / 2)
	l.count(t, 1, http.MethodGet, list+"?n=10", nil, http.StatusOK)
	l.count(t, 1, http.MethodGet, list+"?n=10&last="+middle, nil, http.StatusOK)
	l.count(t, 1, http.MethodGet, list+"?n=900&last="+middle, nil, http.StatusOK)
	l.count(t, 10+1, http.MethodGet, list, nil, http.StatusOK)
	l.count(t, 1, http.MethodGet, list+"?n=0", nil, http.StatusOK)

	// The first read of referrers reads each manifest, the second none.
	// Where a page ends, the requests in flight for the next entries are lost.
	const inFlight = 16
	lists := l.referrers/1000 + 1
	l.counter.Reset()
	found, pages := l.walkReferrers(t, "")
	if n, most := l.counter.Total(), l.referrers+lists+pages+inFlight*(pages-1); n > most {
		t.Errorf("the referrers cost %d requests to the store, want at most %d", n, most)
	}
	if slices.Sort(found); !slices.Equal(found, l.referring) {
		t.Errorf("%d pages have %d referrers, want all %d", pages, len(found), len(l.referring))
	}
	l.counter.Reset()
	again, _ := l.walkReferrers(t, "?artifactType=application/vnd.example.test")
	if n := l.counter.Total(); n > lists+pages {
		t.Errorf("the referrers, read again, cost %d requests to the store, want at most %d", n, lists+pages)
	}
	if len(again) != l.referrers {
		t.Errorf("the pages have %d referrers of the type, want %d", len(again), l.referrers)
	}
	none, _ := l.walkReferrers(t, "?artifactType=application/vnd.example.none")
	if len(none) != 0 {
		t.Errorf("the pages have %d referrers of another type, want none", len(none))
	}

	names := l.walkRepositories(t, 1000)
	if len(names) != l.repositories+1 || !slices.IsSorted(names) {
		t.Errorf("the pages have %d repositories, sorted = %v, want %d in order", len(names), slices.IsSorted(names), l.repositories+1)
	}
	l.count(t, 1, http.MethodGet, "/v2/_catalog?n=100&last=scale/other000500", nil, http.StatusOK)
}

// testOperations tests that operations on single manifests cost the same as in a small
// repository.
func (l *largeRepository) testOperations(t *testing.T) {
	manifests := "/v2/" + largeName + "/manifests/"
	blob := "/v2/" + largeName + "/blobs/uploads/?digest=" + digest.FromBytes(l.config).String()
	if a := l.send(t, http.MethodPost, blob, l.config); a.status != http.StatusCreated {
		t.Fatalf("POST %s = %d %s, want 201", blob, a.status, a.body)
	}
	l.send(t, http.MethodPut, manifests+"first", l.manifest(l.manifests, "")) // reads the marker
	first, second, third := l.manifest(l.manifests+1, ""), l.manifest(l.manifests+2, ""), l.manifest(l.referrers, l.subject)
	path := func(content []byte) string { return manifests + digest.FromBytes(content).String() }

	l.count(t, 3, http.MethodPut, manifests+"new", first, http.StatusCreated)
	l.count(t, 3, http.MethodPut, manifests+"new", second, http.StatusCreated)
	l.count(t, 3, http.MethodPut, manifests+tagName(0), l.manifest(l.manifests+3, ""), http.StatusCreated)
	l.count(t, 2, http.MethodPut, path(third), third, http.StatusCreated)
	found, _ := l.walkReferrers(t, "")
	if !slices.Contains(found, digest.FromBytes(third)) || len(found) != l.referrers+1 {
		t.Errorf("%d referrers after a push of another, want %d with it", len(found), l.referrers+1)
	}
	l.count(t, 2, http.MethodGet, manifests+tagName(l.tags-1), nil, http.StatusOK)
	l.count(t, 1, http.MethodHead, manifests+tagName(l.tags-1), nil, http.StatusOK)
	l.count(t, 2, http.MethodDelete, path(third), nil, http.StatusAccepted)
	if again, _ := l.walkReferrers(t, ""); len(again) != l.referrers {
		t.Errorf("%d referrers after the deletion of one, want %d", len(again), l.referrers)
	}
	l.count(t, 3, http.MethodDelete, manifests+tagName(1), nil, http.StatusAccepted)
	l.count(t, 3, http.MethodDelete, path(first), nil, http.StatusAccepted) // its hint names another manifest now
	l.count(t, 4, http.MethodDelete, path(second), nil, http.StatusAccepted)
	l.count(t, 1, http.MethodGet, manifests+"new", nil, http.StatusNotFound)
}
