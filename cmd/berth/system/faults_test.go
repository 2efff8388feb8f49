package system

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// fault is a fault of the network between berth and the store. Without toxics the
// store cannot be reached.
type fault struct {
	name   string
	toxics []emulator.Toxic
}

func (f fault) inject(t *testing.T, w *emulator.Wire) {
	t.Helper()
	if f.toxics == nil {
		w.Cut(t)
	}
	w.Poison(t, f.toxics...)
}

// faults returns one fault of each kind, for clients that push parts of this size.
// factor returns how much larger or longer than usual each of them is.
func faults(part int, factor func() float64) []fault {
	toxic := func(kind, stream, attribute string, value float64) emulator.Toxic {
		return emulator.Toxic{Type: kind, Stream: stream, Attributes: map[string]int64{attribute: int64(value * factor())}}
	}
	return []fault{
		{"store down", nil},
		{"reset of responses", []emulator.Toxic{toxic("reset_peer", "downstream", "timeout", 30)}},
		{"requests that break off", []emulator.Toxic{toxic("limit_data", "upstream", "bytes", 300_000)}},
		{"responses that break off", []emulator.Toxic{toxic("limit_data", "downstream", "bytes", 200)}},
		{"silence of the store", []emulator.Toxic{toxic("timeout", "downstream", "timeout", 100)}},
		{"silence of berth", []emulator.Toxic{toxic("timeout", "upstream", "timeout", 100)}},
		{"reads that break off", []emulator.Toxic{toxic("limit_data", "downstream", "bytes", 20_000)}},
		{"slow close", []emulator.Toxic{toxic("limit_data", "upstream", "bytes", 0.4*float64(part)), toxic("slow_close", "downstream", "delay", 200)}},
		{"reset of requests", []emulator.Toxic{toxic("reset_peer", "upstream", "timeout", 30)}},
		{"latency", []emulator.Toxic{toxic("latency", "upstream", "latency", 40), toxic("latency", "downstream", "jitter", 80)}},
	}
}

func usual() float64 { return 1 }

// Sizes of parts in these tests.
const (
	s3Part    = 5 << 20 // the least size that S3 accepts
	leastPart = 1 << 20 // the least size that berth accepts
)

// faultyStore starts a store behind a faulty network, and a berth on it.
type faultyStore struct {
	name  string
	part  int
	start func(t *testing.T, env ...string) (*process, *emulator.Wire)
}

func faultyStores() []faultyStore {
	return []faultyStore{{"S3", s3Part, faultyS3}, {"GCS", leastPart, faultyGCS}, {"Azure", leastPart, faultyAzure}}
}

func faultyS3(t *testing.T, env ...string) (*process, *emulator.Wire) {
	s := emulator.VersityGW(t)
	w := emulator.NewWire(t, s.Endpoint)
	return servingDirectly(t, append(append(s3Env(t, s), "BERTH_STORAGE_S3_ENDPOINT="+w.URL), env...), s3Part), w
}

func faultyGCS(t *testing.T, env ...string) (*process, *emulator.Wire) {
	s := emulator.FakeGCS(t)
	w := emulator.NewWire(t, s.Endpoint)
	return servingDirectly(t, append(append(gcsEnv(t, s), "BERTH_STORAGE_GCS_ENDPOINT="+w.URL), env...), leastPart), w
}

func faultyAzure(t *testing.T, env ...string) (*process, *emulator.Wire) {
	s := emulator.Azurite(t)
	w := emulator.NewWire(t, s.Endpoint)
	return servingDirectly(t, append(append(azureEnv(t, s), "BERTH_STORAGE_AZURE_ENDPOINT="+w.URL), env...), leastPart), w
}

// TestFaults pushes and reads during each kind of fault, on one store for each kind.
// Nothing that was acknowledged is lost, every blob that can be read is the blob that
// was pushed, and clients that retry succeed once the fault is over.
func TestFaults(t *testing.T) {
	t.Parallel()
	stores := faultyStores()
	for i, store := range stores {
		t.Run(store.name, func(t *testing.T) {
			t.Parallel()
			var chosen []fault
			for j, f := range faults(store.part, usual) {
				if j%len(stores) == i {
					chosen = append(chosen, f)
				}
			}
			testFaults(t, store, chosen, noRetries)
		})
	}
}

// TestLongFaults is TestFaults with each kind of fault on each store.
func TestLongFaults(t *testing.T) {
	skipUnlessLong(t, "every kind of fault on every store")
	for _, store := range faultyStores() {
		t.Run(store.name, func(t *testing.T) {
			t.Parallel()
			testFaults(t, store, faults(store.part, usual), noRetries)
		})
	}
}

// TestFaultsSoak is TestFaults with random kinds of faults, of random extent.
func TestFaultsSoak(t *testing.T) {
	if os.Getenv("BERTH_TEST_SOAK") == "" {
		t.Skip("NOT TESTED: minutes of random faults; make soak runs it (BERTH_TEST_SOAK=1)")
	}
	for _, store := range faultyStores() {
		t.Run(store.name, func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			var chosen []fault
			for range 40 {
				all := faults(store.part, func() float64 { return math.Exp(3 * rng.NormFloat64() / 2) })
				chosen = append(chosen, all[rng.IntN(len(all))])
			}
			testFaults(t, store, chosen)
		})
	}
}

// noRetries makes every fault on S3 visible to berth. The SDKs of the other stores
// retry for seconds.
const noRetries = "BERTH_STORAGE_S3_RETRIES=0"

// testFaults injects each of the faults for a moment, while clients push and read.
func testFaults(t *testing.T, store faultyStore, faults []fault, env ...string) {
	const duration = 250 * time.Millisecond
	p, w := store.start(t, env...)
	l := &load{f: &fleet{replicas: []*process{p}}, part: store.part}
	if l.push(t, 1); t.Failed() {
		return
	}
	for i, fault := range faults {
		fault.inject(t, w)
		l.during(t, uint64(2+i), func() {
			time.Sleep(duration)
			w.Heal(t)
		})
		if t.Failed() {
			t.Fatalf("%s: %v\n%s", fault.name, fault.toxics, &p.stderr)
		}
	}
	testUnavailable(t, p, store.part, 0, func() { w.Cut(t) }, func() { w.Heal(t) })
	l.readAll(t)
	wantIdle(t, p)
}

// TestSilentStores tests stores that accept requests and never answer. A request for
// a blob or for the status of an upload returns within a minute with a request to
// retry, and succeeds once the store answers. A GET of a blob with a cached link
// waits for its bytes. The cache holds one link.
func TestSilentStores(t *testing.T) {
	t.Parallel()
	path := func(data []byte) string { return "/v2/test/blobs/" + digest.FromBytes(data).String() }
	data, cached := randomBytes(8, 50_000), randomBytes(9, 50_000)
	blob := path(data)
	type silentStore struct {
		name     string
		p        *process
		w        *emulator.Wire
		location string // of an upload
	}
	var stores []silentStore
	for _, store := range faultyStores() {
		p, w := store.start(t, "BERTH_CACHE_ENTRIES=1")
		for _, data := range [][]byte{data, cached} {
			want(t, p, http.StatusCreated, http.MethodPut, finish(startUpload(t, p), data), bytes.NewReader(data))
			wantBlob(t, p, data)
		}
		location := want(t, p, http.StatusAccepted, http.MethodPatch, startUpload(t, p), bytes.NewReader(data)).header.Get("Location")
		w.Poison(t, emulator.Toxic{Type: "timeout", Stream: "downstream", Attributes: map[string]int64{"timeout": 0}})
		stores = append(stores, silentStore{store.name, p, w, location})
	}
	start := time.Now()
	var requests sync.WaitGroup // at the same time, because they only wait
	for _, s := range stores {
		for _, r := range []struct{ method, path string }{
			{http.MethodHead, blob}, {http.MethodGet, blob}, {http.MethodGet, path(cached)}, {http.MethodDelete, blob}, {http.MethodPatch, s.location},
		} {
			requests.Go(func() {
				a, err := request(t.Context(), s.p, r.method, r.path, nil)
				if err != nil {
					t.Errorf("%s: %s while the store is silent: %v", s.name, r.method, err)
					return
				}
				wantUnavailable(t, s.name+": "+r.method+" while the store is silent", a)
				if d := time.Since(start); d > patience {
					t.Errorf("%s: %s took %v while the store is silent, want at most %v", s.name, r.method, d, patience)
				}
			})
		}
	}
	requests.Wait()
	for _, s := range stores {
		s.w.Heal(t)
		want(t, s.p, http.StatusOK, http.MethodHead, blob, nil)
		want(t, s.p, http.StatusNoContent, http.MethodGet, s.location, nil)
	}
}

// testUnavailable makes a store unavailable in the middle of an upload that has a
// part already. Each request gets a 503 with Retry-After, none of them publishes a
// blob, and the upload resumes where it was once the store is available. Each turn
// pushes other bytes.
func testUnavailable(t *testing.T, p *process, part, turn int, makeUnavailable, makeAvailable func()) {
	data := randomBytes(uint64(60_000+turn), 2*part+1000)
	half := part + 1000 // the rest is another part
	blob := "/v2/test/blobs/" + digest.FromBytes(data).String()
	small := digest.FromBytes(data[:10])
	location := want(t, p, http.StatusAccepted, http.MethodPatch, startUpload(t, p), bytes.NewReader(data[:half])).header.Get("Location")
	makeUnavailable()
	var clients sync.WaitGroup
	for _, r := range []struct {
		method, path string
		body         io.Reader
	}{
		{http.MethodPatch, location, bytes.NewReader(data[half:])},
		{http.MethodPut, finish(location, data), bytes.NewReader(data[half:])},
		{http.MethodGet, location, nil},
		{http.MethodPost, "/v2/test/blobs/uploads/?digest=" + small.String(), bytes.NewReader(data[:10])},
		{http.MethodGet, blob, nil},
		{http.MethodHead, blob, nil},
		{http.MethodDelete, blob, nil},
	} {
		clients.Go(func() {
			a, err := request(t.Context(), p, r.method, r.path, r.body)
			if err != nil {
				t.Errorf("%s while the store is unavailable: %v", r.method, err)
				return
			}
			wantUnavailable(t, r.method+" while the store is unavailable", a)
		})
	}
	clients.Wait()
	makeAvailable()
	for _, path := range []string{blob, "/v2/test/blobs/" + small.String()} {
		want(t, p, http.StatusNotFound, http.MethodGet, path, nil)
	}
	location, offset := status(t, p, location)
	if offset != half {
		t.Errorf("offset = %d, want %d", offset, half)
	}
	want(t, p, http.StatusCreated, http.MethodPut, finish(location, data), bytes.NewReader(data[offset:]))
	wantBlob(t, p, data)
}

// wantUnavailable fails the test unless a response is 503 with Retry-After.
func wantUnavailable(t *testing.T, what string, a response) {
	t.Helper()
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("%s = %d %s with Retry-After %q, want 503 with Retry-After", what, a.status, a.body, a.header.Get("Retry-After"))
	}
}

// servingDirectly runs a berth that serves all reads itself and has no cache. It has
// memory for the parts of few uploads, so that leaked buffers would soon be missing.
func servingDirectly(t *testing.T, env []string, part int) *process {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "berth.yaml")
	config := fmt.Sprintf("redirect: {rules: [{target: direct}]}\ncache: {entries: 0}\nupload: {part_size: %d, memory: %d}\n", part, max(8*part, 16<<20))
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := start(dir, env, "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// unexpectedLines returns the lines of a log that no fault of a store explains.
func unexpectedLines(log string) []string {
	return regexp.MustCompile(`(?m)^.* (status=500|method=(PATCH|PUT) .*status=404) .*$|^.*(DATA RACE|panic).*$`).FindAllString(log, -1)
}

// wantIdle ends a berth that has nothing to do. It fails the test if the log has
// unexpected lines, or if a goroutine of a request is still running.
func wantIdle(t *testing.T, p *process) {
	t.Helper()
	for _, line := range unexpectedLines(p.stderr.String()) {
		t.Errorf("berth logged: %s", line)
	}
	logged := len(p.stderr.String())
	if err := p.cmd.Process.Signal(syscall.SIGQUIT); err != nil { // the runtime prints all goroutines
		t.Fatal(err)
	}
	<-p.exited
	goroutines := strings.Split(p.stderr.String()[logged:], "\n\n")
	if len(goroutines) < 3 {
		t.Fatalf("berth printed no goroutines after SIGQUIT: %s", &p.stderr)
	}
	for _, g := range goroutines {
		for _, pkg := range []string{"blobstore", "upload", "drivers"} {
			if strings.Contains(g, "github.com/berthhq/berth/"+pkg) {
				t.Errorf("a goroutine of %s is still running:\n%s", pkg, g)
				break
			}
		}
	}
}
