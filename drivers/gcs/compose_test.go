package gcs

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	raw "google.golang.org/api/storage/v1"

	"github.com/berthhq/berth/drivers"
)

// wantCompleted fails the test unless o is the object of the parts.
func (d *double) wantCompleted(t *testing.T, o drivers.Object, parts []drivers.Part) {
	t.Helper()
	size, crc := sum(parts)
	d.mu.Lock()
	defer d.mu.Unlock()
	stored := d.objects[testUpload.Key]
	if stored == nil || stored.Size != uint64(size) || stored.Crc32c != drivers.EncodeCRC32C(crc) {
		t.Fatalf("stored object = %+v, want %d bytes with CRC-32C %s", stored, size, drivers.EncodeCRC32C(crc))
	}
	if o.Key != testUpload.Key || o.Size != size || o.Tag != formatTag(stored.Generation) {
		t.Errorf("Complete = %+v, want the stored %+v", o, stored)
	}
}

// complete calls Complete for the parts of testUpload.
func complete(t *testing.T, b *bucket, parts []drivers.Part) (drivers.Object, error) {
	_, crc := sum(parts)
	return b.Complete(t.Context(), testUpload, parts, crc)
}

// TestCompleteRequests checks that Complete sends the minimum number of composes,
// and no other requests.
func TestCompleteRequests(t *testing.T) {
	for _, n := range []int{1, 2, 7, 32, 33, 100, 1024, 1025, 10_000} {
		d := newDouble()
		parts := testParts(n)
		d.stage(testUpload, parts)
		o, err := complete(t, d.open(t, nil), parts)
		if err != nil {
			t.Fatal(err)
		}
		d.wantCompleted(t, o, parts)
		if got := d.requests; got["compose"] != fewest(n) || len(got) != 1 {
			t.Errorf("Complete of %d parts sent the requests %v, want %d composes", n, got, fewest(n))
		}
		if left := d.names(); len(left) != 1 {
			t.Errorf("Complete of %d parts left %d objects", n, len(left))
		}
	}
}

// slow makes each request take a second, and counts concurrent requests.
type slow struct {
	http.RoundTripper
	now, most atomic.Int32
}

func (s *slow) RoundTrip(r *http.Request) (*http.Response, error) {
	now := s.now.Add(1)
	defer s.now.Add(-1)
	for most := s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); most = s.most.Load() {
	}
	time.Sleep(time.Second)
	return s.RoundTripper.RoundTrip(r)
}

// TestParallel counts concurrent requests: independent nodes are composed in
// parallel, and objects are deleted in parallel, up to a limit.
func TestParallel(t *testing.T) {
	for _, test := range []struct {
		parts int
		most  int32         // requests at a time
		takes time.Duration // with a second for each
	}{
		{32, 1, time.Second},
		{63, 1, 2 * time.Second},         // one full node and the root
		{100, 3, 2 * time.Second},        // three full nodes
		{500, parallel, 2 * time.Second}, // 16 full nodes
		{1024, parallel, 3 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := newDouble()
			parts := testParts(test.parts)
			d.stage(testUpload, parts)
			s := new(slow)
			b := d.open(t, func(rt http.RoundTripper) http.RoundTripper { s.RoundTripper = rt; return s })
			start := time.Now()
			if _, err := complete(t, b, parts); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); s.most.Load() != test.most || took != test.takes {
				t.Errorf("Complete of %d parts sent %d requests at a time and took %v, want %d and %v", test.parts, s.most.Load(), took, test.most, test.takes)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		d := newDouble()
		parts := testParts(100)
		d.stage(testUpload, parts)
		s := new(slow)
		b := d.open(t, func(rt http.RoundTripper) http.RoundTripper { s.RoundTripper = rt; return s })
		start := time.Now()
		if err := b.Abort(t.Context(), testUpload); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); s.most.Load() != parallel || took != 8*time.Second || len(d.names()) > 0 { // a listing, and 7 x 16
			t.Errorf("Abort of 100 parts sent %d requests at a time, took %v and left %d objects, want %d, 8s and none", s.most.Load(), took, len(d.names()), parallel)
		}
	})
}

// TestCompleteKilled kills a replica at some of its requests, before and after the
// request takes effect, and lets another replica complete the upload.
// TestLongCompleteKilled kills it at every request.
func TestCompleteKilled(t *testing.T) {
	for _, n := range []int{1, 2, 40} {
		for after := range fewest(n) + 1 {
			completeAfterKill(t, n, after)
		}
	}
	for after := 0; after <= fewest(1100); after += 9 {
		completeAfterKill(t, 1100, after)
	}
}

// TestLongCompleteKilled is TestCompleteKilled for every request of two large
// trees.
func TestLongCompleteKilled(t *testing.T) {
	skipUnlessLong(t, "kills a replica at every request of large trees")
	for _, n := range []int{400, 1100} {
		for after := range fewest(n) + 1 {
			completeAfterKill(t, n, after)
		}
	}
}

func skipUnlessLong(t *testing.T, does string) {
	t.Helper()
	if os.Getenv("BERTH_TEST_LONG") == "" {
		t.Skip(does + ": set BERTH_TEST_LONG=1 (or run make test-long)")
	}
}

// completeAfterKill completes an upload of n parts after another replica was
// killed when it had sent this many requests. Its next request takes effect the
// second time.
func completeAfterKill(t *testing.T, n, after int) {
	t.Helper()
	for _, made := range []bool{false, true} {
		d := newDouble()
		parts := testParts(n)
		d.stage(testUpload, parts)
		first := d.open(t, func(rt http.RoundTripper) http.RoundTripper {
			return &killed{RoundTripper: rt, after: after, made: made}
		})
		if _, err := complete(t, first, parts); err == nil != (after == fewest(n)) {
			t.Fatalf("Complete of %d parts, killed after %d requests = %v", n, after, err)
		}
		for range 2 { // the second time the object exists already
			o, err := complete(t, d.open(t, nil), parts)
			if err != nil {
				t.Fatalf("Complete of %d parts after a kill after %d requests (made: %v) = %v", n, after, made, err)
			}
			d.wantCompleted(t, o, parts)
		}
		if left := d.names(); len(left) != 1 || d.composed != fewest(n) {
			t.Errorf("Complete of %d parts left %d objects after %d composes, want 1 after %d", n, len(left), d.composed, fewest(n))
		}
	}
}

// TestCompleteTogether has several replicas complete one upload concurrently, one
// of which is killed, on a store that may keep sources. TestLongCompleteTogether
// has more rounds.
func TestCompleteTogether(t *testing.T) {
	for round := range 12 {
		completeTogether(t, round)
	}
}

// TestLongCompleteTogether is TestCompleteTogether with more rounds.
func TestLongCompleteTogether(t *testing.T) {
	skipUnlessLong(t, "completes 72 uploads by four replicas each")
	for round := range 72 {
		completeTogether(t, round)
	}
}

// completeTogether is one round of TestCompleteTogether. Six rounds cover all
// sizes.
func completeTogether(t *testing.T, round int) {
	t.Helper()
	n := []int{1, 2, 33, 70, 130, 1100}[round%6]
	rng := rand.New(rand.NewPCG(uint64(round), 1))
	d := newDouble()
	parts := testParts(n)
	d.stage(testUpload, parts)
	keeps := round/6%2 == 0 // sources, some of the time
	if keeps {
		d.leave = func(string) bool { return rng.IntN(4) == 0 } // called under the double's lock
	}
	doomed := rng.IntN(fewest(n) + 1)
	objects, errs := make([]drivers.Object, 4), make([]error, 4)
	var wg sync.WaitGroup
	for i := range errs {
		b := d.open(t, func(rt http.RoundTripper) http.RoundTripper {
			if i == 0 {
				return &killed{RoundTripper: rt, after: doomed, made: round%2 == 0}
			}
			return rt
		})
		wg.Go(func() { objects[i], errs[i] = complete(t, b, parts) })
	}
	wg.Wait()
	if err := errors.Join(errs[1:]...); err != nil {
		t.Fatalf("round %d: Complete of %d parts by three replicas = %v", round, n, err)
	}
	if errs[0] != nil && !errors.Is(errs[0], errKilled) {
		t.Errorf("round %d: Complete of the killed replica = %v", round, errs[0])
	}
	for _, o := range objects[1:] {
		d.wantCompleted(t, o, parts)
	}
	if d.composed > fewest(n) && !keeps {
		t.Errorf("round %d: Complete of %d parts took %d composes, want %d", round, n, d.composed, fewest(n))
	}
}

// TestCompleteOtherAttempt has two replicas that each store the last part. The
// second replica finishes what the first one started, with equal bytes.
func TestCompleteOtherAttempt(t *testing.T) {
	const n = 100
	for after := range fewest(n) + 1 {
		d := newDouble()
		mine := testParts(n)
		yours := slices.Clone(mine)
		d.stage(testUpload, mine)
		yours = append(slices.Clone(mine[:n-1]), yours[n-1])
		yours[n-1].Tag = attempt{"OTHER", 1}.tag()
		last := yours[n-1:]
		d.stage(testUpload, last)
		first := d.open(t, func(rt http.RoundTripper) http.RoundTripper { return &killed{RoundTripper: rt, after: after} })
		complete(t, first, mine) //nolint:errcheck // the replica is killed
		o, err := complete(t, d.open(t, nil), yours)
		if err != nil {
			t.Fatalf("Complete after a kill after %d requests = %v", after, err)
		}
		d.wantCompleted(t, o, yours)
	}
}

// TestCompleteRefused completes uploads that cannot be completed.
func TestCompleteRefused(t *testing.T) {
	const n = 70
	for name, c := range map[string]struct {
		change func(d *double, parts []drivers.Part)
		want   error
	}{
		"a part is gone": {func(d *double, parts []drivers.Part) {
			a, _ := parseAttempt(parts[40].Tag)
			delete(d.objects, partKey(testUpload, parts[40].Number, a.id))
		}, drivers.ErrChanged},
		"a part has another generation": {func(d *double, parts []drivers.Part) {
			a, _ := parseAttempt(parts[40].Tag)
			d.put(partKey(testUpload, parts[40].Number, a.id), parts[40].Size, parts[40].CRC32C)
		}, drivers.ErrChanged},
		"a malformed tag":    {func(_ *double, parts []drivers.Part) { parts[3].Tag = "W/x" }, drivers.ErrChanged},
		"all parts are gone": {func(d *double, _ []drivers.Part) { clear(d.objects) }, drivers.ErrNotFound},
		"a node of other parts": {func(d *double, parts []drivers.Part) {
			root, err := plan(testUpload, parts)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range root.sources {
				if s.sources != nil {
					d.put(s.key, s.size, s.crc32c+1)
				}
			}
		}, drivers.ErrChanged},
	} {
		d := newDouble()
		parts := testParts(n)
		d.stage(testUpload, parts)
		c.change(d, parts)
		if o, err := complete(t, d.open(t, nil), parts); !errors.Is(err, c.want) {
			t.Errorf("%s: Complete = %+v, %v, want %v", name, o, err, c.want)
		}
		if d.objects[testUpload.Key] != nil {
			t.Errorf("%s: Complete created an object", name)
		}
		d.put(testUpload.Key, 1, 2)
		if o, err := complete(t, d.open(t, nil), parts); err != nil || o.Size != 1 {
			t.Errorf("%s, with an existing object: Complete = %+v, %v, want that object", name, o, err)
		}
	}
}

// TestComposeRequest checks the fields of a compose request.
func TestComposeRequest(t *testing.T) {
	d := newDouble()
	parts := testParts(2)
	d.stage(testUpload, parts)
	var key, class string
	b := d.open(t, func(rt http.RoundTripper) http.RoundTripper {
		return transport(func(r *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			var req raw.ComposeRequest
			if err := json.Unmarshal(body, &req); err != nil {
				return nil, err
			}
			key, class = r.URL.Query().Get("kmsKeyName"), req.Destination.StorageClass
			r = r.Clone(r.Context())
			r.Body = io.NopCloser(bytes.NewReader(body))
			return rt.RoundTrip(r)
		})
	})
	b.store.cfg.KMSKey, b.store.cfg.StorageClass = "projects/p/locations/l/keyRings/r/cryptoKeys/k", "NEARLINE"
	if _, err := complete(t, b, parts); err != nil {
		t.Fatal(err)
	}
	if key != b.store.cfg.KMSKey || class != b.store.cfg.StorageClass {
		t.Errorf("KMS key and class of the compose = %q and %q, want %q and %q", key, class, b.store.cfg.KMSKey, b.store.cfg.StorageClass)
	}
}
