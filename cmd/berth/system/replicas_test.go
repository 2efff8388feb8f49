package system

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/filesystem"
)

// fleet is several replicas on one store, any of which may be gone at any time.
type fleet struct {
	start func(i int) (*process, error)

	mu       sync.Mutex
	replicas []*process
	next     int
}

// newFleet starts n replicas that run until the end of the test.
func newFleet(t *testing.T, n int, start func(i int) (*process, error)) *fleet {
	t.Helper()
	f := &fleet{start: start}
	t.Cleanup(func() {
		for _, p := range f.replicas {
			p.kill()
		}
	})
	for i := range n {
		p, err := start(i)
		if err != nil {
			t.Fatal(err)
		}
		f.replicas = append(f.replicas, p)
	}
	return f
}

// turn returns the number of the next replica, as behind a round-robin
// proxy, but never this one, if there are others.
func (f *fleet) turn(not int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	if f.next %= len(f.replicas); f.next == not {
		f.next = (f.next + 1) % len(f.replicas)
	}
	return f.next
}

func (f *fleet) replica(i int) *process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replicas[i]
}

// any is some replica.
func (f *fleet) any() *process { return f.replica(f.turn(nobody)) }

// nobody is a number that no replica has.
const nobody = -1

// replace kills a replica that still runs, and starts another one a moment later.
func (f *fleet) replace(i int, after time.Duration) error {
	p := f.replica(i)
	p.kill()
	if wrong := wrongs(p.stderr.String()); len(wrong) > 0 {
		return fmt.Errorf("berth logged: %q", wrong)
	}
	time.Sleep(after)
	p, err := f.start(i)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replicas[i] = p
	return nil
}

// pusher is a client that pushes one blob in chunks, and does after a failure
// what the specification requires of clients. It never starts over: replicas must
// not forget what any of them has acknowledged.
type pusher struct {
	f        *fleet
	data     []byte
	location string
	offset   int  // where to resume: what was acknowledged
	sent     int  // at most so much has come
	took     int  // the replica that the last bytes went to
	finishes bool // a PUT was sent, and may have taken effect
}

func newPusher(f *fleet, data []byte) *pusher { return &pusher{f: f, data: data, took: nobody} }

// errPatience is the error of a push that took longer than the test waits.
var errPatience = errors.New("no end to it")

func (c *pusher) push(ctx context.Context, chunk int) error {
	for range 10_000 {
		var a answer
		var err error
		end := min(c.offset+chunk, len(c.data))
		switch {
		case c.location == "":
			a, err = request(ctx, c.f.any(), http.MethodPost, "/v2/test/blobs/uploads/", nil)
		case end < len(c.data):
			a, err = c.send(ctx, http.MethodPatch, c.location, end)
		default:
			c.finishes = true
			a, err = c.send(ctx, http.MethodPut, finish(c.location, c.data), end)
		}
		switch {
		case err == nil && a.status == http.StatusCreated:
			return nil
		case err == nil && a.status == http.StatusAccepted:
			began := c.location == ""
			if err = c.goOn(a); err == nil && !began && c.offset != end {
				err = fmt.Errorf("%d bytes were sent, and 202 acknowledges %d", end, c.offset)
			}
		case err == nil && a.status == http.StatusRequestedRangeNotSatisfiable:
			err = c.goOn(a)
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil || a.status == http.StatusServiceUnavailable:
			time.Sleep(20 * time.Millisecond)
			err = c.ask(ctx)
		default:
			return fmt.Errorf("after %d bytes: answered %d %s", c.offset, a.status, a.body)
		}
		if err != nil {
			return err
		}
	}
	return errPatience
}

// send sends the bytes up to end, to another replica than those before.
func (c *pusher) send(ctx context.Context, method, location string, end int) (answer, error) {
	c.took = c.f.turn(c.took)
	c.sent = max(c.sent, end)
	p := c.f.replica(c.took)
	req, err := http.NewRequestWithContext(ctx, method, p.url+location, bytes.NewReader(c.data[c.offset:end]))
	if err != nil {
		return answer{}, err
	}
	if method == http.MethodPatch {
		req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", c.offset, end-1))
	}
	res, err := p.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, body}, err
}

// goOn reads the location and the offset from an answer. The offset is never less
// than what was acknowledged before, nor more than what was sent.
func (c *pusher) goOn(a answer) error {
	last, err := strconv.Atoi(strings.TrimPrefix(a.header.Get("Range"), "0-"))
	if err != nil {
		return fmt.Errorf("%d with Range %q", a.status, a.header.Get("Range"))
	}
	offset := last + 1
	if last == 0 {
		offset = 0 // nothing has arrived; no client here sends a single byte
	}
	if offset < c.offset || offset > c.sent {
		return fmt.Errorf("%d says that %d bytes have come, after %d were acknowledged and %d sent", a.status, offset, c.offset, c.sent)
	}
	c.location, c.offset = a.header.Get("Location"), offset
	return nil
}

// ask requests the offset to resume at. An upload that is being committed has no
// status, so ask sends the PUT again.
func (c *pusher) ask(ctx context.Context) error {
	if c.location == "" {
		return nil
	}
	for range 1000 {
		a, err := request(ctx, c.f.replica(c.f.turn(c.took)), http.MethodGet, c.location, nil)
		switch {
		case err == nil && a.status == http.StatusNoContent:
			return c.goOn(a)
		case err == nil && a.status == http.StatusNotFound && c.finishes:
			return nil
		case err == nil && a.status != http.StatusServiceUnavailable:
			return fmt.Errorf("status after %d bytes: answered %d %s", c.offset, a.status, a.body)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errPatience
}

// sharedStore is a store for replicas.
type sharedStore struct {
	env      []string // of a berth on an empty bucket of it
	setting  string   // of the environment that holds the endpoint; empty if there is none
	endpoint string
	part     int      // the least size of parts, in bytes
	requests []string // kinds of requests, at each of which replicas are killed
	orphans  bool     // parts that no replica knows of are found as uploads

	life time.Duration // of a replica that nothing else kills, on average

	// open opens the bucket.
	open func(ctx context.Context) (drivers.Bucket, error)

	// lists shows what is in the bucket, without the driver, but for what stays
	// there for good.
	lists func(t *testing.T) []string
}

// shape is that of a blob, and how much of it is sent at a time.
type shape struct{ size, chunk int }

// shapes are those of what a client pushes. Where parts are large, few blobs
// have several.
func (s *sharedStore) shapes(client int) []shape {
	part := s.part
	small := []shape{{1000, 400}, {20_000, 8000}, {50_000, 50_000}, {400_000, 150_000}}
	large := []shape{
		{part + part/5, part * 3 / 5}, // the first chunk is a tail
		{2*part + part/4, part + part/8},
		{part + 1000, 2 * part}, // in one PUT
		{3 * part, part + part/3},
	}
	if part < 5<<20 {
		return append(small, large...)
	}
	return append(small, large[client%len(large)])
}

// testReplicas pushes through three replicas that are killed and started again
// all the time, at any moment, and in the middle of each kind of request to the
// store. Every chunk goes to another one than the chunk before. What was
// acknowledged is there and whole, for each replica and for those that are
// started afterwards; and what the killed ones have left over can be removed.
func testReplicas(t *testing.T, s sharedStore) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	const replicas = 3
	d := newDeath(s.requests)
	ways := make([]string, replicas)
	for i := range ways {
		if s.setting != "" {
			ways[i] = s.setting + "=" + d.wire(t, s.endpoint, i)
		}
	}
	part := fmt.Sprintf("BERTH_UPLOAD_PART_SIZE=%d", s.part)
	f := newFleet(t, replicas, func(i int) (*process, error) {
		return start(t.TempDir(), slices.Concat(s.env, []string{part, ways[i]}))
	})
	d.begin(f)

	stop := make(chan struct{})
	var chaos sync.WaitGroup
	var kills atomic.Int32
	for i := range replicas {
		chaos.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for {
				select {
				case <-stop:
					return
				case <-f.replica(i).exited:
				case <-time.After(s.life/3 + time.Duration(rng.Int64N(int64(s.life*4/3)))):
				}
				if err := f.replace(i, time.Duration(rng.IntN(100))*time.Millisecond); err != nil {
					t.Error(err)
					return
				}
				kills.Add(1)
			}
		})
	}

	const clients = 4
	var pushed [clients][][]byte
	var pushing sync.WaitGroup
	for i := range clients {
		pushing.Go(func() {
			for j, blob := range s.shapes(i) {
				data := randomBytes(uint64(1000+i*100+j), blob.size+i)
				if err := newPusher(f, data).push(ctx, blob.chunk); err != nil {
					t.Errorf("client %d: push of %d bytes: %v", i, len(data), err)
					return
				}
				pushed[i] = append(pushed[i], data)
			}
		})
	}
	pushing.Wait()
	close(stop)
	chaos.Wait()
	t.Logf("replicas were killed %d times", kills.Load())
	if kills.Load() == 0 {
		t.Error("no replica was killed")
	}
	for _, m := range d.missed() {
		t.Errorf("no replica was killed %s", m)
	}

	for i := range replicas {
		if err := f.replace(i, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, blobs := range pushed {
		for _, data := range blobs {
			wantBlob(t, f.any(), data)
		}
	}
	s.wantRemovable(t)
}

// wantRemovable empties a bucket through its driver, as a collector would that
// takes everything: the driver lists everything that a killed replica has left.
func (s *sharedStore) wantRemovable(t *testing.T) {
	t.Helper()
	bucket, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()
	uploads, keys := remove(t, bucket)
	t.Logf("%d objects and %d uploads were left", keys, uploads)
	switch {
	case keys == 0:
		t.Error("no object was left, not even those of the blobs")
	case uploads == 0 && s.orphans:
		t.Error("no upload was left, not even of those that killed replicas began")
	}
	if uploads, keys := remove(t, bucket); uploads+keys > 0 {
		t.Errorf("after all were removed, %d objects and %d uploads are left", keys, uploads)
	}
	if left := s.lists(t); len(left) > 0 {
		t.Errorf("after all were removed, the store still has %q", left)
	}
}

// remove aborts the uploads and deletes the objects that a bucket shows.
func remove(t *testing.T, bucket drivers.Bucket) (uploads, keys int) {
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
	for o, err := range bucket.List(t.Context(), "", "") {
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

func TestReplicasOnADirectory(t *testing.T) {
	root := t.TempDir()
	testReplicas(t, sharedStore{
		env:  append(cleanEnv(), "BERTH_STORAGE_FILESYSTEM_ROOT="+root),
		part: 4 << 20,
		life: 300 * time.Millisecond,
		open: func(ctx context.Context) (drivers.Bucket, error) {
			return filesystem.Open(ctx, filesystem.Config{Root: root})
		},
		lists: func(t *testing.T) (left []string) {
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
	})
}
