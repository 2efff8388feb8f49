package blobstore

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/filesystem"
)

// fileBucket is a bucket of files that records which of them it opens.
type fileBucket struct {
	drivers.Bucket
	files []*os.File
}

func (b *fileBucket) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	rc, o, err := b.Bucket.Open(ctx, key, off, n)
	if r, ok := rc.(drivers.FileReader); ok {
		b.files = append(b.files, r.File())
	}
	return rc, o, err
}

// Every file that is opened for a response is closed at its end, also if the
// client disconnects.
func TestFilesAreClosed(t *testing.T) {
	for _, test := range []struct {
		header []string
		files  int
	}{
		{nil, 1},
		{[]string{"Range", "bytes=0-9"}, 1},
		{[]string{"Range", "bytes=7-"}, 1},
		{[]string{"Range", "bytes=7-90000"}, 1},
		{[]string{"Range", "bytes=7-90000,0-9"}, 1},
		{[]string{"Range", "bytes=7-9", "If-Range", `"another"`}, 1},
		{[]string{"Range", "bytes=0-9,90000-90009,50000-"}, 1},
		{[]string{"Range", "bytes=9-7"}, 0},
		{[]string{"Range", "bytes=100000-"}, 0},
		{[]string{"Range", "bytes=100000-", "If-Range", `"another"`}, 1},
	} {
		for _, left := range []int{0, 1000, 1 << 20} {
			synctest.Test(t, func(t *testing.T) {
				bucketOfFiles, err := filesystem.Open(t.Context(), filesystem.Config{Root: t.TempDir()})
				if err != nil {
					t.Fatal(err)
				}
				defer bucketOfFiles.Close()
				bucket := &fileBucket{Bucket: bucketOfFiles}
				r := repository(t, openStore(t, bucket, Config{}), "a")
				desc, err := r.Put(t.Context(), "", randomBytes(1, 100_000))
				if err != nil {
					t.Fatal(err)
				}
				bucket.files = nil
				req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
				for i := 0; i < len(test.header); i += 2 {
					req.Header.Set(test.header[i], test.header[i+1])
				}
				err = r.ServeBlob(t.Context(), &disconnectingWriter{httptest.NewRecorder(), left}, req, desc.Digest)
				if _, noRange := errors.AsType[ErrRange](err); err != nil && (!noRange || test.files > 0) {
					t.Error(err)
				}
				synctest.Wait()
				files := 0
				for _, f := range bucket.files {
					if strings.Contains(f.Name(), "/"+drivers.BulkPrefix) {
						files++
					}
					if _, err := f.Stat(); !errors.Is(err, os.ErrClosed) {
						t.Errorf("GET with %q, and a client that disconnects after %d bytes: %s is still open", test.header, left, f.Name())
					}
				}
				if files != test.files {
					t.Errorf("GET with %q opens %d files of data, want %d", test.header, files, test.files)
				}
			})
		}
	}
}
