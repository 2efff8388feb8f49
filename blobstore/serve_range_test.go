package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/internal/header"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
)

// servedResponse is the part of a response that must equal that of net/http.
type servedResponse struct {
	Status                                             int
	ContentRange, ContentLength, ContentType, ETag, Ok string
	Body                                               string
}

func servedOf(w *httptest.ResponseRecorder) servedResponse {
	h, body := w.Result().Header, w.Body.String()
	contentType := h.Get("Content-Type")
	if _, boundary, ok := strings.Cut(contentType, "boundary="); ok { // which is random
		body = strings.ReplaceAll(body, boundary, "boundary")
		contentType = strings.ReplaceAll(contentType, boundary, "boundary")
	}
	return servedResponse{
		Status:        w.Code,
		ContentRange:  h.Get("Content-Range"),
		ContentLength: h.Get("Content-Length"),
		ContentType:   contentType,
		ETag:          h.Get("Etag"),
		Ok:            h.Get("Accept-Ranges"),
		Body:          body,
	}
}

// seedRanges adds Range headers and conditions to the corpus of FuzzServeRange.
func seedRanges(f *testing.F) {
	for _, h := range []string{
		"", "bytes=0-0", "bytes=5-", "bytes=-5", "bytes=-0", "bytes=0-", "bytes=99-", "bytes=100-", "bytes=101-200", "bytes=5-2",
		"bytes=0-1,3-4", "bytes=0-1, 50-60 ,-5", "bytes=0-99,0-99", "bytes=", "bytes", "bytes=-", "bytes=a-b", "bytes=1", "bits=0-1",
		"bytes=9223372036854775807-", "bytes=18446744073709551615-", "bytes=-9223372036854775808", "bytes=0-9223372036854775807",
		"bytes=" + descending(40), "bytes=" + descending(50), "bytes=0-0" + strings.Repeat(",0-0", header.MaxRanges), "bytes=0-0" + strings.Repeat(",", header.MaxRanges),
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
}

// FuzzServeRange tests that ServeBlob answers a GET as net/http's ServeContent
// does for the same bytes, both for inline blobs and for data.
func FuzzServeRange(f *testing.F) {
	seedRanges(f)
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
		stores[name].descriptors = descriptors{stores[name]}
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

// descending returns n ranges of one byte, in descending order from byte 98.
func descending(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%d-%d", 98-2*i, 98-2*i))
	}
	return strings.Join(all, ",")
}

// asServeContent returns a Range header that net/http answers as RFC 9110 requires
// for this one. net/http differs from RFC 9110 in three points: it accepts signs
// and spaces in numbers, it answers "-0" with 206
// (https://github.com/golang/go/issues/81262), and it refuses large numbers.
func asServeContent(ranges string, size int) string {
	unit, set, ok := strings.Cut(ranges, "=")
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
	case len(specs) > header.MaxRanges && slices.ContainsFunc(specs, func(s string) bool { return !strings.HasPrefix(s, large) }), size == 0:
		return ""
	}
	return "bytes=" + strings.Join(specs, ",")
}

// recordingBucket is a bucket that records which bytes of data are requested.
type recordingBucket struct {
	drivers.Bucket
	opens []string
}

func (b *recordingBucket) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	if strings.HasPrefix(key, drivers.BulkPrefix) {
		b.opens = append(b.opens, fmt.Sprintf("%d from %d", n, off))
	}
	return b.Bucket.Open(ctx, key, off, n)
}

// blobBytes returns the bytes of a blob that are in a response, part after part.
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
			t.Fatalf("NextPart after %d bytes = %v", len(all), err)
		}
		p, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p...)
	}
}

// Only the bytes that the client requests are requested from the store. Closing a
// response before its end would cost the connection.
func TestRequestedBytes(t *testing.T) {
	store := &recordingBucket{Bucket: openMemoryView(t, &memory.Store{})}
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
			t.Errorf("GET with %q = %d, %v, %d bytes, and requests %q, want %d bytes and %q",
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

// Ranges that are close to each other are read with one request.
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
		{[]string{"0-1000000", "900000-2000000"}, http.StatusPartialContent, 2}, // farther back than is kept
		{[]string{"1000-1999", "0-2999", "500-600"}, http.StatusPartialContent, 1},
		{ascending(1000, 1000, 4000), http.StatusPartialContent, 1},
		{ascending(header.MaxRanges, 1000, 3900), http.StatusPartialContent, 1},
		{ascending(40, 1000, 100_000), http.StatusPartialContent, 40},
		{backwards(ascending(40, 1000, 100_000)), http.StatusPartialContent, 40},
		{backwards(ascending(60, 1000, 1000)), http.StatusPartialContent, 1},
		{backwards(ascending(600, 1, 1000)), http.StatusPartialContent, 10},
		{ascending(header.MaxRanges+1, 1, 3900), http.StatusOK, 1},
		{[]string{"0-", "0-"}, http.StatusOK, 1},
		{[]string{"1-", "0-1"}, http.StatusOK, 1},
		{[]string{"1-", "0-0"}, http.StatusPartialContent, 2},
	} {
		r.wants(t, strings.Join(test.ranges, ","), test.requests, func() error {
			w, err := r.serve(t, "GET", d, "Range", "bytes="+strings.Join(test.ranges, ","))
			if err == nil && (w.Code != test.status || w.Header().Get("Content-Length") != strconv.Itoa(w.Body.Len())) {
				err = fmt.Errorf("GET = %d, %v, %d bytes, want %d", w.Code, w.Header(), w.Body.Len(), test.status)
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
