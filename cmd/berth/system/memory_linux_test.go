package system

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkMemory runs 200 slow uploads, and at the same time 16 fast clients that push
// 256 MiB each. The peak memory of the process, as counted by the kernel, must stay
// within the limit that `berth serve` sets itself.
func BenchmarkMemory(b *testing.B) {
	b.Run("filesystem", func(b *testing.B) {
		p := berthOn(b, b.TempDir())
		benchmarkMemory(b, p.cmd.Process.Pid, p.url)
	})
	b.Run("S3-discarding", func(b *testing.B) {
		pid, addresses := startTestServer(b, "discard", nil)
		benchmarkMemory(b, pid, "http://"+addresses[0])
	})
}

func benchmarkMemory(b *testing.B, pid int, url string) {
	const slow, fast, size = 200, 16, 256 << 20
	cfg, err := defaultConfig()
	if err != nil {
		b.Fatal(err)
	}
	block := randomBytes(8, 1<<20)
	content := func() io.Reader {
		blocks := make([]io.Reader, size/len(block))
		for i := range blocks {
			blocks[i] = bytes.NewReader(block)
		}
		return io.MultiReader(blocks...)
	}
	h := sha256.New()
	_, _ = io.Copy(h, content()) // it cannot fail
	digest := fmt.Sprintf("sha256:%x", h.Sum(nil))

	b.SetBytes(fast * size)
	for b.Loop() {
		var cut atomic.Int64
		var slowUploads, pushes sync.WaitGroup
		stop := make(chan struct{})
		for range slow {
			slowUploads.Go(func() {
				location := expect(b, http.MethodPost, url+"/v2/slow/blobs/uploads/", nil, http.StatusAccepted)
				status, _, err := send(b.Context(), http.MethodPatch, url+location, &trickle{stop: stop})
				if err != nil || status != http.StatusAccepted {
					cut.Add(1)
				}
			})
		}
		for range fast {
			pushes.Go(func() {
				location := expect(b, http.MethodPost, url+"/v2/fast/blobs/uploads/", nil, http.StatusAccepted)
				location = expect(b, http.MethodPatch, url+location, content(), http.StatusAccepted)
				expect(b, http.MethodPut, url+location+"&digest="+digest, nil, http.StatusCreated)
			})
		}
		pushes.Wait()
		close(stop)
		slowUploads.Wait()
		b.ReportMetric(float64(cut.Load()), "cut-off")
	}
	most := peak(b, pid)
	b.ReportMetric(float64(most>>20), "peak-MiB")
	b.ReportMetric(float64(cfg.Blobs.Upload.Memory>>20), "budget-MiB")
	if allowed := cfg.MemoryLimit(); most > allowed {
		b.Errorf("peak memory = %d MiB, want at most %d", most>>20, allowed>>20)
	}
}

// trickle is a body of 10 KiB/s that does not end until it is stopped. berth cuts off
// such a client if other clients wait for memory.
type trickle struct{ stop <-chan struct{} }

func (t *trickle) Read(p []byte) (int, error) {
	select {
	case <-t.stop:
		return 0, io.EOF
	case <-time.After(100 * time.Millisecond):
		return min(len(p), 1<<10), nil
	}
}

// send sends a request and returns the status and the Location of the response.
func send(ctx context.Context, method, url string, body io.Reader) (status int, location string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return 0, "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, res.Header.Get("Location"), err
}

// expect sends a request that must get this status, and returns the Location.
func expect(b *testing.B, method, url string, body io.Reader, want int) (location string) {
	b.Helper()
	status, location, err := send(b.Context(), method, url, body)
	if err != nil || status != want {
		b.Errorf("%s = %d, %v, want %d", method, status, err, want)
	}
	return location
}
