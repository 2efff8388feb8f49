package drivertest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/berthhq/berth/drivers"
)

func signCases() []testCase {
	return []testCase{
		{"Sign", sign},
		{"SignWindow", signWindow},
		{"SignTampered", signTampered},
		{"SignHost", signHost},
		{"SignExpired", signExpired},
	}
}

// sign returns a signed URL. It skips the test if the driver does not sign.
func (e *env) sign(b drivers.Bucket, key string, opts drivers.SignOptions) drivers.Signed {
	e.Helper()
	before := time.Now()
	s, err := b.SignGet(e.Context(), key, opts)
	if errors.Is(err, errors.ErrUnsupported) {
		e.Skipf("SignGet = %v: this driver does not sign URLs", err)
	}
	e.must(err, "SignGet(%q)", key)
	// Allow a second, because some formats have whole seconds only.
	if s.Expires.Before(before.Add(opts.Expires-time.Second)) || s.Expires.After(time.Now().Add(opts.Expires+opts.Window+time.Second)) {
		e.Errorf("SignGet(%q, %+v) at %v expires %v", key, opts, before, s.Expires)
	}
	return s
}

// get fetches a URL like a client that has no credentials.
func (e *env) get(url, byteRange string) (int, http.Header, []byte) {
	e.Helper()
	req, err := http.NewRequestWithContext(e.Context(), http.MethodGet, url, nil)
	e.must(err, "NewRequest(%q)", url)
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	resp, err := e.Client.Do(req)
	e.must(err, "GET %s", url)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	e.must(err, "the body of GET %s", url)
	return resp.StatusCode, resp.Header, data
}

// sign fetches signed URLs: whole, in a range, and with overridden headers.
func sign(e *env) {
	data := e.bytes(10_000)
	e.create(e.a, "data/a-b/x_y!z:1+2", data)
	s := e.sign(e.b, "data/a-b/x_y!z:1+2", drivers.SignOptions{Expires: 10 * time.Minute})
	if status, _, got := e.get(s.URL, ""); status != http.StatusOK || !bytes.Equal(got, data) {
		e.Errorf("GET of the signed URL = %d, %s, want %s", status, brief(got), brief(data))
	}
	if status, _, got := e.get(s.URL, "bytes=100-199"); status != http.StatusPartialContent || !bytes.Equal(got, data[100:200]) {
		e.Errorf("GET of a range of the signed URL = %d, %s, want %s", status, brief(got), brief(data[100:200]))
	}
	s = e.sign(e.a, "data/a-b/x_y!z:1+2", drivers.SignOptions{
		Expires: time.Minute, ContentType: "application/vnd.oci.image.layer.v1.tar+gzip", ContentDisposition: `attachment; filename="a b.txt"`,
	})
	status, header, got := e.get(s.URL, "")
	if status != http.StatusOK || !bytes.Equal(got, data) {
		e.Errorf("GET of the signed URL with overridden headers = %d, %s, want %s", status, brief(got), brief(data))
	}
	if got, want := header.Get("Content-Type"), "application/vnd.oci.image.layer.v1.tar+gzip"; got != want {
		e.Errorf("Content-Type of the signed URL = %q, want %q", got, want)
	}
	if got, want := header.Get("Content-Disposition"), `attachment; filename="a b.txt"`; got != want {
		e.Errorf("Content-Disposition of the signed URL = %q, want %q", got, want)
	}
	s = e.sign(e.a, "data/absent", drivers.SignOptions{Expires: time.Minute})
	if status, _, _ := e.get(s.URL, ""); status != http.StatusNotFound && status != http.StatusForbidden {
		e.Errorf("GET of the signed URL of an absent key = %d, want 404 or 403", status)
	}
}

// signWindow signs with two replicas. Within a window the URL must be the same,
// and in the next window it must differ.
func signWindow(e *env) {
	data := e.text()
	e.create(e.a, "data/k", data)
	opts := drivers.SignOptions{Expires: 10 * time.Minute, Window: time.Second}
	before := e.sign(e.a, "data/k", opts)
	time.Sleep(opts.Window + 10*time.Millisecond)
	if after := e.sign(e.b, "data/k", opts); after.URL == before.URL {
		e.Errorf("SignGet in the next window = %s, want another URL", after.URL)
	}
	opts.Window = time.Hour
	for range 3 { // the hour may end between two calls, but not each time
		s, other := e.sign(e.a, "data/k", opts), e.sign(e.b, "data/k", opts)
		if s.URL != other.URL {
			e.Logf("SignGet = %s and %s", s.URL, other.URL)
			continue
		}
		if status, _, got := e.get(s.URL, ""); status != http.StatusOK || !bytes.Equal(got, data) {
			e.Errorf("GET of the signed URL = %d, %s, want %s", status, brief(got), brief(data))
		}
		return
	}
	e.Error("SignGet with a window of an hour never returns the same URL twice")
}

// refused fails the test unless the store refuses the URL.
func (e *env) refused(url, what string) {
	e.Helper()
	if status, _, got := e.get(url, ""); status/100 != 4 {
		e.Errorf("GET of a signed URL %s = %d, %s, want 4xx", what, status, brief(got))
	}
}

// signTampered changes the key and the signature of a signed URL.
func signTampered(e *env) {
	e.create(e.a, "data/shown", e.text())
	e.create(e.a, "data/other", e.text())
	s := e.sign(e.a, "data/shown", drivers.SignOptions{Expires: 10 * time.Minute})
	if status, _, _ := e.get(s.URL, ""); status != http.StatusOK {
		e.Fatalf("GET of the signed URL = %d", status)
	}
	e.refused(strings.Replace(s.URL, "shown", "other", 1), "for another key")
	u, err := url.Parse(s.URL)
	e.must(err, "Parse(%q)", s.URL)
	plain := *u
	plain.RawQuery = ""
	e.refused(plain.String(), "without its signature")
	q := u.Query()
	for _, name := range []string{"X-Amz-Signature", "X-Goog-Signature", "sig"} {
		if v := q.Get(name); v != "" {
			flipped := "A"
			if v[0] == 'A' || v[0] == 'a' {
				flipped = "b"
			}
			q.Set(name, flipped+v[1:])
			tampered := *u
			tampered.RawQuery = q.Encode()
			e.refused(tampered.String(), "with another signature")
			return
		}
	}
	e.Errorf("SignGet = %s, want a signature in a known parameter", s.URL)
}

// signHost requests a signed URL with another host name in the Host header.
func signHost(e *env) {
	e.create(e.a, "data/k", e.text())
	s := e.sign(e.a, "data/k", drivers.SignOptions{Expires: 10 * time.Minute})
	req, err := http.NewRequestWithContext(e.Context(), http.MethodGet, s.URL, nil)
	e.must(err, "NewRequest(%q)", s.URL)
	req.Host = "other.example"
	resp, err := e.Client.Do(req)
	e.must(err, "GET %s", s.URL)
	defer resp.Body.Close()
	if resp.StatusCode/100 != 4 {
		e.Errorf("GET of a signed URL on another host = %s, want 4xx", resp.Status)
	}
}

// signExpired fetches a signed URL before and after it expires.
func signExpired(e *env) {
	e.create(e.a, "data/k", e.text())
	s := e.sign(e.a, "data/k", drivers.SignOptions{Expires: 2 * time.Second})
	if status, _, _ := e.get(s.URL, ""); status != http.StatusOK {
		e.Fatalf("GET of the signed URL = %d", status)
	}
	time.Sleep(time.Until(s.Expires) + 1500*time.Millisecond)
	e.refused(s.URL, "that has expired")
}
