package system

import (
	"bytes"
	"context"
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

// fault is what is wrong on the way to the store. Without toxics the store
// cannot be reached at all.
type fault struct {
	name   string
	toxics []emulator.Toxic
}

func (f fault) begin(t *testing.T, w *emulator.Wire) {
	t.Helper()
	if f.toxics == nil {
		w.Cut(t)
	}
	w.Poison(t, f.toxics...)
}

// faults are those that stores go through, for clients that push parts of this
// size. factor is how much later or larger each of them is than usual.
func faults(part int, factor func() float64) []fault {
	toxic := func(kind, stream, attribute string, value float64) emulator.Toxic {
		return emulator.Toxic{Type: kind, Stream: stream, Attributes: map[string]int64{attribute: int64(value * factor())}}
	}
	return []fault{
		{"store down", nil},
		{"reset of answers", []emulator.Toxic{toxic("reset_peer", "downstream", "timeout", 30)}},
		{"requests that break off", []emulator.Toxic{toxic("limit_data", "upstream", "bytes", 300_000)}},
		{"answers that break off", []emulator.Toxic{toxic("limit_data", "downstream", "bytes", 200)}},
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
	s3Part    = 5 << 20 // the least that S3 takes
	leastPart = 1 << 20 // the least that berth takes
)

// TestFaultsOnS3, and those on the other stores, push and read while the way to
// the store is bad in one way after the other. Nothing acknowledged is lost,
// what can be read is what was pushed, and clients that try again end well once
// the way is good. The SDK tries nothing again: all that fails shows.
func TestFaultsOnS3(t *testing.T) {
	t.Parallel()
	p, w := faultyS3(t, "BERTH_STORAGE_S3_RETRIES=0")
	testFaults(t, p, w, s3Part, faults(s3Part, usual))
}

// The SDKs of the other stores try again for seconds what fails.
func TestFaultsOnGCS(t *testing.T) {
	t.Parallel()
	p, w := faultyGCS(t)
	testFaults(t, p, w, leastPart, faults(leastPart, usual))
}

func TestFaultsOnAzure(t *testing.T) {
	t.Parallel()
	p, w := faultyAzure(t)
	testFaults(t, p, w, leastPart, faults(leastPart, usual))
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

// TestSilentStores tests stores that accept requests and never answer. A request
// for a blob, or for the status of an upload, returns within a minute with a
// request to retry, and succeeds once the store answers. The same holds for a
// blob with its link in the cache, which holds one: the client waits for bytes.
func TestSilentStores(t *testing.T) {
	t.Parallel()
	path := func(data []byte) string { return "/v2/test/blobs/" + digest.FromBytes(data).String() }
	data, inCache := randomBytes(8, 50_000), randomBytes(9, 50_000)
	blob := path(data)
	type silent struct {
		name     string
		p        *process
		w        *emulator.Wire
		location string // of an upload
	}
	var stores []silent
	for name, faulty := range map[string]func(*testing.T, ...string) (*process, *emulator.Wire){"S3": faultyS3, "GCS": faultyGCS, "Azure": faultyAzure} {
		p, w := faulty(t, "BERTH_CACHE_ENTRIES=1")
		for _, data := range [][]byte{data, inCache} {
			want(t, p, http.StatusCreated, http.MethodPut, finish(startUpload(t, p), data), bytes.NewReader(data))
			wantBlob(t, p, data)
		}
		location := want(t, p, http.StatusAccepted, http.MethodPatch, startUpload(t, p), bytes.NewReader(data)).header.Get("Location")
		w.Poison(t, emulator.Toxic{Type: "timeout", Stream: "downstream", Attributes: map[string]int64{"timeout": 0}})
		stores = append(stores, silent{name, p, w, location})
	}
	start := time.Now()
	var asked sync.WaitGroup // all at once, for it takes time and no work
	for _, s := range stores {
		for _, r := range []struct{ method, path string }{
			{http.MethodHead, blob}, {http.MethodGet, blob}, {http.MethodGet, path(inCache)}, {http.MethodDelete, blob}, {http.MethodPatch, s.location},
		} {
			asked.Go(func() {
				a, err := request(t.Context(), s.p, r.method, r.path, nil)
				if err != nil {
					t.Errorf("%s: %s of a silent store: %v", s.name, r.method, err)
					return
				}
				wantUnavailable(t, s.name+": "+r.method+" of a silent store", a)
				if d := time.Since(start); d > patience {
					t.Errorf("%s: berth waited %v for a silent store before it answered %s", s.name, d, r.method)
				}
			})
		}
	}
	asked.Wait()
	for _, s := range stores {
		s.w.Heal(t)
		want(t, s.p, http.StatusOK, http.MethodHead, blob, nil)
		want(t, s.p, http.StatusNoContent, http.MethodGet, s.location, nil)
	}
}

// TestFaultsSoak has faults in any order, each of them for any time and of any
// extent.
func TestFaultsSoak(t *testing.T) {
	if os.Getenv("BERTH_TEST_SOAK") == "" {
		t.Skip("NOT TESTED: minutes of random faults; BERTH_TEST_SOAK=1 asks for them")
	}
	for name, store := range map[string]struct {
		part   int
		faulty func(*testing.T, ...string) (*process, *emulator.Wire)
	}{
		"S3":    {s3Part, faultyS3},
		"GCS":   {leastPart, faultyGCS},
		"Azure": {leastPart, faultyAzure},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, w := store.faulty(t)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			var chosen []fault
			for range 40 {
				all := faults(store.part, func() float64 { return math.Exp(3 * rng.NormFloat64() / 2) })
				chosen = append(chosen, all[rng.IntN(len(all))])
			}
			testFaults(t, p, w, store.part, chosen)
		})
	}
}

// testFaults has each of the faults for a while, and looks at what is left.
func testFaults(t *testing.T, p *process, w *emulator.Wire, part int, faults []fault) {
	c := &crowd{f: &fleet{replicas: []*process{p}}, part: part}
	if c.push(t, 1); t.Failed() {
		return
	}
	for i, fault := range faults {
		fault.begin(t, w)
		c.use(t, uint64(2+i), func() {
			time.Sleep(faultLasts)
			w.Heal(t)
		})
		if t.Failed() {
			t.Fatalf("%s: %v\n%s", fault.name, fault.toxics, &p.stderr)
		}
	}
	testUnavailable(t, p, part, 0, func() { w.Cut(t) }, func() { w.Heal(t) })
	c.readAll(t)
	wantQuiet(t, p)
}

const faultLasts = 250 * time.Millisecond

// testUnavailable has a store that can't be used in the middle of an upload that
// has a part already, and then can be again. All is answered 503 with
// Retry-After, nothing of it can be read afterwards, and the upload resumes where
// it was. Each turn pushes other bytes.
func testUnavailable(t *testing.T, p *process, part, turn int, cut, heal func()) {
	data := randomBytes(uint64(60_000+turn), 2*part+1000)
	half := part + 1000 // what is left is another part
	blob := "/v2/test/blobs/" + digest.FromBytes(data).String()
	small := digest.FromBytes(data[:10])
	location := want(t, p, http.StatusAccepted, http.MethodPatch, startUpload(t, p), bytes.NewReader(data[:half])).header.Get("Location")
	cut()
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
				t.Errorf("%s without the store: %v", r.method, err)
				return
			}
			wantUnavailable(t, r.method+" without the store", a)
		})
	}
	clients.Wait()
	heal()
	for _, path := range []string{blob, "/v2/test/blobs/" + small.String()} {
		want(t, p, http.StatusNotFound, http.MethodGet, path, nil)
	}
	location, offset := status(t, p, location)
	if offset != half {
		t.Errorf("the upload is at %d, want %d", offset, half)
	}
	want(t, p, http.StatusCreated, http.MethodPut, finish(location, data), bytes.NewReader(data[offset:]))
	wantBlob(t, p, data)
}

// servingDirectly runs a berth that serves all reads itself, has no cache that
// could hide the store, and memory for the parts of few uploads: buffers that a
// failure leaked would be missing soon.
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

// crowd is clients that push and read at the same time.
type crowd struct {
	f    *fleet
	part int // size of parts, in bytes

	mu     sync.Mutex
	pushed [][]byte
}

// use pushes and reads until meanwhile is over, and until all has been pushed.
func (c *crowd) use(t *testing.T, seed uint64, meanwhile func()) {
	t.Helper()
	var clients sync.WaitGroup
	over := make(chan struct{})
	clients.Go(func() { c.push(t, seed) })
	clients.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			default:
				c.read(t, i)
			}
		}
	})
	meanwhile()
	close(over)
	clients.Wait()
}

// push pushes in the three ways at the same time: in chunks, in one PATCH and a
// PUT, and in a PUT alone.
func (c *crowd) push(t *testing.T, seed uint64) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var ways sync.WaitGroup
	for way, size := range []int{c.part + c.part/2, 50_000, c.part + 1000} {
		chunk := []int{size/2 + 1, size - 1000, size}[way]
		ways.Go(func() {
			data := randomBytes(10*seed+uint64(way), size)
			if err := newPusher(c.f, data).push(ctx, chunk); err != nil {
				t.Errorf("push of %d bytes, %d at a time: %v", size, chunk, err)
				return
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.pushed = append(c.pushed, data)
		})
	}
	ways.Wait()
}

// read reads a blob that was acknowledged. It need not come, but when it does,
// it is what was pushed.
func (c *crowd) read(t *testing.T, i int) {
	c.mu.Lock()
	data := c.pushed[i%len(c.pushed)]
	c.mu.Unlock()
	a, err := request(t.Context(), c.f.any(), http.MethodGet, "/v2/test/blobs/"+digest.FromBytes(data).String(), nil)
	switch {
	case err != nil:
		if !bytes.HasPrefix(data, a.body) {
			t.Errorf("a read of %d bytes that broke off began with other bytes", len(data))
		}
	case a.status == http.StatusOK:
		if !bytes.Equal(a.body, data) {
			t.Errorf("%d bytes were pushed; other %d bytes come back", len(data), len(a.body))
		}
	default:
		wantUnavailable(t, "GET", a)
	}
}

func (c *crowd) readAll(t *testing.T) {
	t.Helper()
	for _, data := range c.pushed {
		wantBlob(t, c.f.any(), data)
	}
}

// wantUnavailable fails the test unless an answer asks the client to retry.
func wantUnavailable(t *testing.T, what string, a answer) {
	t.Helper()
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("%s = %d %s with Retry-After %q, want 503 with one", what, a.status, a.body, a.header.Get("Retry-After"))
	}
}

// wrongs are the lines of a log that no fault of a store explains.
func wrongs(log string) []string {
	return regexp.MustCompile(`(?m)^.* (status=500|method=(PATCH|PUT) .*status=404) .*$|^.*(DATA RACE|panic).*$`).FindAllString(log, -1)
}

// wantQuiet ends a berth that has nothing to do, and looks at what it has
// logged, and at what it was doing: no store that can't be reached is a failure
// of berth, no upload is forgotten, and no goroutine still runs.
func wantQuiet(t *testing.T, p *process) {
	t.Helper()
	for _, line := range wrongs(p.stderr.String()) {
		t.Errorf("berth logged: %s", line)
	}
	logged := len(p.stderr.String())
	if err := p.cmd.Process.Signal(syscall.SIGQUIT); err != nil { // the runtime writes down all goroutines
		t.Fatal(err)
	}
	<-p.exited
	goroutines := strings.Split(p.stderr.String()[logged:], "\n\n")
	if len(goroutines) < 3 {
		t.Fatalf("berth said no goroutines after SIGQUIT: %s", &p.stderr)
	}
	for _, g := range goroutines {
		for _, busy := range []string{"berth/blobstore", "berth/upload", "berth/drivers"} {
			if strings.Contains(g, "github.com/berthhq/"+busy) {
				t.Errorf("a goroutine that has nothing to do any more:\n%s", g)
				break
			}
		}
	}
}
