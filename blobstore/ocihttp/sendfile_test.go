package ocihttp

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/distribution/reference"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers/filesystem"
)

// sendfileWriter counts the calls for which net/http would use sendfile(2): calls
// of ReadFrom with a file that is limited to a number of bytes.
type sendfileWriter struct {
	*httptest.ResponseRecorder

	files int // number of calls
}

func (w *sendfileWriter) ReadFrom(r io.Reader) (int64, error) {
	limited, ok := r.(*io.LimitedReader)
	if ok {
		if _, ok = limited.R.(*os.File); ok {
			w.files++
		}
	}
	return w.Body.ReadFrom(r)
}

// Blobs in a directory are sent with sendfile(2), through all of the handler.
func TestSendfile(t *testing.T) {
	bucket, err := filesystem.Open(t.Context(), filesystem.Config{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()
	store, err := blobstore.Open(t.Context(), bucket, blobstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	handler, err := New(store, Config{})
	if err != nil {
		t.Fatal(err)
	}
	name, err := reference.WithName("test")
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("sent from the kernel "), 10_000)
	desc, err := store.Repository(name).Put(t.Context(), "", data)
	if err != nil {
		t.Fatal(err)
	}

	for header, want := range map[string][]byte{
		"":                  data,
		"bytes=1000-1999":   data[1000:2000],
		"bytes=-5":          data[len(data)-5:],
		"bytes=0-99999,0-9": data[:100_000], // of a multipart body
	} {
		req := httptest.NewRequest(http.MethodGet, "/v2/test/blobs/"+desc.Digest.String(), nil)
		if header != "" {
			req.Header.Set("Range", header)
		}
		w := &sendfileWriter{ResponseRecorder: httptest.NewRecorder()}
		handler.ServeHTTP(w, req)
		several := strings.Contains(header, ",")
		if several && !bytes.Contains(w.Body.Bytes(), want) || !several && !bytes.Equal(w.Body.Bytes(), want) {
			t.Errorf("GET with Range %q = %d, %d bytes, want the %d bytes of the range", header, w.Code, w.Body.Len(), len(want))
		}
		if w.files != 1 {
			t.Errorf("GET with Range %q used sendfile %d times, want once", header, w.files)
		}
	}
}
