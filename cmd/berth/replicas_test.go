package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/cmd/berth/config"
	"github.com/berthhq/berth/drivers"
)

// fleet is several replicas on one store, any of which may be gone at any time.
type fleet struct {
	start func() (*process, error)

	mu       sync.Mutex
	replicas []*process
	next     atomic.Uint32
}

// newFleet starts n replicas that run until the end of the test.
func newFleet(t *testing.T, n int, start func() (*process, error)) *fleet {
	t.Helper()
	f := &fleet{start: start}
	t.Cleanup(func() {
		for _, p := range f.replicas {
			p.kill()
		}
	})
	for range n {
		p, err := start()
		if err != nil {
			t.Fatal(err)
		}
		f.replicas = append(f.replicas, p)
	}
	return f
}

// turn is the replica whose turn it is, as behind a round-robin proxy.
func (f *fleet) turn() *process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replicas[int(f.next.Add(1))%len(f.replicas)]
}

// replace kills a replica, and starts another one a moment later.
func (f *fleet) replace(i int, after time.Duration) error {
	f.mu.Lock()
	p := f.replicas[i]
	f.mu.Unlock()
	p.kill()
	if strings.Contains(p.stderr.String(), "DATA RACE") {
		return errors.New(p.stderr.String())
	}
	time.Sleep(after)
	p, err := f.start()
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replicas[i] = p
	return nil
}

// pusher is a client that pushes one blob in chunks, and does after a failure
// what the specification tells clients to do.
type pusher struct {
	f        *fleet
	data     []byte
	location string
	offset   int
}

// errPatience says that a push took longer than the test waits.
var errPatience = errors.New("no end to it")

func (c *pusher) push(ctx context.Context, chunk int) error {
	for range 10_000 {
		var a answer
		var err error
		switch end := min(c.offset+chunk, len(c.data)); {
		case c.location == "":
			a, err = request(ctx, c.f.turn(), http.MethodPost, "/v2/test/blobs/uploads/", nil)
		case end < len(c.data):
			a, err = c.patch(ctx, end)
		default:
			a, err = request(ctx, c.f.turn(), http.MethodPut, finish(c.location, c.data), bytes.NewReader(c.data[c.offset:]))
		}
		switch {
		case err == nil && a.status == http.StatusCreated:
			return nil
		case err == nil && (a.status == http.StatusAccepted || a.status == http.StatusRequestedRangeNotSatisfiable):
			err = c.goOn(a)
		case err == nil && a.status == http.StatusNotFound:
			c.location, c.offset = "", 0
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil || a.status >= 500:
			time.Sleep(20 * time.Millisecond)
			err = c.ask(ctx)
		default:
			return fmt.Errorf("answered %d %s", a.status, a.body)
		}
		if err != nil {
			return err
		}
	}
	return errPatience
}

func (c *pusher) patch(ctx context.Context, end int) (answer, error) {
	p := c.f.turn()
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, p.url+c.location, bytes.NewReader(c.data[c.offset:end]))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", c.offset, end-1))
	res, err := p.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, body}, err
}

// goOn takes the location and the offset that an answer gives.
func (c *pusher) goOn(a answer) error {
	last, err := strconv.Atoi(strings.TrimPrefix(a.header.Get("Range"), "0-"))
	if err != nil {
		return fmt.Errorf("%d with Range %q", a.status, a.header.Get("Range"))
	}
	c.location, c.offset = a.header.Get("Location"), last+1
	if last == 0 {
		c.offset = 0
	}
	return nil
}

// ask asks where to go on. An upload that is being committed has no status: the
// PUT is sent again.
func (c *pusher) ask(ctx context.Context) error {
	if c.location == "" {
		return nil
	}
	for range 1000 {
		a, err := request(ctx, c.f.turn(), http.MethodGet, c.location, nil)
		switch {
		case err == nil && a.status == http.StatusNoContent:
			return c.goOn(a)
		case err == nil && a.status == http.StatusNotFound:
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errPatience
}

// testReplicas pushes through three replicas that are killed and started again
// all the time. Every chunk goes to another one. What was acknowledged is there
// and whole, for each replica and for those that are started afterwards; and
// what the killed ones have left over can be removed.
func testReplicas(t *testing.T, env []string) {
	f := newFleet(t, 3, func() (*process, error) { return start(t.TempDir(), env) })
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()

	stop := make(chan struct{})
	var chaos sync.WaitGroup
	var kills atomic.Int32
	chaos.Go(func() {
		rng := rand.New(rand.NewPCG(1, 2))
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(20+rng.IntN(120)) * time.Millisecond):
			}
			if err := f.replace(rng.IntN(3), time.Duration(rng.IntN(100))*time.Millisecond); err != nil {
				t.Error(err)
				return
			}
			kills.Add(1)
		}
	})

	const clients, blobs = 4, 8
	var pushed [clients][][]byte
	var pushing sync.WaitGroup
	for i := range clients {
		pushing.Go(func() {
			for j := range blobs {
				data := randomBytes(uint64(1000+i*100+j), 1000+j*j*200_000+i)
				c := &pusher{f: f, data: data}
				if err := c.push(ctx, len(data)/(3+j)+1); err != nil {
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

	for i := range f.replicas {
		if err := f.replace(i, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, blobs := range pushed {
		for _, data := range blobs {
			a := want(t, f.turn(), http.StatusOK, http.MethodGet, "/v2/test/blobs/"+digest.FromBytes(data).String(), nil)
			if !bytes.Equal(a.body, data) {
				t.Errorf("%d bytes were pushed; other %d bytes come back", len(data), len(a.body))
			}
		}
	}
	wantRemovable(t, env)
}

// wantRemovable empties a bucket through its driver, as a collector would that
// takes everything: whatever a killed replica has left, the driver shows it.
func wantRemovable(t *testing.T, env []string) {
	t.Helper()
	bucket, _, err := openBucket(t.Context(), storageOf(env))
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()
	uploads, keys := remove(t, bucket)
	t.Logf("%d objects and %d uploads were left", keys, uploads)
	if keys == 0 {
		t.Error("no object was left, not even those of the blobs")
	}
	if uploads, keys := remove(t, bucket); uploads+keys > 0 {
		t.Errorf("after all were removed, %d objects and %d uploads are left", keys, uploads)
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

// storageOf is the store that an environment names.
func storageOf(env []string) config.Storage {
	value := func(key string) string {
		for _, s := range slices.Backward(env) {
			if v, ok := strings.CutPrefix(s, "BERTH_STORAGE_"+key+"="); ok {
				return v
			}
		}
		return ""
	}
	return config.Storage{
		Driver:     cmp.Or(value("DRIVER"), "filesystem"),
		Filesystem: config.Filesystem{Root: value("FILESYSTEM_ROOT")},
		S3: config.S3{
			Bucket: value("S3_BUCKET"), Region: value("S3_REGION"), Endpoint: value("S3_ENDPOINT"), PathStyle: true,
			AccessKeyID: value("S3_ACCESS_KEY_ID"), SecretAccessKey: value("S3_SECRET_ACCESS_KEY"),
		},
		GCS:   config.GCS{Bucket: value("GCS_BUCKET"), Endpoint: value("GCS_ENDPOINT"), CredentialsFile: value("GCS_CREDENTIALS_FILE")},
		Azure: config.Azure{Account: value("AZURE_ACCOUNT"), Container: value("AZURE_CONTAINER"), Endpoint: value("AZURE_ENDPOINT"), SharedKey: value("AZURE_SHARED_KEY")},
	}
}

func TestReplicasOnADirectory(t *testing.T) {
	testReplicas(t, append(cleanEnv(), "BERTH_STORAGE_FILESYSTEM_ROOT="+t.TempDir()))
}
