package blobstore

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/collect"
	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/filesystem"
	"github.com/berthhq/berth/drivers/memory"
)

// This file connects package sim to this package: its actors are clients, each
// of a Store of its own.

// simRun is one run of a scenario.
type simRun struct {
	*sim.Run
	session Upload // that the setup has started, for actors that share one
	rivals  bool   // see scenario
	clients []*client

	images    bool // the actors use manifests and tags
	collector collect.Config
}

// scenario is a sim.Scenario with clients as its actors, which start together
// once setup is done.
type scenario struct {
	name   string
	habits memory.Habits // the zero value stands for tinyS3
	open   opener        // if not nil, it replaces a bucket in memory with the habits
	setup  func(*simRun) error
	actors []actor
	fault  sim.Fault
	tamper func(drivers.Bucket) drivers.Bucket

	// tamperA is tamper for the process of the first actor only.
	tamperA func(drivers.Bucket) drivers.Bucket

	// rivals means that the actors want different things of one session, so that
	// some of them must fail.
	rivals bool

	// images, if not nil, is the configuration of all processes, which use manifests
	// and tags. Then writes take effect in time, and the collector may run.
	images *Config

	// endless means that there are too many schedules for BERTH_TEST_SOAK.
	endless bool

	// after checks what must hold in the end.
	after func(*simRun) error
}

// actor is one client, which makes one request after another. In the end run
// must return nil.
type actor struct {
	name string
	run  func(c *client) error
}

// opener opens an empty bucket.
type opener = func(context.Context) (drivers.Bucket, error)

func inMemory(h memory.Habits) opener {
	return func(ctx context.Context) (drivers.Bucket, error) {
		return memory.Open(ctx, memory.Config{Store: &memory.Store{Habits: h}})
	}
}

// inFiles returns an opener of a new directory each time.
func inFiles(t *testing.T) opener {
	t.Helper()
	root := t.TempDir()
	var n atomic.Int64
	return func(ctx context.Context) (drivers.Bucket, error) {
		return filesystem.Open(ctx, filesystem.Config{Root: filepath.Join(root, strconv.FormatInt(n.Add(1), 10))})
	}
}

// tinyS3 returns the habits of S3 with parts of a few bytes.
func tinyS3() memory.Habits {
	h := memory.S3()
	h.Limits.MinPart = tinyPart
	return h
}

// streaming returns the habits of a store that takes parts of any length as they
// arrive, as a directory does.
func streaming() memory.Habits {
	return memory.Habits{Limits: drivers.Limits{MaxPart: 1 << 20, MaxParts: 1000, Stream: true}}
}

// tinyStores returns the habits of all kinds of store, with tiny parts.
func tinyStores() map[string]memory.Habits {
	return map[string]memory.Habits{"S3": tinyS3(), "GCS": memory.GCS(), "Azure": memory.Azure(), "memory": streaming()}
}

// Sizes of tiny blobs and of the parts that larger ones are cut into, in bytes.
const (
	tinyInline = 64
	tinyPart   = 256
)

func tiny() Config {
	return Config{
		InlineMax: tinyInline,
		Upload:    UploadConfig{Memory: 512 << 10, PartSize: tinyPart, ParallelParts: 1},
		Cache:     CacheConfig{Entries: -1},
	}
}

// readers is a sim.Scenario's Read.
func readers(ctx context.Context, b drivers.Bucket) (sim.ReadFunc, error) {
	cfg := withoutCache(smallParts())
	// This process must not raise the limits of the bucket: it only reads.
	cfg.RequestLimit, cfg.Upload.SessionLifetime = time.Minute, time.Minute
	s, err := Open(ctx, b, cfg)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, repository string, d digest.Digest) ([]byte, error) {
		return unchecked(s, repository).Get(ctx, d)
	}, nil
}

func withoutCache(c Config) Config {
	c.Cache.Entries = -1
	return c
}

// simulated returns the scenario for package sim.
func (sc scenario) simulated() sim.Scenario {
	open := sc.open
	switch {
	case open != nil:
	case sc.habits == (memory.Habits{}):
		open = inMemory(tinyS3())
	default:
		open = inMemory(sc.habits)
	}
	simulated := sim.Scenario{Open: open, Read: readers, Fault: sc.fault}
	simulated.Tamper = func(actor int, b drivers.Bucket) drivers.Bucket {
		if sc.tamper != nil {
			b = sc.tamper(b)
		}
		if sc.tamperA != nil && actor == 0 {
			b = sc.tamperA(b)
		}
		return b
	}
	var run *simRun
	simulated.Start = func(r *sim.Run) (actors []sim.Actor, err error) {
		run = &simRun{Run: r, rivals: sc.rivals}
		return sc.start(run)
	}
	if sc.after != nil {
		simulated.After = func(*sim.Run) error { return sc.after(run) }
	}
	if sc.images != nil {
		simulated.ReadManifest, simulated.RequestLimit = readImages, imageLimit
	}
	return simulated
}

// start opens a Store for each actor and prepares the bucket.
func (sc scenario) start(run *simRun) ([]sim.Actor, error) {
	cfg := tiny()
	if sc.images != nil {
		cfg = *sc.images
		run.collects(cfg)
	}
	var actors []sim.Actor
	for i, a := range sc.actors {
		b := run.Process(i)
		s, err := Open(run.Ctx, b, cfg)
		if err != nil {
			return nil, err
		}
		c := &client{run: run, s: s, actor: i, bucket: b, cached: cfg.Cache.Entries > 0}
		run.clients = append(run.clients, c)
		do := func() error { return a.run(c) }
		if sc.images == nil { // otherwise the actors repeat their requests
			request := do
			do = func() error { return stubborn(request) }
		}
		actors = append(actors, sim.Actor{Name: a.name, Run: do})
	}
	if sc.setup == nil {
		return actors, nil
	}
	return actors, sc.setup(run)
}

// The searches that would take minutes run whole with BERTH_TEST_LONG (`make
// test-long`), and with BERTH_TEST_SOAK even longer. Otherwise they run a share
// that is drawn by a seed, so that each kind of case is met and another share is
// run each time. BERTH_TEST_SEED repeats the share of a test that failed.

// long reports whether searches are to run whole.
func long() bool { return os.Getenv("BERTH_TEST_LONG") != "" || soak() }

// soak reports whether searches are to include what shows little new.
func soak() bool { return os.Getenv("BERTH_TEST_SOAK") != "" }

// testSeed returns the seed of this process.
var testSeed = sync.OnceValue(func() uint64 {
	if seed, err := strconv.ParseUint(os.Getenv("BERTH_TEST_SEED"), 10, 64); err == nil {
		return seed
	}
	return rand.Uint64()
})

// drawn returns a source of random numbers for a case with this name.
func drawn(name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(testSeed(), h.Sum64()))
}

// everyInterleaving runs a scenario in every schedule, or in some that are drawn.
func everyInterleaving(t *testing.T, sc scenario) {
	t.Helper()
	t.Run(sc.name, func(t *testing.T) {
		t.Parallel()
		if n := sc.draws(); n > 0 {
			drawSome(t, sc, n)
			return
		}
		done := sim.Explore(t, sc.simulated(), 0)
		if done.Violation != nil {
			t.Error(done.Violation)
		}
		t.Logf("%d schedules", done.Schedules)
	})
}

// draws returns the number of schedules of a scenario that are drawn. It is zero if all
// are run.
func (sc scenario) draws() int {
	switch {
	case !long():
		return 1
	case sc.images != nil && !soak():
		return 4
	case sc.endless:
		return 200
	default:
		return 0
	}
}

// drawSome runs a scenario in n schedules that are drawn.
func drawSome(t *testing.T, sc scenario, n int) {
	t.Helper()
	rng := drawn(t.Name())
	synctest.Test(t, func(t *testing.T) {
		for range n {
			if err := sc.simulated().Draw(t.Context(), rng); err != nil {
				t.Fatalf("BERTH_TEST_SEED=%d: %v", testSeed(), err)
			}
		}
	})
}

// everyLateWrite runs a scenario, of one actor, for each of its writes: the write
// gets an error as its response, and takes effect at any later time.
func everyLateWrite(t *testing.T, sc scenario) {
	t.Helper()
	t.Run(sc.name, func(t *testing.T) {
		t.Parallel()
		sc.fault = sim.Fault{Mode: drivertest.Late}
		if !long() {
			sc.fault.Nth = 1 + drawn(t.Name()+" write").IntN(10)
			drawSome(t, sc, 1)
			return
		}
		for hit, total := true, 0; hit; {
			sc.fault.Nth++
			done := sim.Explore(t, sc.simulated(), 0)
			if done.Violation != nil {
				t.Fatalf("write %d late: %v", sc.fault.Nth, done.Violation)
			}
			hit = done.Hit
			if total += done.Schedules; !hit {
				t.Logf("%d schedules of %d writes", total, sc.fault.Nth-1)
			}
		}
	})
}

// onEveryDriver runs f with an empty bucket of each kind, and checks afterwards
// that the invariants hold. Parts have a few bytes.
func onEveryDriver(t *testing.T, f func(t *testing.T, run *simRun)) {
	t.Helper()
	for name, h := range tinyStores() {
		t.Run(name, func(t *testing.T) { onBucket(t, inMemory(h), f) })
	}
	t.Run("filesystem", func(t *testing.T) { onBucket(t, inFiles(t), f) })
}

// onS3 runs f with a bucket that has the habits of S3, as onEveryDriver does.
func onS3(t *testing.T, f func(t *testing.T, run *simRun)) {
	t.Helper()
	onBucket(t, inMemory(tinyS3()), f)
}

func onBucket(t *testing.T, open opener, f func(t *testing.T, run *simRun)) {
	t.Helper()
	b, err := open(t.Context())
	must(t, err)
	t.Cleanup(func() { b.Close() })
	run := &simRun{Run: sim.NewRun(t.Context(), b, readers)}
	f(t, run)
	run.mustHold(t)
}

// mustHold fails the test if the bucket breaks an invariant or contradicts the
// ledger.
func (run *simRun) mustHold(t *testing.T) {
	t.Helper()
	if err := run.Check(); err != nil {
		t.Errorf("an invariant does not hold:\n%v", err)
	}
}

// replica returns a client of a process that has just started. The Intercepts
// stand in front of its bucket, the first one outermost.
func (run *simRun) replica(t *testing.T, f ...drivertest.Intercept) *client {
	t.Helper()
	return run.replicaWith(t, tiny(), f...)
}

func (run *simRun) replicaWith(t *testing.T, cfg Config, f ...drivertest.Intercept) *client {
	t.Helper()
	b := run.Bucket
	for i := range f {
		b = drivertest.Wrap(b, f[len(f)-1-i])
	}
	return &client{run: run, s: openStore(t, b, cfg)}
}

// inventory reads the whole bucket.
func (run *simRun) inventory(t *testing.T) *sim.Inventory {
	t.Helper()
	inv, err := run.Invariants.Read(run.Ctx, run.Bucket)
	must(t, err)
	return inv
}

// must fails the test immediately if there is an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// expect returns err unless it is one of the expected errors.
func expect(err error, expected ...error) error {
	for _, e := range expected {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}
