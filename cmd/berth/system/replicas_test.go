package system

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/filesystem"
)

// sharedStore is a store that replicas share.
type sharedStore struct {
	env      []string // of a berth on an empty bucket
	setting  string   // the variable of env that holds the endpoint; empty if the store has none
	endpoint string
	part     int      // the least size of parts, in bytes
	requests []string // kinds of requests at which replicas are killed
	orphans  bool     // parts of killed replicas show up as uploads

	// life is the average life of a replica that is not killed at a request.
	life time.Duration

	// open opens the bucket with its driver.
	open func(ctx context.Context) (drivers.Bucket, error)

	// list returns what is in the bucket, without its driver, except what always
	// stays there.
	list func(t *testing.T) []string
}

// shape is the size of a blob and of the chunks in which it is pushed.
type shape struct{ size, chunk int }

// shapes returns the shapes of the blobs that a client pushes: one small blob and one
// of several parts, or all of them. Where parts are large, each client pushes only one
// blob of several parts.
func (s *sharedStore) shapes(client int, all bool) []shape {
	part := s.part
	small := []shape{{1000, 400}, {20_000, 8000}, {50_000, 50_000}, {400_000, 150_000}}
	large := []shape{
		{part + part/5, part * 3 / 5}, // the first chunk is smaller than a part
		{2*part + part/4, part + part/8},
		{part + 1000, 2 * part}, // in one PUT
		{3 * part, part + part/3},
	}
	switch {
	case !all:
		return []shape{small[client], large[client]}
	case part < 5<<20:
		return append(small, large...)
	default:
		return append(small, large[client])
	}
}

const (
	replicas    = 3
	pushClients = 4
)

// chaos is how much replicas go through.
type chaos struct {
	randomKills int  // of each replica, in addition to one at each moment of a request
	allShapes   bool // each client pushes blobs of all shapes
}

var (
	someChaos = chaos{randomKills: 1}
	fullChaos = chaos{randomKills: math.MaxInt, allShapes: true}
)

// TestReplicas kills some replicas on each kind of store.
func TestReplicas(t *testing.T) {
	for name, test := range map[string]struct {
		start func(t *testing.T) sharedStore
		chaos chaos
	}{
		"filesystem": {replicatedFilesystem, chaos{randomKills: 3, allShapes: true}},
		"S3":         {replicatedVersityGW, someChaos},
		"GCS":        {replicatedGCS, someChaos},
		"Azure":      {replicatedAzure, someChaos},
	} {
		t.Run(name, func(t *testing.T) { testReplicas(t, test.start(t), test.chaos) })
	}
}

// TestLongReplicas kills replicas all the time. It also covers MinIO, where deletes leave
// empty objects.
func TestLongReplicas(t *testing.T) {
	skipUnlessLong(t, "replicas that are killed all the time, on every store")
	for name, start := range map[string]func(t *testing.T) sharedStore{
		"filesystem": replicatedFilesystem,
		"versitygw":  replicatedVersityGW,
		"MinIO":      replicatedMinIO,
		"GCS":        replicatedGCS,
		"Azure":      replicatedAzure,
	} {
		t.Run(name, func(t *testing.T) { testReplicas(t, start(t), fullChaos) })
	}
}

// testReplicas pushes through three replicas that are killed in the middle of each kind
// of request to the store, and at random moments. Each chunk goes to another replica than
// the chunk before. In the end each replica serves every acknowledged blob, and what
// killed replicas have left can be removed.
func testReplicas(t *testing.T, s sharedStore, c chaos) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	k := newKiller(s.requests)
	f := s.startFleet(t, k)
	k.start(f)

	stop := make(chan struct{})
	var kills atomic.Int32
	var replacing sync.WaitGroup
	for i := range replicas {
		replacing.Go(func() { kills.Add(replaceKilled(t, f, i, s.life, c.randomKills, stop)) })
	}
	pushed := s.pushBlobs(ctx, t, f, c.allShapes)
	close(stop)
	replacing.Wait()
	t.Logf("%d replicas were killed", kills.Load())
	if kills.Load() == 0 {
		t.Error("no replica was killed")
	}
	for _, m := range k.missed() {
		t.Errorf("no replica was killed %s", m)
	}

	for i := range replicas {
		if err := f.replace(i, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, data := range pushed {
		wantBlob(t, f.any(), data)
	}
	s.wantRemovable(t)
}

// startFleet starts the replicas. Each reaches the store by a proxy of the killer.
func (s *sharedStore) startFleet(t *testing.T, k *killer) *fleet {
	t.Helper()
	env := append(slices.Clone(s.env), fmt.Sprintf("BERTH_UPLOAD_PART_SIZE=%d", s.part))
	endpoints := make([]string, replicas)
	for i := range endpoints {
		if s.setting != "" {
			endpoints[i] = s.setting + "=" + k.endpoint(t, s.endpoint, i)
		}
	}
	return newFleet(t, replicas, func(i int) (*process, error) {
		return start(t.TempDir(), append(slices.Clip(env), endpoints[i]))
	})
}

// replaceKilled replaces a replica whenever it was killed, until stop is closed, and
// returns how often it did. It kills the replica itself after random times, up to
// randomKills times.
func replaceKilled(t *testing.T, f *fleet, i int, life time.Duration, randomKills int, stop <-chan struct{}) (kills int32) {
	rng := rand.New(rand.NewPCG(1, uint64(i)))
	for {
		var due <-chan time.Time
		if randomKills > 0 {
			due = time.After(life/3 + time.Duration(rng.Int64N(int64(life*4/3))))
		}
		select {
		case <-stop:
			return kills
		case <-f.replica(i).exited:
		case <-due:
			randomKills--
		}
		if err := f.replace(i, time.Duration(rng.IntN(100))*time.Millisecond); err != nil {
			t.Error(err)
			return kills
		}
		kills++
	}
}

// pushBlobs pushes blobs by several clients at a time, and returns the blobs that
// were acknowledged.
func (s *sharedStore) pushBlobs(ctx context.Context, t *testing.T, f *fleet, all bool) (pushed [][]byte) {
	var mu sync.Mutex
	var clients sync.WaitGroup
	for i := range pushClients {
		clients.Go(func() {
			for j, blob := range s.shapes(i, all) {
				data := randomBytes(uint64(1000+i*100+j), blob.size+i)
				if err := newPushClient(f, data).push(ctx, blob.chunk); err != nil {
					t.Errorf("client %d: push of %d bytes: %v", i, len(data), err)
					return
				}
				mu.Lock()
				pushed = append(pushed, data)
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	return pushed
}

// wantRemovable removes everything from a bucket through its driver, which must list
// everything that killed replicas have left.
func (s *sharedStore) wantRemovable(t *testing.T) {
	t.Helper()
	bucket, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()
	uploads, keys := removeAll(t, bucket)
	t.Logf("%d objects and %d uploads were left", keys, uploads)
	if keys == 0 {
		t.Error("no object was left, want at least those of the blobs")
	}
	if uploads == 0 && s.orphans {
		t.Error("no upload was left, want some of killed replicas")
	}
	if uploads, keys := removeAll(t, bucket); uploads+keys > 0 {
		t.Errorf("the driver lists %d objects and %d uploads after it removed all", keys, uploads)
	}
	if left := s.list(t); len(left) > 0 {
		t.Errorf("the store still has %q after the driver removed all", left)
	}
}

// removeAll aborts the uploads and deletes the objects that a bucket lists, and
// returns their numbers.
func removeAll(t *testing.T, bucket drivers.Bucket) (uploads, keys int) {
	t.Helper()
	for u, err := range bucket.Uploads(t.Context(), "") {
		if err == nil {
			err = bucket.Abort(t.Context(), u)
		}
		if err != nil {
			t.Fatal(err)
		}
		uploads++
	}
	var all []string
	for o, err := range bucket.List(t.Context(), "", "", 0) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o.Key)
	}
	if err := bucket.Delete(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
	return uploads, len(all)
}

// settingOf returns the value of a variable in an environment.
func settingOf(env []string, name string) string {
	for _, s := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(s, name+"="); ok {
			return value
		}
	}
	return ""
}

// replicatedFilesystem returns an empty directory.
func replicatedFilesystem(t *testing.T) sharedStore {
	t.Helper()
	root := t.TempDir()
	return sharedStore{
		env:  append(cleanEnv(), "BERTH_STORAGE_FILESYSTEM_ROOT="+root),
		part: 4 << 20,
		life: 300 * time.Millisecond,
		open: func(ctx context.Context) (drivers.Bucket, error) {
			return filesystem.Open(ctx, filesystem.Config{Root: root})
		},
		list: func(t *testing.T) (left []string) {
			err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
				if err == nil && !entry.IsDir() && filepath.Base(filepath.Dir(path)) != "locks" {
					left = append(left, path)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return left
		},
	}
}
