package main

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distribution/reference"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/cmd/berth/config"
	"github.com/berthhq/berth/drivers/azure"
	"github.com/berthhq/berth/drivers/filesystem"
	"github.com/berthhq/berth/drivers/gcs"
	"github.com/berthhq/berth/drivers/s3"
)

// TestOpenBucketSilent tests a store that never answers, as behind a firewall.
func TestOpenBucketSilent(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"s3", "gcs", "azure"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		endpoint := "http://" + l.Addr().String()
		storage := config.Storage{
			Driver: driver,
			S3:     s3.Config{Bucket: "b", Endpoint: endpoint, PathStyle: true, AccessKeyID: "id", SecretAccessKey: "secret"},
			GCS:    gcs.Config{Bucket: "b", Endpoint: endpoint},
			Azure:  azure.Config{Account: "account", Container: "c", Endpoint: endpoint, SharedKey: "c2VjcmV0"},
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		context.AfterFunc(ctx, func() { l.Close() }) // later requests, which clean up, are refused
		_, _, err = openBucket(ctx, storage, slog.New(slog.DiscardHandler))
		cancel()
		if want := "storage." + storage.Driver + ".endpoint: the store did not answer in time"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("openBucket of a silent store = %v, want an error that contains %q", err, want)
		}
	}
}

// TestOpenBucketSlowDirectory tests a directory with locks that are held elsewhere, as on
// a network file system that does not answer.
func TestOpenBucketSlowDirectory(t *testing.T) {
	t.Parallel()
	storage := config.Storage{Driver: "filesystem", Filesystem: filesystem.Config{Root: t.TempDir()}}
	log := slog.New(slog.DiscardHandler)
	bucket, _, err := openBucket(t.Context(), storage, log)
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()
	locks, err := filepath.Glob(filepath.Join(storage.Filesystem.Root, "parts", "locks", "*"))
	if err != nil || len(locks) == 0 {
		t.Fatalf("Glob = %q, %v, want the driver's locks", locks, err)
	}
	for _, name := range locks {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, _, err = openBucket(ctx, storage, log)
	if want := "storage.filesystem.root: the file system did not answer in time"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("openBucket = %v, want an error that contains %q", err, want)
	}
}

// TestStartupProbe checks that a pod of the example has enough time to open its
// store.
func TestStartupProbe(t *testing.T) {
	manifest, err := os.ReadFile(filepath.Join("..", "..", "deploy", "kubernetes", "berth.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, probe, _ := strings.Cut(string(manifest), "startupProbe:")
	setting := func(name string) int {
		m := regexp.MustCompile(name + `: *(\d+)`).FindStringSubmatch(probe)
		if m == nil {
			t.Fatalf("the manifest's startupProbe has no %s", name)
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	period, failures := time.Duration(setting("periodSeconds"))*time.Second, setting("failureThreshold")
	if time.Duration(failures)*period <= openTimeout {
		t.Errorf("a pod may take %d probes, one in %v, to start, want more than %v, which opening a store may take", failures, period, openTimeout)
	}
}

// TestSecondBucket keeps the data of blobs in a second directory.
func TestSecondBucket(t *testing.T) {
	ctx, log := t.Context(), slog.New(slog.DiscardHandler)
	first, second := t.TempDir(), t.TempDir()
	alone := config.Storage{Driver: "filesystem", Filesystem: filesystem.Config{Root: first}}
	pair := alone
	pair.Data = &config.Storage{Driver: "filesystem", Filesystem: filesystem.Config{Root: second}}

	bucket, name, err := openBucket(ctx, pair, log)
	if err != nil {
		t.Fatal(err)
	}
	if want := "filesystem " + first + ", with the data of blobs in filesystem " + second; name != want {
		t.Errorf("the name of the pair is %q, want %q", name, want)
	}
	defer bucket.Close()
	store, err := blobstore.Open(ctx, bucket, blobstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	repository, err := reference.WithName("library/a")
	if err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte("berth"), 1<<20)
	blobs := store.Repository(repository)
	put, err := blobs.Put(ctx, "", content)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := blobs.Get(ctx, put.Digest); err != nil || !bytes.Equal(got, content) {
		t.Errorf("Get returns %d bytes, %v, want the %d bytes that were put", len(got), err, len(content))
	}
	for root, want := range map[string]bool{first: false, second: true} {
		if _, err := os.Stat(filepath.Join(root, "data")); (err == nil) != want {
			t.Errorf("%s has data: %v, want %t", root, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(second, "blobs")); err == nil {
		t.Errorf("%s has records, want only data", second)
	}

	// A bucket that has data already can't become the first of a pair.
	swapped := config.Storage{Driver: "filesystem", Filesystem: filesystem.Config{Root: second}, Data: &config.Storage{Driver: "filesystem", Filesystem: filesystem.Config{Root: first}}}
	if _, _, err := openBucket(ctx, swapped, log); err == nil || !strings.Contains(err.Error(), "storage.data.driver: the bucket of storage holds the data of blobs already") {
		t.Errorf("openBucket of a first bucket that has data = %v, want an error that names storage.data.driver", err)
	}
	missing := alone
	missing.Data = &config.Storage{Driver: "s3"}
	if _, _, err := openBucket(ctx, missing, log); err == nil || !strings.Contains(err.Error(), "storage.data.s3.bucket is empty") {
		t.Errorf("openBucket without a second bucket = %v, want an error that names storage.data.s3.bucket", err)
	}
}
