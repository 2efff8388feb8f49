package blobstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// If ServeBlob returns an error, it has written nothing, and it logs nothing.
func TestServeBlobFails(t *testing.T) {
	var log bytes.Buffer
	r := newReads(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	p := randomBytes(1, 300_000)
	d := r.put(t, p)
	for _, method := range []string{"Open links", "Open data"} {
		for name, want := range map[error]error{drivers.ErrBusy: ErrUnavailable, drivers.ErrNotFound: ErrBlobUnknown, drivertest.ErrInjected: drivertest.ErrInjected} {
			faulty := &drivertest.Faulty{Nth: 1, Err: name, Match: func(c drivertest.Call) bool { return isData(c) == (method == "Open data") }}
			r.intercept = faulty.Intercept
			r.s.cache.forget(linkID{"a", d})
			w, err := r.serve(t, "GET", d)
			if !errors.Is(err, want) || len(w.Header()) > 0 || w.Body.Len() > 0 {
				t.Errorf("GET with %s failing with %v = %v, %v, %d bytes, want %v and nothing written", method, name, err, w.Header(), w.Body.Len(), want)
			}
		}
	}
	if log.Len() > 0 {
		t.Errorf("log has\n%s, want no error that is also returned", log.String())
	}
}

// If the store fails in the middle of a response, the reason is in the log.
func TestServeBlobFailsHalfWay(t *testing.T) {
	var log bytes.Buffer
	r := newReads(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	p := randomBytes(1, 300_000)
	d := r.put(t, p)
	broken := false
	r.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if !isData(c) {
			return do(ctx)
		}
		if broken {
			return drivertest.ErrInjected
		}
		broken = true
		if err := do(ctx); err != nil {
			return err
		}
		return drivertest.ErrInjected // after half of the bytes
	}
	w, err := r.serve(t, "GET", d)
	if err != nil || w.Code != http.StatusOK || w.Header().Get("Content-Length") != "300000" || !bytes.Equal(w.Body.Bytes(), p[:150_000]) {
		t.Errorf("GET from a store that fails half-way = %d, %v, %d bytes, want 150000 of 300000", w.Code, err, w.Body.Len())
	}
	if !strings.Contains(log.String(), "injected") || !strings.Contains(log.String(), d.String()) {
		t.Errorf("log has\n%s, want the reason and the digest", log.String())
	}
}

// A media type that HTTP cannot carry is replaced by the default type: in headers,
// in parts of a response, and in URLs, because the store would refuse such a URL.
func TestMediaTypes(t *testing.T) {
	for mediaType, want := range map[string]string{
		"application/vnd.oci.image.layer.v1.tar+gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
		`text/plain; charset="utf-8"`:                 `text/plain; charset="utf-8"`,
		"text/html\r\nSet-Cookie: a=b":                defaultMediaType,
		"text/html\nSet-Cookie: a=b":                  defaultMediaType,
		"text/html\x00":                               defaultMediaType,
		"text/naïve":                                  defaultMediaType,
		"text/\xff":                                   defaultMediaType,
		"text/\x7f":                                   defaultMediaType,
	} {
		var signed string
		signing := openSigning(t, Config{}, func(key string, opts drivers.SignOptions) (drivers.Signed, error) {
			signed = opts.ContentType
			return drivers.Signed{URL: "https://signed.example/" + key, Expires: time.Now().Add(time.Hour)}, nil
		})
		direct := newReads(t, Config{})
		p := randomBytes(1, 100_000)
		for _, r := range []*Repository{signing, direct.Repository} {
			if _, err := r.Put(t.Context(), mediaType, p); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := (&reads{Repository: signing}).serve(t, "GET", digest.FromBytes(p)); err != nil || signed != want {
			t.Errorf("the URL of a blob of type %q sets type %q, %v, want %q", mediaType, signed, err, want)
		}
		for _, method := range []string{"GET", "HEAD"} {
			if w, err := direct.serve(t, method, digest.FromBytes(p)); err != nil || w.Header().Get("Content-Type") != want {
				t.Errorf("%s of a blob of type %q = %v, Content-Type %q, want %q", method, mediaType, err, w.Header().Get("Content-Type"), want)
			}
		}
		w, err := direct.serve(t, "GET", digest.FromBytes(p), "Range", "bytes=0-0,2-2")
		if err != nil || !strings.Contains(w.Body.String(), "\r\nContent-Type: "+want+"\r\n") {
			t.Errorf("GET of ranges of a blob of type %q = %v, %q, want parts of type %q", mediaType, err, w.Body, want)
		}
	}
}

// A client of a real server notices that a response is incomplete.
func TestIncompleteResponse(t *testing.T) {
	r := newReads(t, Config{})
	d := r.put(t, randomBytes(1, 300_000))
	r.intercept = func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if err := do(ctx); err != nil || !isData(c) {
			return err
		}
		faulty := &drivertest.Faulty{Match: isData}
		r.intercept = faulty.Intercept
		return drivertest.ErrInjected
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := r.ServeBlob(req.Context(), w, req, d); err != nil {
			t.Errorf("ServeBlob: %v", err)
		}
	}))
	defer s.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK || n != 150_000 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("GET = %s, %d bytes, %v, want 150000 and io.ErrUnexpectedEOF", resp.Status, n, err)
	}
}
