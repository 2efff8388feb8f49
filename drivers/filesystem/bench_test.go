//go:build unix

package filesystem

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// cpu returns the processor time that this process has used so far.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkStream reads 256 MiB from a socket, hashes and stores it, once with
// StreamPart and once with plain file operations. Compare their cpu-ms/op.
func BenchmarkStream(b *testing.B) {
	const size = 256 << 20
	store := map[string]func(b *testing.B, dir string, body io.Reader){
		"StreamPart": func(b *testing.B, dir string, body io.Reader) {
			s := openAt(b, dir)
			u := start(b, s, "data/k")
			if _, err := s.StreamPart(b.Context(), u, 1, body); err != nil {
				b.Fatal(err)
			}
			if err := s.Abort(b.Context(), u); err != nil {
				b.Fatal(err)
			}
		},
		"plain": func(b *testing.B, dir string, body io.Reader) {
			f, err := os.Create(filepath.Join(dir, "k"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			if _, err := io.CopyBuffer(struct{ io.Writer }{f}, body, make([]byte, 256<<10)); err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
			if err := os.Remove(f.Name()); err != nil {
				b.Fatal(err)
			}
		},
	}
	for _, name := range []string{"StreamPart", "plain"} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			go func() {
				chunk := make([]byte, 1<<20)
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					for range size / len(chunk) {
						if _, err := c.Write(chunk); err != nil {
							break
						}
					}
					c.Close()
				}
			}()
			b.SetBytes(size)
			before := cpu(b)
			for b.Loop() {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				h := sha256.New()
				store[name](b, dir, struct{ io.Reader }{io.TeeReader(c, h)})
				c.Close()
			}
			b.ReportMetric(float64((cpu(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
}

func BenchmarkCreate(b *testing.B) {
	for _, size := range []int{500, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := openAt(b, b.TempDir())
			data := body(string(make([]byte, size)))
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				// Each key has its own directory, as records have.
				if _, err := s.Create(b.Context(), fmt.Sprintf("blobs/sha256/%02x/%d/record", i%256, i), data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkList(b *testing.B) {
	s := openAt(b, b.TempDir())
	const n = 4000
	for i := range n {
		create(b, s, fmt.Sprintf("blobs/sha256/%02x/%d/record", i%64, i), "x")
	}
	for b.Loop() {
		if got := len(list(b, s, "blobs/", "")); got != n {
			b.Fatalf("listed %d, want %d", got, n)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/key")
}
