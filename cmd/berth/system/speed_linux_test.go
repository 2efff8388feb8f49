package system

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const speedSize = 1 << 30 // bytes in a blob

// content is speedSize bytes that differ for each n.
type content struct {
	block []byte
	n     uint64
}

func newContent() *content { return &content{block: randomBytes(7, 1<<20)} }

func (c *content) next() {
	c.n++
	binary.LittleEndian.PutUint64(c.block, c.n)
}

func (c *content) reader() io.Reader {
	blocks := make([]io.Reader, speedSize/len(c.block))
	for i := range blocks {
		blocks[i] = bytes.NewReader(c.block)
	}
	return io.MultiReader(blocks...)
}

func (c *content) digest() string {
	h := sha256.New()
	_, _ = io.Copy(h, c.reader()) // it cannot fail
	return fmt.Sprintf("sha256:%x", h.Sum(nil))
}

// send sends a request. If all is true, its body is the content.
func (c *content) send(ctx context.Context, method, url string, all bool) (*http.Response, error) {
	var body io.Reader
	if all {
		body = c.reader()
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	if all {
		req.ContentLength = speedSize
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res, err
}

// sendPlainly sends the content to the plain server, and returns the digest in the
// server's response.
func (c *content) sendPlainly(ctx context.Context, address string) (digest string, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := io.Copy(conn, c.reader()); err != nil {
		return "", err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	response, err := io.ReadAll(conn)
	return string(response), err
}

// berthOn runs `berth serve` on a directory until the end of the benchmark.
func berthOn(b *testing.B, root string, env ...string) *process {
	b.Helper()
	p, err := start(b.TempDir(), append(cleanEnv(), env...), "--root", root)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := p.stop(); err != nil {
			b.Error(err)
		}
	})
	return p
}

// cost is the least CPU time of several measurements, because other processes and the
// first use of memory only add to it.
type cost struct{ berth, plain time.Duration }

const rounds = 5 // measurements of a cost

func (c *cost) add(berth, plain time.Duration) {
	if c.berth == 0 || berth < c.berth {
		c.berth = berth
	}
	if c.plain == 0 || plain < c.plain {
		c.plain = plain
	}
}

// report reports the cost. It fails the benchmark if berth costs more than most times
// as much as the plain server.
func (c *cost) report(b *testing.B, most float64) {
	b.Helper()
	ratio := c.berth.Seconds() / c.plain.Seconds()
	b.ReportMetric(c.berth.Seconds(), "cpu-s/GiB")
	b.ReportMetric(c.plain.Seconds(), "plain-cpu-s/GiB")
	b.ReportMetric(ratio, "cpu-ratio")
	if ratio > most {
		b.Errorf("berth uses %.2f times the CPU time of the plain server, want at most %v", ratio, most)
	}
}

// BenchmarkPush pushes 1 GiB to a berth on a directory, and sends it to a plain server
// that only reads, hashes, writes and syncs. cpu-ratio is berth's CPU time relative to
// that of the plain server. It must be at most 1.3.
func BenchmarkPush(b *testing.B) {
	b.Run("POST+PATCH+PUT", func(b *testing.B) { benchmarkPush(b, true) })
	b.Run("POST+PUT", func(b *testing.B) { benchmarkPush(b, false) })
}

func benchmarkPush(b *testing.B, patch bool) {
	dir, root := b.TempDir(), filepath.Join(b.TempDir(), "root")
	plain, addresses := startTestServer(b, "plain", []string{dir})
	p := berthOn(b, root)
	c := newContent()
	var total cost
	b.SetBytes(rounds * speedSize)
	for b.Loop() {
		for range rounds {
			b.StopTimer()
			c.next()
			digest := c.digest()
			before := cpu(b, plain)
			if got, err := c.sendPlainly(b.Context(), addresses[0]); err != nil || got != digest {
				b.Fatalf("plain server: digest %q, %v, want %s", got, err, digest)
			}
			plainCost := cpu(b, plain) - before
			emptyDir(b, dir)

			before = cpu(b, p.cmd.Process.Pid)
			b.StartTimer()
			push(b, p, c, digest, patch)
			b.StopTimer()
			total.add(cpu(b, p.cmd.Process.Pid)-before, plainCost)
			emptyDir(b, filepath.Join(root, "data"))
			b.StartTimer()
		}
	}
	total.report(b, 1.3)
}

func push(b *testing.B, p *process, c *content, digest string, patch bool) {
	b.Helper()
	expect := func(status int, method, url string, all bool) string {
		res, err := c.send(b.Context(), method, p.url+url, all)
		if err != nil || res.StatusCode != status {
			b.Fatalf("%s: %v, %v, want %d\n%s", method, res, err, status, &p.stderr)
		}
		return res.Header.Get("Location")
	}
	location := expect(http.StatusAccepted, http.MethodPost, "/v2/test/blobs/uploads/", false)
	if patch {
		location = expect(http.StatusAccepted, http.MethodPatch, location, true)
	}
	expect(http.StatusCreated, http.MethodPut, location+"&digest="+digest, !patch)
}

// emptyDir deletes everything in a directory.
func emptyDir(b *testing.B, dir string) {
	b.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDirectGet reads 1 GiB from a berth on a directory, and from net/http that
// serves a file. cpu-ratio is near 1 if the kernel sends both.
func BenchmarkDirectGet(b *testing.B) {
	dir, root := b.TempDir(), filepath.Join(b.TempDir(), "root")
	plain, addresses := startTestServer(b, "plain", []string{dir})
	p := berthOn(b, root)
	c := newContent()
	digest := c.digest()
	if got, err := c.sendPlainly(b.Context(), addresses[0]); err != nil || got != digest {
		b.Fatalf("plain server: digest %q, %v, want %s", got, err, digest)
	}
	push(b, p, c, digest, true)

	read := func(pid int, url string) time.Duration {
		before := cpu(b, pid)
		res, err := c.send(b.Context(), http.MethodGet, url, false)
		if err != nil || res.StatusCode != http.StatusOK || res.ContentLength != speedSize {
			b.Fatalf("GET %s: %v, %v, want %d bytes", url, res, err, speedSize)
		}
		return cpu(b, pid) - before
	}
	var total cost
	b.SetBytes(rounds * speedSize)
	for b.Loop() {
		for range rounds {
			b.StopTimer()
			plainCost := read(plain, "http://"+addresses[1]+"/0")
			b.StartTimer()
			total.add(read(p.cmd.Process.Pid, p.url+"/v2/test/blobs/"+digest), plainCost)
		}
	}
	total.report(b, 2) // copying through the process would cost several times as much
}
