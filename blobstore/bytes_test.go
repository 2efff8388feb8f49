package blobstore_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/filesystem"
	"github.com/berthhq/berth/drivers/memory"
)

// TestBytesOfChunks limits the bytes that a push in chunks writes to the store, and
// the bytes that it leaves there for the collector, by the bytes of its requests.
func TestBytesOfChunks(t *testing.T) {
	for name, open := range map[string]openToCount{"S3": openS3ToCount, "streams": openStreamsToCount, "directory": openDirectoryToCount} {
		for _, push := range chunkedPushes() {
			if name != "directory" || !push.long {
				t.Run(name+"/"+push.name, func(t *testing.T) { t.Parallel(); push.run(t, open) })
			}
		}
	}
}

// TestLongBytesOfChunks is TestBytesOfChunks with pushes that write thousands of
// files.
func TestLongBytesOfChunks(t *testing.T) {
	needsTime(t)
	for _, push := range chunkedPushes() {
		if push.long {
			t.Run(push.name, func(t *testing.T) { t.Parallel(); push.run(t, openDirectoryToCount) })
		}
	}
}

// needsTime skips a test that takes minutes, except with BERTH_TEST_LONG.
func needsTime(t *testing.T) {
	t.Helper()
	if os.Getenv("BERTH_TEST_LONG") == "" {
		t.Skip("it takes minutes: set BERTH_TEST_LONG=1, or run make test-long")
	}
}

// chunkedPush is a blob that is sent in PATCHes of these sizes. The last size is
// repeated.
type chunkedPush struct {
	name   string
	chunks []int64
	size   int64
	long   bool
}

func chunkedPushes() []chunkedPush {
	const size = 10 * miB
	return []chunkedPush{
		{"1 B, 1,000 times", repeated(1, 1000), 1000, true},
		{"1 B, 1,000 times, then the rest", append(repeated(1, 1000), size-1000), size, true},
		{"4 KiB", []int64{4 << 10}, size, true},
		{"64 KiB", []int64{64 << 10}, size, false},
		{"1 MiB", []int64{1 << 20}, size, false},
	}
}

func (p chunkedPush) run(t *testing.T, open openToCount) {
	t.Helper()
	b, left := open(t)
	counted := &countedBytes{Bucket: b}
	c := openClient(t, counted)
	counted.written.Store(0)
	blob := newPayload(1, p.size)
	requests := c.pushChunks(blob, p.chunks)

	times, halves := int64(6), int64(10) // halves of the blob may be left
	if p.chunks[0] >= 64<<10 {
		times, halves = 3, 5
	}
	written, stays := counted.written.Load(), left()
	t.Logf("%d requests to berth, %d to the store; %.2f times the blob were written, %.2f times are left",
		requests, c.counter.Total(), share(written, p.size), share(stays, p.size))
	if most := times*p.size + requests*2<<10; written > most {
		t.Errorf("%d bytes were written, want at most %d", written, most)
	}
	if most := halves*p.size/2 + requests<<10; stays > most {
		t.Errorf("%d bytes are left, want at most %d", stays, most)
	}
	c.put(c.at, payload{}, blob.digest) // as if the response had been lost
}

func share(n, of int64) float64 { return float64(n) / float64(of) }

func repeated(n int64, times int) (all []int64) {
	for range times {
		all = append(all, n)
	}
	return all
}

// TestManyPatches checks that the cost of a PATCH does not grow with the number of
// PATCHes before it.
func TestManyPatches(t *testing.T) { manyPatches(t, 4000, openStreamsToCount) }

// TestLongManyPatches is TestManyPatches to a directory, with the largest number that
// clients are known to send.
func TestLongManyPatches(t *testing.T) {
	needsTime(t)
	manyPatches(t, 10_000, openDirectoryToCount)
}

func manyPatches(t *testing.T, patches int, open openToCount) {
	t.Helper()
	const chunk = 20 << 10
	b, _ := open(t)
	counted := &countedBytes{Bucket: b}
	c := openClient(t, counted)
	p := newPayload(1, int64(patches)*chunk)
	at, r := c.post(""), p.reader()
	var costs [2]struct {
		bytes    int64
		requests int
		time     time.Duration
	}
	for half := range costs {
		before, start := counted.written.Load(), time.Now()
		c.counter.Reset()
		for range patches / 2 {
			at = c.patch(at, io.LimitReader(r, chunk), chunk)
		}
		costs[half].bytes, costs[half].requests = counted.written.Load()-before, c.counter.Total()
		costs[half].time = time.Since(start)
	}
	start := time.Now()
	c.counter.Reset()
	c.put(at, payload{}, p.digest)
	t.Logf("halves of %d PATCHes: %+v; PUT: %d requests, %v", patches, costs, c.counter.Total(), time.Since(start))
	if first, second := costs[0], costs[1]; second.bytes > first.bytes*5/4 || second.requests > first.requests*5/4 {
		t.Errorf("the second half of %d PATCHes wrote %d bytes with %d requests, the first half %d with %d; want about as much",
			patches, second.bytes, second.requests, first.bytes, first.requests)
	}
	if n := c.counter.Total(); n > 75 {
		t.Errorf("PUT takes %d requests, want at most 64 records and a few", n)
	}
}

// pushChunks sends p in PATCHes of these sizes, the last one repeated, and returns the
// number of requests.
func (c *httpClient) pushChunks(p payload, sizes []int64) (requests int64) {
	c.t.Helper()
	at, r := c.post(""), p.reader()
	for off, i := int64(0), 0; off < p.size; i++ {
		n := min(sizes[min(i, len(sizes)-1)], p.size-off)
		at = c.patch(at, io.LimitReader(r, n), n)
		off += n
		requests++
	}
	c.put(at, payload{}, p.digest)
	return requests + 2
}

// countedBytes counts the bytes that are written to a bucket.
type countedBytes struct {
	drivers.Bucket
	written atomic.Int64
}

func (b *countedBytes) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	b.written.Add(body.Size)
	return b.Bucket.Create(ctx, key, body)
}

func (b *countedBytes) Replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	b.written.Add(body.Size)
	return b.Bucket.Replace(ctx, key, tag, body)
}

func (b *countedBytes) PutPart(ctx context.Context, u drivers.Upload, number int, body drivers.Body) (drivers.Part, error) {
	b.written.Add(body.Size)
	return b.Bucket.PutPart(ctx, u, number, body)
}

func (b *countedBytes) StreamPart(ctx context.Context, u drivers.Upload, number int, body io.Reader) (drivers.Part, error) {
	p, err := b.Bucket.StreamPart(ctx, u, number, body)
	b.written.Add(p.Size)
	return p, err
}

// openToCount opens a bucket, and returns a function that counts the bytes in it.
type openToCount func(t *testing.T) (b drivers.Bucket, left func() int64)

func openS3ToCount(t *testing.T) (drivers.Bucket, func() int64) {
	t.Helper()
	b := openS3(t, true)
	return b, func() int64 { return listedBytes(t, b) }
}

// openStreamsToCount opens a store in memory that has the habits of a directory.
func openStreamsToCount(t *testing.T) (drivers.Bucket, func() int64) {
	t.Helper()
	b, err := memory.Open(t.Context(), memory.Config{Store: &memory.Store{Discard: true}})
	if err != nil {
		t.Fatal(err)
	}
	return b, func() int64 { return listedBytes(t, b) }
}

// listedBytes returns the bytes of all objects. No upload may be in progress.
func listedBytes(t *testing.T, b drivers.Bucket) (sum int64) {
	t.Helper()
	for o, err := range b.List(t.Context(), "", "", 0) {
		if err != nil {
			t.Fatal(err)
		}
		sum += o.Size
	}
	for u, err := range b.Uploads(t.Context(), "") {
		t.Errorf("an upload is left: %v, %v", u, err)
	}
	return sum
}

// openDirectoryToCount opens a directory, and counts the bytes of all files in it.
func openDirectoryToCount(t *testing.T) (drivers.Bucket, func() int64) {
	t.Helper()
	root := t.TempDir()
	b, err := filesystem.Open(t.Context(), filesystem.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b, func() (left int64) {
		err := filepath.WalkDir(root, func(_ string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return fmt.Errorf("size of a file: %w", err)
			}
			left += info.Size()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return left
	}
}
