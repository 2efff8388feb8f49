package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/internal/header"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/filesystem"
	"github.com/berthhq/berth/drivers/memory"
	"github.com/berthhq/berth/redirect"
)

const maxRanges = header.MaxRanges

// served is an answer as far as it must be net/http's own.
type served struct {
	Status                                             int
	ContentRange, ContentLength, ContentType, ETag, Ok string
	Body                                               string
}

func servedOf(w *httptest.ResponseRecorder) served {
	h, body := w.Result().Header, w.Body.String()
	contentType := h.Get("Content-Type")
	if _, boundary, ok := strings.Cut(contentType, "boundary="); ok { // it is drawn at random
		body = strings.ReplaceAll(body, boundary, "boundary")
		contentType = strings.ReplaceAll(contentType, boundary, "boundary")
	}
	return served{
		Status:        w.Code,
		ContentRange:  h.Get("Content-Range"),
		ContentLength: h.Get("Content-Length"),
		ContentType:   contentType,
		ETag:          h.Get("Etag"),
		Ok:            h.Get("Accept-Ranges"),
		Body:          body,
	}
}

// FuzzServeRange wants that a GET is answered as net/http's ServeContent
// answers it for the same bytes, wherever the bytes are.
func FuzzServeRange(f *testing.F) {
	for _, h := range []string{
		"", "bytes=0-0", "bytes=5-", "bytes=-5", "bytes=-0", "bytes=0-", "bytes=99-", "bytes=100-", "bytes=101-200", "bytes=5-2",
		"bytes=0-1,3-4", "bytes=0-1, 50-60 ,-5", "bytes=0-99,0-99", "bytes=", "bytes", "bytes=-", "bytes=a-b", "bytes=1", "bits=0-1",
		"bytes=9223372036854775807-", "bytes=18446744073709551615-", "bytes=-9223372036854775808", "bytes=0-9223372036854775807",
		"bytes=" + descending(40), "bytes=" + descending(50), "bytes=0-0" + strings.Repeat(",0-0", maxRanges), "bytes=0-0" + strings.Repeat(",", maxRanges),
		"bytes= 0-1", "bytes=0 -1", "bytes=+1-2", "bytes=1-+2", "bytes=,", "bytes=,0-1", "bytes=0-1,", "Bytes=0-1", "bytes=--1", "bytes=-+5",
	} {
		f.Add(uint(100), h, "", "", "")
		f.Add(uint(0), h, "", "", "")
	}
	f.Add(uint(100), "bytes=0-1", `"x"`, "", "")
	f.Add(uint(100), "bytes=0-1", "etag", "", "")
	f.Add(uint(100), "bytes=0-1", "W/etag", "", "")
	f.Add(uint(100), "bytes=0-1", "Mon, 02 Jan 2006 15:04:05 GMT", "", "")
	f.Add(uint(100), "bytes=0-1", "", `"x", etag`, "")
	f.Add(uint(100), "", "", "*", "")
	f.Add(uint(100), "", "", "x, etag", "")
	f.Add(uint(100), "bytes=0-1", "", "etag", `"x"`)
	f.Add(uint(100), "", "", "", "*")
	f.Add(uint(100), "", "", "", `"x"`)
	ctx := context.Background()
	bucket, err := memory.Open(ctx, memory.Config{})
	if err != nil {
		f.Fatal(err)
	}
	stores := map[string]*Repository{}
	for name, inlineMax := range map[string]int64{"inline": 1 << 10, "data": 1} {
		s, err := Open(ctx, bucket, Config{InlineMax: inlineMax})
		if err != nil {
			f.Fatal(err)
		}
		stores[name] = &Repository{s: s, name: name}
		stores[name].access = descriptors{stores[name]}
	}
	f.Fuzz(func(t *testing.T, size uint, ranges, ifRange, ifNoneMatch, ifMatch string) {
		p := bytes.Repeat([]byte("0123456789abcdef"), 64)[:size%1000]
		d := digest.FromBytes(p)
		etag := strconv.Quote(d.String())
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		for name, value := range map[string]string{"Range": ranges, "If-Range": ifRange, "If-None-Match": ifNoneMatch, "If-Match": ifMatch} {
			if value != "" {
				req.Header.Set(name, strings.ReplaceAll(value, "etag", etag))
			}
		}
		want := httptest.NewRecorder()
		want.Header().Set("Etag", etag)
		want.Header().Set("Content-Type", defaultMediaType)
		want.Header().Set("Accept-Ranges", "bytes")
		plain := req.Clone(t.Context())
		plain.Header.Set("Range", asServeContent(req.Header.Get("Range"), len(p)))
		http.ServeContent(want, plain, "", time.Time{}, bytes.NewReader(p))
		for name, r := range stores {
			if _, err := r.Put(t.Context(), "", p); err != nil {
				t.Fatal(err)
			}
			got := httptest.NewRecorder()
			err := r.ServeBlob(t.Context(), got, req, d)
			if want.Code == http.StatusRequestedRangeNotSatisfiable {
				if !errors.Is(err, ErrRange{int64(len(p))}) || len(got.Header()) > 0 || got.Body.Len() > 0 {
					t.Errorf("%s: %d bytes, %v: ServeBlob = %v, %v, want an ErrRange and nothing written", name, len(p), req.Header, err, got.Header())
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s: ServeBlob: %v", name, err)
			}
			if diff := cmp.Diff(servedOf(want), servedOf(got)); diff != "" {
				t.Errorf("%s: %d bytes, %v (-ServeContent +ServeBlob):\n%s", name, len(p), req.Header, diff)
			}
		}
	})
}

// descending are n ranges of one byte, from the last one of 99 on.
func descending(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%d-%d", 98-2*i, 98-2*i))
	}
	return strings.Join(all, ",")
}

// asServeContent returns a Range header that net/http reads as RFC 9110 has this
// one read. What net/http makes of others differs: it takes signs and blanks for
// parts of numbers, sends the last 0 bytes
// (https://github.com/golang/go/issues/81262), and refuses large numbers.
func asServeContent(header string, size int) string {
	unit, set, ok := strings.Cut(header, "=")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return ""
	}
	const malformed, large = "bytes=x", "999999999999999999"
	set = regexp.MustCompile(`\d{19,}`).ReplaceAllString(set, large)
	var specs []string
	for spec := range strings.SplitSeq(set, ",") {
		spec = strings.Trim(spec, " \t")
		parts := regexp.MustCompile(`^(?:(\d+)-(\d*)|-(\d+))$`).FindStringSubmatch(spec)
		if spec != "" && parts == nil {
			return malformed
		}
		if spec == "" {
			continue
		}
		first, _ := strconv.Atoi(parts[1])
		last, err := strconv.Atoi(parts[2])
		if parts[1] != "" && err == nil && last < first {
			return malformed
		}
		if n, err := strconv.Atoi(parts[3]); err == nil && n == 0 {
			spec = large + "-"
		}
		specs = append(specs, spec)
	}
	switch {
	case len(specs) == 0:
		return malformed
	case len(specs) > maxRanges && slices.ContainsFunc(specs, func(s string) bool { return !strings.HasPrefix(s, large) }), size == 0:
		return ""
	}
	return "bytes=" + strings.Join(specs, ",")
}

// asked is a bucket that notes which bytes of data it is asked for.
type asked struct {
	drivers.Bucket
	opens []string
}

func (a *asked) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	if strings.HasPrefix(key, drivers.BulkPrefix) {
		a.opens = append(a.opens, fmt.Sprintf("%d from %d", n, off))
	}
	return a.Bucket.Open(ctx, key, off, n)
}

// blobBytes returns the bytes of a blob that are in an answer, part after part.
func blobBytes(t *testing.T, w *httptest.ResponseRecorder) []byte {
	t.Helper()
	mediaType, params, err := mime.ParseMediaType(w.Header().Get("Content-Type"))
	if err != nil || mediaType != "multipart/byteranges" {
		return w.Body.Bytes()
	}
	var all []byte
	parts := multipart.NewReader(bytes.NewReader(w.Body.Bytes()), params["boundary"])
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", len(all), err)
		}
		p, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p...)
	}
}

// The store is asked for what the client asks for. To ask for more and to hang
// up in the middle of the answer costs the connection.
func TestAskedFor(t *testing.T) {
	store := &asked{Bucket: openMemoryView(t, &memory.Store{})}
	r := &reads{Repository: repository(t, openStore(t, store, Config{}), "a")}
	const size = 3 << 20
	p := randomBytes(1, size)
	d := digest.FromBytes(p)
	if _, err := r.Put(t.Context(), "", p); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		header []string
		want   []byte
		opens  []string
	}{
		{nil, p, []string{"-1 from 0"}},
		{[]string{"Range", "bytes=7-9"}, p[7:10], []string{"3 from 7"}},
		{[]string{"Range", "bytes=0-0"}, p[:1], []string{"1 from 0"}},
		{[]string{"Range", "bytes=7-"}, p[7:], []string{"-1 from 7"}},
		{[]string{"Range", "bytes=-7"}, p[size-7:], []string{fmt.Sprintf("-1 from %d", size-7)}},
		{[]string{"Range", "bytes=8-2000007"}, p[8:2000008], []string{"2000000 from 8"}},
		{[]string{"Range", "bytes=0-9", "If-Range", `"another"`}, p, []string{"-1 from 0"}},
		{[]string{"Range", fmt.Sprintf("bytes=%d-", size), "If-Range", `"another"`}, p, []string{"-1 from 0"}},
		{[]string{"Range", "bytes=7-9", "If-Range", `"another"`}, p, []string{"-1 from 0"}},
		{[]string{"Range", "bytes=7-9,20-29,50000-50009"}, slices.Concat(p[7:10], p[20:30], p[50_000:50_010]), []string{"50003 from 7"}},
		{[]string{"Range", "bytes=7-9,2000000-2000009,-7"}, slices.Concat(p[7:10], p[2_000_000:2_000_010], p[size-7:]),
			[]string{"3 from 7", "10 from 2000000", fmt.Sprintf("-1 from %d", size-7)}},
		{[]string{"Range", "bytes=50000-50009,7-9,20-29"}, slices.Concat(p[50_000:50_010], p[7:10], p[20:30]), []string{"50003 from 7"}},
	} {
		store.opens = nil
		w, err := r.serve(t, "GET", d, test.header...)
		if err != nil || !bytes.Equal(blobBytes(t, w), test.want) || !slices.Equal(store.opens, test.opens) {
			t.Errorf("GET with %q = %d, %v, %d bytes, and asks for %q, want %d bytes, and %q",
				test.header, w.Code, err, w.Body.Len(), store.opens, len(test.want), test.opens)
		}
	}
}

// ascending returns n ranges of size bytes, one every step bytes.
func ascending(n, size, step int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%d-%d", i*step, i*step+size-1))
	}
	return all
}

// Ranges cost no more requests than they must.
func TestRequestsOfRanges(t *testing.T) {
	r := newReads(t, Config{})
	p := randomBytes(1, 4_000_000)
	d := r.put(t, p)
	r.wants(t, "GET", 2, func() error { _, err := r.serve(t, "GET", d); return err })
	backwards := func(all []string) []string { slices.Reverse(all); return all }
	for _, test := range []struct {
		ranges   []string
		status   int
		requests int
	}{
		{[]string{"7-"}, http.StatusPartialContent, 1},
		{[]string{"-7"}, http.StatusPartialContent, 1},
		{[]string{"7-9"}, http.StatusPartialContent, 1},
		{[]string{"7-9", "100000-"}, http.StatusPartialContent, 2},
		{[]string{"7-9", "65546-"}, http.StatusPartialContent, 1},
		{[]string{"7-9", "65547-"}, http.StatusPartialContent, 2},
		{[]string{"0-9", "3900000-", "5-20"}, http.StatusPartialContent, 3},
		{[]string{"0-100000", "90000-200000"}, http.StatusPartialContent, 1},
		{[]string{"0-1000000", "900000-2000000"}, http.StatusPartialContent, 2}, // more than is kept
		{[]string{"1000-1999", "0-2999", "500-600"}, http.StatusPartialContent, 1},
		{ascending(1000, 1000, 4000), http.StatusPartialContent, 1},
		{ascending(maxRanges, 1000, 3900), http.StatusPartialContent, 1},
		{ascending(40, 1000, 100_000), http.StatusPartialContent, 40},
		{backwards(ascending(40, 1000, 100_000)), http.StatusPartialContent, 40},
		{backwards(ascending(60, 1000, 1000)), http.StatusPartialContent, 1},
		{backwards(ascending(600, 1, 1000)), http.StatusPartialContent, 10},
		{ascending(maxRanges+1, 1, 3900), http.StatusOK, 1},
		{[]string{"0-", "0-"}, http.StatusOK, 1},
		{[]string{"1-", "0-1"}, http.StatusOK, 1},
		{[]string{"1-", "0-0"}, http.StatusPartialContent, 2},
	} {
		r.wants(t, strings.Join(test.ranges, ","), test.requests, func() error {
			w, err := r.serve(t, "GET", d, "Range", "bytes="+strings.Join(test.ranges, ","))
			if err == nil && (w.Code != test.status || w.Header().Get("Content-Length") != strconv.Itoa(w.Body.Len())) {
				err = fmt.Errorf("answered %d, %v with %d bytes, want %d", w.Code, w.Header(), w.Body.Len(), test.status)
			}
			return err
		})
	}
	r.wants(t, "past the end", 0, func() error {
		if _, err := r.serve(t, "GET", d, "Range", "bytes=4000000-5000000"); !errors.Is(err, ErrRange{4_000_000}) {
			return fmt.Errorf("GET = %w, want an ErrRange", err)
		}
		return nil
	})
}

// filed is a bucket of files that notes which of them it opens.
type filed struct {
	drivers.Bucket
	files []*os.File
}

func (b *filed) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	rc, o, err := b.Bucket.Open(ctx, key, off, n)
	if r, ok := rc.(drivers.FileReader); ok {
		b.files = append(b.files, r.File())
	}
	return rc, o, err
}

// Each file that is opened for an answer is closed with it, whatever was asked
// for, and also if the client goes away.
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
				inFiles, err := filesystem.Open(t.Context(), filesystem.Config{Root: t.TempDir()})
				if err != nil {
					t.Fatal(err)
				}
				defer inFiles.Close()
				bucket := &filed{Bucket: inFiles}
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
				err = r.ServeBlob(t.Context(), &goneWriter{httptest.NewRecorder(), left}, req, desc.Digest)
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
						t.Errorf("GET with %q, and a client gone after %d bytes: %s is open still", test.header, left, f.Name())
					}
				}
				if files != test.files {
					t.Errorf("GET with %q opens %d files of data, want %d", test.header, files, test.files)
				}
			})
		}
	}
}

// openSigning is a repository whose store signs URLs by sign.
func openSigning(t *testing.T, cfg Config, sign func(key string, opts drivers.SignOptions) (drivers.Signed, error)) *Repository {
	t.Helper()
	return repository(t, openStore(t, signer{openMemoryView(t, &memory.Store{}), sign}, cfg), "a")
}

type signer struct {
	drivers.Bucket
	sign func(key string, opts drivers.SignOptions) (drivers.Signed, error)
}

func (s signer) SignGet(_ context.Context, key string, opts drivers.SignOptions) (drivers.Signed, error) {
	return s.sign(key, opts)
}

// A GET goes to a URL that the store signed, and the answer may be kept no
// longer than that works.
func TestRedirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := drivertest.Signing(openMemoryView(t, &memory.Store{}))
		policy, err := redirect.New(redirect.Config{Expiry: 10 * time.Minute, Window: 5 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		r := &reads{Repository: repository(t, openStore(t, bucket, Config{Redirect: policy}), "a"), bucket: bucket}
		inline, data := []byte("inline"), randomBytes(1, 100_000)
		for _, p := range [][]byte{inline, data} {
			if _, err := r.Put(t.Context(), "application/x-test", p); err != nil {
				t.Fatal(err)
			}
		}
		d := digest.FromBytes(data)
		alias := digest.SHA512.FromBytes(data)
		if err := r.SetDescriptor(t.Context(), alias, Descriptor{Digest: d}); err != nil {
			t.Fatal(err)
		}
		var urls []string
		for range 20 {
			w, err := r.serve(t, "GET", d, "Range", "bytes=1-2")
			if err != nil {
				t.Fatal(err)
			}
			h := w.Header()
			u, err := url.Parse(h.Get("Location"))
			if err != nil {
				t.Fatal(err)
			}
			if w.Code != http.StatusTemporaryRedirect || w.Body.Len() != 0 || u.Host != "signed.example" || u.Query().Get("type") != "application/x-test" || u.Query().Get("disposition") != "attachment" ||
				h.Get("Docker-Content-Digest") != d.String() || h.Get("Etag") != "" || h.Get("Content-Type") != "" {
				t.Fatalf("GET = %d, %v", w.Code, h)
			}
			expires, err := strconv.ParseInt(u.Query().Get("expires"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			var age int64
			if _, err := fmt.Sscanf(h.Get("Cache-Control"), "private, max-age=%d", &age); err != nil {
				t.Fatalf("Cache-Control %q: %v", h.Get("Cache-Control"), err)
			}
			left := time.Until(time.Unix(expires, 0))
			if age := time.Duration(age) * time.Second; age > left || left-age > time.Second || left < 10*time.Minute {
				t.Errorf("Cache-Control %q, and the URL works for %v", h.Get("Cache-Control"), left)
			}
			if len(urls) == 0 || urls[len(urls)-1] != u.String() {
				urls = append(urls, u.String())
			}
			time.Sleep(30 * time.Second)
		}
		if len(urls) > 3 {
			t.Errorf("%d URLs in ten minutes, want one in each window of five", len(urls))
		}

		w, err := r.serve(t, "GET", alias)
		if err != nil || w.Code != http.StatusTemporaryRedirect || w.Header().Get("Docker-Content-Digest") != alias.String() {
			t.Errorf("GET by sha512 = %d, %v, %v", w.Code, err, w.Header())
		}
		for _, inm := range []string{strconv.Quote(d.String()), `"x", W/` + strconv.Quote(d.String()), "*"} {
			w, err = r.serve(t, "GET", d, "If-None-Match", inm)
			if h := w.Header(); err != nil || w.Code != http.StatusNotModified || h.Get("Location") != "" || h.Get("Cache-Control") != "private, no-cache" ||
				h.Get("Docker-Content-Digest") != d.String() || h.Get("Etag") != strconv.Quote(d.String()) {
				t.Errorf("GET with If-None-Match %s = %d, %v, %v, want 304 that makes no kept redirect live longer", inm, w.Code, err, h)
			}
		}
		w, err = r.serve(t, "HEAD", d)
		if err != nil || w.Code != http.StatusOK || w.Header().Get("Content-Length") != "100000" || w.Header().Get("Location") != "" {
			t.Errorf("HEAD = %d, %v, %v, want it answered here", w.Code, err, w.Header())
		}
		w, err = r.serve(t, "GET", digest.FromBytes(inline))
		if err != nil || w.Code != http.StatusOK || w.Body.String() != "inline" {
			t.Errorf("GET of an inline blob = %d, %v, %q, want it answered here", w.Code, err, w.Body)
		}
	})
}

// What a signer that doesn't sign, or fails, or gives a URL that is over, has
// for an answer: the bytes.
func TestSignerFails(t *testing.T) {
	p := randomBytes(1, 100_000)
	for what, c := range map[string]struct {
		sign func(string, drivers.SignOptions) (drivers.Signed, error)
		log  string // has this in it
	}{
		"unsupported": {func(string, drivers.SignOptions) (drivers.Signed, error) {
			return drivers.Signed{}, fmt.Errorf("no: %w", errors.ErrUnsupported)
		}, ""},
		"fails": {func(string, drivers.SignOptions) (drivers.Signed, error) {
			return drivers.Signed{}, errors.New("no key")
		}, "no key"},
		"busy": {func(string, drivers.SignOptions) (drivers.Signed, error) {
			return drivers.Signed{}, drivers.ErrBusy
		}, "busy"},
		"expired": {func(key string, _ drivers.SignOptions) (drivers.Signed, error) {
			return drivers.Signed{URL: "https://signed.example/" + key, Expires: time.Now().Add(-time.Second)}, nil
		}, "expired"},
	} {
		var log bytes.Buffer
		r := &reads{Repository: openSigning(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, c.sign)}
		if _, err := r.Put(t.Context(), "", p); err != nil {
			t.Fatal(err)
		}
		w, err := r.serve(t, "GET", digest.FromBytes(p), "Range", "bytes=10-19")
		if err != nil || w.Code != http.StatusPartialContent || !bytes.Equal(w.Body.Bytes(), p[10:20]) || w.Header().Get("Location") != "" {
			t.Errorf("GET with a signer that %s = %d, %v, %v", what, w.Code, err, w.Header())
		}
		if !strings.Contains(log.String(), c.log) || c.log == "" && log.Len() > 0 {
			t.Errorf("log of a signer that %s: %q, want %q in it", what, log.String(), c.log)
		}
	}
}

// What an unverified blob is sent as: where it lies, by the store's own URL or
// directly, and never by a CDN, which shows data that was hashed here.
func TestUnverifiedIsServed(t *testing.T) {
	policy, err := redirect.New(redirect.Config{
		CDN:   map[string]redirect.CDN{"edge": {Kind: "plain", BaseURL: "https://cdn.example/"}},
		Rules: []redirect.Rule{{Target: "cdn:edge"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := randomBytes(1, 100_000)
	for _, c := range []struct {
		what, key, host string
		state           state
	}{
		{"live", "", "cdn.example", live},
		{"adopted", "docker/registry/v2/blobs/data", "signed.example", unverified},
		{"adopted from a registry whose own root is data", "data/docker/registry/v2/blobs/data", "signed.example", unverified},
	} {
		bucket := openMemoryView(t, &memory.Store{})
		r := &reads{Repository: repository(t, openStore(t, drivertest.Signing(bucket), Config{Redirect: policy}), "a"), bucket: bucket}
		d := r.put(t, p)
		if c.key != "" {
			if _, err := bucket.Create(t.Context(), c.key, drivers.NewBody(p)); err != nil {
				t.Fatal(err)
			}
			r.rewriteLink(t, d, func(l *record) { l.State, l.Data = c.state, c.key })
		}
		w, err := r.serve(t, "GET", d)
		if err != nil || w.Code != http.StatusTemporaryRedirect || !strings.HasPrefix(w.Header().Get("Location"), "https://"+c.host+"/"+c.key) {
			t.Errorf("GET of what is %s = %d, %v, Location %q, want one at %s", c.what, w.Code, err, w.Header().Get("Location"), c.host)
		}
		direct := &reads{Repository: repository(t, openStore(t, bucket, Config{Redirect: policy}), "a")}
		if c.state == unverified {
			w, err := direct.serve(t, "GET", d)
			if err != nil || w.Code != http.StatusOK || !bytes.Equal(w.Body.Bytes(), p) {
				t.Errorf("GET of what is %s, without a signer = %d, %v, want the bytes", c.what, w.Code, err)
			}
		}
	}
}

// ServeBlob returns an error only if it has written nothing, and writes only
// what is no error; an answer that breaks off is in the log.
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
		t.Errorf("log has\n%s, want what is returned not to be logged too", log.String())
	}

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
		return drivertest.ErrInjected // half-way
	}
	w, err := r.serve(t, "GET", d)
	if err != nil || w.Code != http.StatusOK || w.Header().Get("Content-Length") != "300000" || !bytes.Equal(w.Body.Bytes(), p[:150_000]) {
		t.Errorf("GET of a store that breaks down half-way = %d, %v, %d bytes, want half of what Content-Length says", w.Code, err, w.Body.Len())
	}
	if !strings.Contains(log.String(), "injected") || !strings.Contains(log.String(), d.String()) {
		t.Errorf("log has\n%s, want why the answer broke off", log.String())
	}
}

// A client that goes away while a signer asks for something is no failure of the
// signer's, and gets no bytes.
func TestClientLeavesSigner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := repository(t, openStore(t, silentSigner{openMemoryView(t, &memory.Store{})}, Config{Log: slog.New(slog.NewTextHandler(&log, nil))}), "a")
		desc, err := r.Put(t.Context(), "", randomBytes(1, 100_000))
		if err != nil {
			t.Fatal(err)
		}
		ctx, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		w := httptest.NewRecorder()
		err = r.ServeBlob(ctx, w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), desc.Digest)
		if !errors.Is(err, context.Canceled) || w.Body.Len() > 0 || log.Len() > 0 {
			t.Errorf("GET by a client that is gone = %v, %d bytes, and the log has %q", err, w.Body.Len(), log.String())
		}
	})
}

type silentSigner struct{ drivers.Bucket }

func (silentSigner) SignGet(ctx context.Context, _ string, _ drivers.SignOptions) (drivers.Signed, error) {
	<-ctx.Done()
	return drivers.Signed{}, ctx.Err()
}

// Nothing that HTTP cannot carry comes out of a record: neither in a header, nor
// before a range, nor in a URL, with which the store would refuse every read.
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
		var asked string
		signing := openSigning(t, Config{}, func(key string, opts drivers.SignOptions) (drivers.Signed, error) {
			asked = opts.ContentType
			return drivers.Signed{URL: "https://signed.example/" + key, Expires: time.Now().Add(time.Hour)}, nil
		})
		direct := newReads(t, Config{})
		p := randomBytes(1, 100_000)
		for _, r := range []*Repository{signing, direct.Repository} {
			if _, err := r.Put(t.Context(), mediaType, p); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := (&reads{Repository: signing}).serve(t, "GET", digest.FromBytes(p)); err != nil || asked != want {
			t.Errorf("a URL for a blob of type %q is for %q, %v, want %q", mediaType, asked, err, want)
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

// If-Match holds for HEAD as for GET, where the bytes are sent from here; what
// answers that it doesn't hold is not kept in their place. Where they are sent
// from elsewhere, the tag may be the target's, unless it is the one of here.
func TestIfMatch(t *testing.T) {
	p := randomBytes(1, 100_000)
	d := digest.FromBytes(p)
	etag := strconv.Quote(d.String())
	bucket := openMemoryView(t, &memory.Store{})
	direct := &reads{Repository: repository(t, openStore(t, bucket, Config{}), "a"), bucket: bucket}
	direct.put(t, p)
	signing := &reads{Repository: repository(t, openStore(t, drivertest.Signing(bucket), Config{}), "a")}
	const ok, failed, elsewhere, same = http.StatusOK, http.StatusPreconditionFailed, http.StatusTemporaryRedirect, http.StatusNotModified
	for _, c := range []struct {
		ifMatch, ifNoneMatch string
		status               int // where the bytes are sent from here
		get, head            int // of a store that signs
	}{
		{etag, "", ok, ok, ok},
		{"*", "", ok, elsewhere, ok},
		{`"x", ` + etag, "", ok, ok, ok},
		{`"x"`, "", failed, elsewhere, ok},
		{"W/" + etag, "", failed, elsewhere, ok},
		{`"x"`, etag, failed, elsewhere, ok},
		{etag, etag, same, same, same},
		{etag, `"x"`, ok, ok, ok},
	} {
		header := []string{"If-Match", c.ifMatch}
		if c.ifNoneMatch != "" {
			header = append(header, "If-None-Match", c.ifNoneMatch)
		}
		for _, method := range []string{"GET", "HEAD"} {
			w, err := direct.serve(t, method, d, header...)
			if err != nil || w.Code != c.status {
				t.Errorf("%s with %q = %d, %v, want %d", method, header, w.Code, err, c.status)
			}
			want := map[int]string{ok: immutable, same: "private, no-cache", failed: "no-store"}[c.status]
			if got := w.Header().Get("Cache-Control"); got != want {
				t.Errorf("%s with %q = %d, Cache-Control %q, want %q", method, header, w.Code, got, want)
			}
		}
		for method, status := range map[string]int{"GET": c.get, "HEAD": c.head} {
			if w, err := signing.serve(t, method, d, header...); err != nil || w.Code != status {
				t.Errorf("%s with %q, of a store that signs = %d, %v, want %d", method, header, w.Code, err, status)
			}
		}
	}
	// Where the signer fails, a tag of the target's can't be met.
	failing := &reads{Repository: repository(t, openStore(t, signer{bucket, func(string, drivers.SignOptions) (drivers.Signed, error) {
		return drivers.Signed{}, errors.New("no key")
	}}, Config{}), "a")}
	if w, err := failing.serve(t, "GET", d, "If-Match", `"x"`); err != nil || w.Code != failed {
		t.Errorf("GET with If-Match of a store whose signer fails = %d, %v, want %d", w.Code, err, failed)
	}
}

// A tag that a client was given by an answer is never refused later: answers
// that may come from elsewhere have none, and a request that names the one of
// here is answered here. Ranges that the target may not know are, too.
func TestTargets(t *testing.T) {
	p := randomBytes(1, 100_000)
	d := digest.FromBytes(p)
	etag := strconv.Quote(d.String())
	cdn := func(kind string, keys ...redirect.Key) redirect.Config {
		return redirect.Config{Default: "cdn:edge", CDN: map[string]redirect.CDN{"edge": {Kind: kind, BaseURL: "https://cdn.example", Keys: keys}}}
	}
	ranges := redirect.Config{Default: "cdn:edge", CDN: map[string]redirect.CDN{"edge": {Kind: "plain", BaseURL: "https://cdn.example", Ranges: true}}}
	toBuildKit := redirect.Config{Default: "direct", Rules: []redirect.Rule{{UserAgent: "buildkit", Target: "presign"}}}
	for what, c := range map[string]struct {
		config    redirect.Config
		agent     string
		signs     bool
		redirects bool // one range
		any       bool // several, and the last bytes
	}{
		"presign":                           {redirect.Config{}, "", true, true, false},
		"presign, of a store that can't":    {redirect.Config{}, "", false, false, false},
		"direct":                            {redirect.Config{Default: "direct"}, "", true, false, false},
		"plain":                             {cdn("plain"), "", false, true, false},
		"akamai":                            {cdn("akamai", redirect.Key{Value: "00ff"}), "", true, true, false},
		"frontdoor":                         {cdn("frontdoor"), "", true, true, false},
		"frontdoor, of a store that can't":  {cdn("frontdoor"), "", false, false, false},
		"nginx":                             {cdn("nginx", redirect.Key{Value: "k"}), "", false, true, false},
		"a CDN that answers ranges":         {ranges, "", false, true, true},
		"a rule for others":                 {toBuildKit, "curl", true, false, false},
		"a rule for the client's UserAgent": {toBuildKit, "buildkit", true, true, false},
	} {
		policy, err := redirect.New(c.config)
		if err != nil {
			t.Fatal(err)
		}
		bucket := openMemoryView(t, &memory.Store{})
		if c.signs {
			bucket = drivertest.Signing(bucket)
		}
		r := &reads{Repository: repository(t, openStore(t, bucket, Config{Redirect: policy}), "a"), bucket: bucket}
		r.put(t, p)
		get := func(method, want string, redirects bool, header ...string) {
			t.Helper()
			w, err := r.serve(t, method, d, append(header, "User-Agent", c.agent)...)
			status, tag := http.StatusTemporaryRedirect, ""
			if !redirects {
				status, tag = map[string]int{"": http.StatusOK}[want], etag
				if want != "" {
					status = http.StatusPartialContent
				}
			}
			if method == "HEAD" {
				status = http.StatusOK
			}
			if err != nil || w.Code != status || w.Header().Get("Etag") != tag {
				t.Errorf("%s: %s with %q = %d, %v, ETag %q, want %d and %q", what, method, header, w.Code, err, w.Header().Get("Etag"), status, tag)
			}
			if !redirects && want != "" && string(blobBytes(t, w)) != want {
				t.Errorf("%s: %s with %q sends %d bytes, want %d", what, method, header, w.Body.Len(), len(want))
			}
		}
		one, some := string(p[7:10]), string(p[50_000:50_010])+string(p[7:10])
		get("HEAD", "", c.redirects)
		get("HEAD", "", c.redirects, "Range", "bytes=7-9")
		get("GET", "", c.redirects)
		get("GET", one, c.redirects, "Range", "bytes=7-9")
		get("GET", some, c.any, "Range", "bytes=50000-50009,7-9")
		get("GET", string(p[99_997:]), c.any, "Range", "bytes=-3")
		get("GET", one, c.any, "Range", "bytes=7-9,200000-")
		get("GET", "", c.any, "Range", "bytes=0-,0-")

		get("GET", one, false, "Range", "bytes=7-9", "If-Range", etag)
		get("GET", some, false, "Range", "bytes=50000-50009,7-9", "If-Range", etag)
		get("GET", "", c.redirects, "Range", "bytes=50000-50009,7-9", "If-Range", `"x"`)
		get("GET", "", c.redirects, "Range", "bytes=x", "If-Range", `"x"`)
		get("GET", "", c.redirects, "If-Range", etag)
		get("GET", one, false, "Range", "bytes=7-9", "If-Match", etag)
		get("GET", one, c.redirects, "Range", "bytes=7-9", "If-Match", "*")
		get("GET", "", false, "If-Match", etag)
		for _, header := range []string{"bytes=x", "bytes=100000-", "bytes=-0", "bytes=0-1,5-2"} {
			if w, err := r.serve(t, "GET", d, "Range", header, "User-Agent", c.agent); !errors.Is(err, ErrRange{100_000}) || len(w.Header()) > 0 {
				t.Errorf("%s: GET with Range %q = %v, %v, want an ErrRange and nothing written", what, header, err, w.Header())
			}
		}
	}
}

// Through a real server, a client sees that an answer broke off.
func TestBrokenAnswerIsSeen(t *testing.T) {
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
