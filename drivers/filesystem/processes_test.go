package filesystem

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
)

// childEnv is the environment variable that makes the test binary run as
// another process on the same directory. Its value is a name in children.
const childEnv = "BERTH_TEST_FILESYSTEM_CHILD"

// children returns what the processes do.
func children() map[string]func(ctx context.Context, b *bucket) error {
	return map[string]func(context.Context, *bucket) error{
		"count": func(ctx context.Context, b *bucket) error { return count(ctx, b, counts) },
		"create": func(ctx context.Context, b *bucket) error {
			for i := 0; ; i++ {
				if _, err := b.Create(ctx, fmt.Sprintf("d%d/k", i), body(strings.Repeat("x", 1<<16))); err != nil {
					return err
				}
			}
		},
		"churn": churn,
		"stream": func(ctx context.Context, b *bucket) error {
			u, err := b.StartUpload(ctx, "data/k")
			if err == nil {
				_, err = b.StreamPart(ctx, u, 1, os.Stdin)
			}
			return err
		},
		"complete": func(ctx context.Context, b *bucket) error {
			var c completion
			if err := json.NewDecoder(os.Stdin).Decode(&c); err != nil {
				return err
			}
			_, err := b.Complete(ctx, c.Upload, c.Parts, c.CRC32C)
			return err
		},
	}
}

// completion is the data that a process needs to complete another process's
// upload.
type completion struct {
	Upload drivers.Upload
	Parts  []drivers.Part
	CRC32C uint32
}

func TestMain(m *testing.M) {
	do, ok := os.LookupEnv(childEnv)
	if !ok {
		os.Exit(m.Run())
	}
	ctx := context.Background()
	b, err := open(ctx, Config{Root: os.Args[1]}, kernel())
	if err == nil {
		err = children()[do](ctx, b)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child starts a process. It is killed at the end of the test, if not earlier.
func child(t *testing.T, do, root string, stdin io.Reader) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, root)
	cmd.Env = append(os.Environ(), childEnv+"="+do)
	cmd.Stdin, cmd.Stderr = stdin, t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// until waits until ok returns true. It fails the test after a minute, because
// the process may have failed.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !ok() {
		if err := ctx.Err(); err != nil {
			t.Fatalf("waiting until %s: %v", what, err)
		}
		time.Sleep(time.Millisecond)
	}
}

// kill kills a process that must still be running.
func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the process ended before it was killed: %v", cmd.ProcessState)
	}
}

// counts is the number of increments by each counter.
const counts = 40

// count increments a number in the bucket by compare-and-swap.
func count(ctx context.Context, b *bucket, times int) error {
	for range times {
		for {
			r, o, err := b.Open(ctx, "meta/count", 0, -1)
			if err != nil {
				return err
			}
			data, err := io.ReadAll(r)
			r.Close()
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(string(data))
			if err != nil {
				return err
			}
			_, err = b.Replace(ctx, "meta/count", o.Tag, body(strconv.Itoa(n+1)))
			if err == nil {
				break
			}
			if !errors.Is(err, drivers.ErrChanged) {
				return err
			}
		}
	}
	return nil
}

// TestCompareAndSwapAmongProcesses checks that no increment is lost among
// processes, buckets in one process and goroutines.
func TestCompareAndSwapAmongProcesses(t *testing.T) {
	root := t.TempDir()
	a, b := openAt(t, root), openAt(t, root)
	create(t, a, "meta/count", "0")
	one, two := child(t, "count", root, nil), child(t, "count", root, nil)
	var wg sync.WaitGroup
	for _, b := range []*bucket{a, a, b} {
		wg.Go(func() {
			if err := count(t.Context(), b, counts); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, cmd := range []*exec.Cmd{one, two} {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	if got, want := read(t, a, "meta/count"), strconv.Itoa(5*counts); got != want {
		t.Errorf("counted to %s, want %s", got, want)
	}
}

// churn creates and deletes objects in directories that other processes create
// and remove.
func churn(ctx context.Context, b *bucket) error {
	for i := range 60 {
		key := fmt.Sprintf("d/e%d/f/%d-%d", i%2, os.Getpid(), i)
		o, err := b.Create(ctx, key, body(key))
		if err != nil {
			return err
		}
		if _, err := b.Stat(ctx, key); err != nil {
			return err
		}
		for _, err := range b.List(ctx, "d/", "", 0) {
			if err != nil {
				return err
			}
		}
		if i%3 == 0 {
			err = b.DeleteIf(ctx, key, o.Tag)
		} else {
			err = b.Delete(ctx, key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestDirectoriesComeAndGo creates and deletes objects in the same directories
// from three processes.
func TestDirectoriesComeAndGo(t *testing.T) {
	root := t.TempDir()
	b := openAt(t, root)
	cmds := []*exec.Cmd{child(t, "churn", root, nil), child(t, "churn", root, nil)}
	if err := churn(t.Context(), b); err != nil {
		t.Error(err)
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	// An empty directory may stay until the next Delete below it.
	create(t, b, "d/e0/f/x", "x")
	create(t, b, "d/e1/f/x", "x")
	if err := b.Delete(t.Context(), "d/e0/f/x", "d/e1/f/x"); err != nil {
		t.Error(err)
	}
	if got := files(t, root); len(got) > 0 {
		t.Errorf("files after the last Delete = %q, want none", got)
	}
}

// TestKilledInStreamPart kills a process that is storing a part. Another process
// continues the upload.
func TestKilledInStreamPart(t *testing.T) {
	root := t.TempDir()
	b := openAt(t, root)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cmd := child(t, "stream", root, r)
	r.Close()
	if _, err := w.Write(make([]byte, 3*chunkSize)); err != nil {
		t.Fatal(err)
	}
	until(t, "a part is half written", func() bool {
		parts, err := filepath.Glob(filepath.Join(root, stagedDir, "*", "1-*"))
		if err != nil || len(parts) != 1 {
			return false
		}
		info, err := os.Stat(parts[0])
		return err == nil && info.Size() >= 2*chunkSize
	})
	kill(t, cmd)
	if _, err := b.Stat(t.Context(), "data/k"); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("Stat of an incomplete upload = %v, want %v", err, drivers.ErrNotFound)
	}
	if got := list(t, b, "", ""); len(got) > 0 {
		t.Errorf("List = %q, want nothing", got)
	}
	all := uploads(t, b, "data/")
	if len(all) != 1 || all[0].Key != "data/k" {
		t.Fatalf("Uploads = %v, want one of data/k", all)
	}
	p := stream(t, b, all[0], 1, "abc")
	if _, err := b.Complete(t.Context(), all[0], []drivers.Part{p}, p.CRC32C); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, root, "Complete", "data/", "data/k")
}

// TestKilledInCreate kills processes that are creating objects. Each object is
// whole or absent, and Abort deletes the staged files.
func TestKilledInCreate(t *testing.T) {
	root := t.TempDir()
	b := openAt(t, root)
	for i := range 8 {
		cmd := child(t, "create", root, nil)
		key := fmt.Sprintf("d%d/k", 3*i+3)
		until(t, key+" exists", func() bool {
			_, err := os.Stat(filepath.Join(root, key))
			return err == nil
		})
		time.Sleep(time.Duration(i) * 50 * time.Microsecond)
		kill(t, cmd)
		// Otherwise the next child would stop at the objects of this one.
		var keys []string
		for o, err := range b.List(t.Context(), "", "", 0) {
			if err != nil || o.Size != 1<<16 {
				t.Fatalf("List returns %+v, %v, want whole bodies", o, err)
			}
			keys = append(keys, o.Key)
		}
		if err := b.Delete(t.Context(), keys...); err != nil {
			t.Fatal(err)
		}
	}
	for _, u := range uploads(t, b, "") {
		if !strings.HasPrefix(u.Key, "d") {
			t.Errorf("Uploads returns %+v", u)
		}
		if err := b.Abort(t.Context(), u); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range files(t, root) {
		if !strings.HasSuffix(file, "/") {
			t.Errorf("Abort left %s", file)
		}
	}
}

// TestCompleteAmongProcesses completes one upload from three processes. Each
// Complete returns the same object.
func TestCompleteAmongProcesses(t *testing.T) {
	root := t.TempDir()
	b := openAt(t, root)
	for _, n := range []int{1, 3} {
		c := completion{Upload: start(t, b, fmt.Sprintf("data/%d/k", n))}
		var want string
		for i := range n {
			data := strings.Repeat(string(rune('a'+i)), 1<<20)
			p := stream(t, b, c.Upload, 2*i+1, data)
			want += data
			c.Parts, c.CRC32C = append(c.Parts, p), drivers.CombineCRC32C(c.CRC32C, p.CRC32C, p.Size)
		}
		input, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		cmds := []*exec.Cmd{child(t, "complete", root, strings.NewReader(string(input))), child(t, "complete", root, strings.NewReader(string(input)))}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if o, err := b.Complete(t.Context(), c.Upload, c.Parts, c.CRC32C); err != nil || o.Size != int64(len(want)) {
					t.Errorf("Complete = %+v, %v, want size %d", o, err, len(want))
				}
			})
		}
		wg.Wait()
		for _, cmd := range cmds {
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		}
		if got := read(t, b, c.Upload.Key); got != want {
			t.Errorf("the object of %d parts differs from the parts", n)
		}
	}
	if got := uploads(t, b, ""); len(got) > 0 {
		t.Errorf("Uploads = %v, want none", got)
	}
	wantFiles(t, root, "Complete", "data/", "data/1/", "data/1/k", "data/3/", "data/3/k")
}
