package system

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/berthhq/berth/cmd/berth/config"
	"github.com/berthhq/berth/cmd/berth/server"
	"github.com/berthhq/berth/drivers/memory"
)

// testServer is the variable that makes this test binary a server. Benchmarks compare
// berth with such servers, which are processes so that their costs can be measured.
const testServer = "BERTH_TEST_SERVER"

// serveForTest is the main function of such a process. It serves until its standard
// input ends.
func serveForTest(name string) error {
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	switch name {
	case "plain":
		return servePlain(ctx, os.Args[1])
	case "discard":
		return serveDiscarding(ctx)
	default:
		return fmt.Errorf("%s: unknown server %q", testServer, name)
	}
}

// servePlain shows what storing and sending bytes costs at least in Go. It hashes the
// bytes of a connection to its first address, writes them to a file in dir, and answers
// with their digest when they are on disk. At its second address net/http serves the
// files of dir.
func servePlain(ctx context.Context, dir string) error {
	in, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	out, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		<-ctx.Done()
		in.Close()
		out.Close()
	}()
	go func() {
		for n := 0; ; n++ {
			c, err := in.Accept()
			if err != nil {
				return
			}
			if err := storePlainly(c, filepath.Join(dir, strconv.Itoa(n))); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}()
	files := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f, err := os.Open(filepath.Join(dir, filepath.Base(r.URL.Path)))
			if err != nil {
				http.Error(w, err.Error(), http.StatusNotFound)
				return
			}
			defer f.Close()
			w.Header().Set("Content-Type", "application/octet-stream")
			http.ServeContent(w, r, "", time.Time{}, f)
		}),
		ReadHeaderTimeout: time.Minute,
	}
	fmt.Printf("%s %s\n", in.Addr(), out.Addr())
	if err := files.Serve(out); ctx.Err() == nil {
		return err
	}
	return nil
}

func storePlainly(c net.Conn, name string) error {
	defer c.Close()
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	buf := make([]byte, 128<<10)
	for {
		n, err := c.Read(buf)
		h.Write(buf[:n])
		if _, err := f.Write(buf[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c, "sha256:%x", h.Sum(nil))
	return err
}

// serveDiscarding serves a store in memory that behaves like S3 and discards the bytes
// of blobs, with the limits of `berth serve`.
func serveDiscarding(ctx context.Context) error {
	cfg, err := defaultConfig()
	if err != nil {
		return err
	}
	bucket, err := memory.Open(ctx, memory.Config{Store: &memory.Store{Habits: memory.S3(), Discard: true}})
	if err != nil {
		return err
	}
	debug.SetMemoryLimit(cfg.MemoryLimit())
	service, err := newService(ctx, bucket, 0, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", l.Addr())
	return server.Serve(ctx, l, service)
}

// defaultConfig returns the configuration that has defaults only.
func defaultConfig() (*config.Config, error) {
	flags := pflag.NewFlagSet("berth", pflag.ContinueOnError)
	config.Flags(flags)
	return config.Load("", flags)
}
