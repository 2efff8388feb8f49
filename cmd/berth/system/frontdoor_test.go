package system

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// frontDoor is berth on Azurite, and a proxy that forwards requests under the host
// name of the store, as the route in deploy/cdn/frontdoor.json does.
type frontDoor struct {
	berth  *process
	env    []string // of berth
	config string   // berth's configuration file
	base   string   // base_url of the CDN
	store  string   // endpoint of the store
	client *http.Client
}

func startFrontDoor(t *testing.T) *frontDoor {
	t.Helper()
	s := emulator.Azurite(t)
	store, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Transport: s.Transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(store) }, // with its host name
	})
	t.Cleanup(proxy.Close)

	f := &frontDoor{store: s.Endpoint, client: proxy.Client()}
	f.env = append(azureEnv(t, s), "BERTH_STORAGE_PREFIX=some/prefix")
	f.base = proxy.URL + "/" + settingOf(f.env, "BERTH_STORAGE_AZURE_CONTAINER") + "/some/prefix"
	f.config = filepath.Join(t.TempDir(), "berth.yaml")
	err = os.WriteFile(f.config, fmt.Appendf(nil, `
redirect:
  cdn: {edge: {kind: frontdoor, base_url: %q}}
  rules: [{target: "cdn:edge"}]
`, f.base), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.berth, err = start(t.TempDir(), f.env, "--config", f.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.berth.stop(); err != nil {
			t.Error(err)
		}
	})
	f.berth.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return f
}

// push pushes a blob and returns the link that berth redirects its readers to.
func (f *frontDoor) push(t *testing.T, data []byte) *url.URL {
	t.Helper()
	d := digest.FromBytes(data).String()
	want(t, f.berth, http.StatusCreated, http.MethodPost, "/v2/test/blobs/uploads/?digest="+d, bytes.NewReader(data))
	a := want(t, f.berth, http.StatusTemporaryRedirect, http.MethodGet, "/v2/test/blobs/"+d, nil)
	link, err := url.Parse(a.header.Get("Location"))
	if err != nil || !strings.HasPrefix(link.String(), f.base+"/data/") {
		t.Fatalf("GET redirects to %s, %v, want %s/data/", link, err, f.base)
	}
	return link
}

// explain returns the URL that `berth redirect explain` prints for the key of a link.
func (f *frontDoor) explain(t *testing.T, link *url.URL, args ...string) string {
	t.Helper()
	_, key, _ := strings.Cut(link.Path, "/data/")
	cmd := exec.Command(filepath.Join(buildDir, "berth"), append([]string{"redirect", "explain", "--key", "data/" + key}, args...)...)
	cmd.Env = f.env
	out, err := cmd.CombinedOutput()
	_, after, ok := strings.Cut(string(out), "307 to ")
	if err != nil || !ok {
		t.Fatalf("berth redirect explain %q: %v\n%s", args, err, out)
	}
	explained, _, _ := strings.Cut(after, "\n")
	return explained
}

// get reads a URL, and returns the response.
func (f *frontDoor) get(t *testing.T, url, byteRange string) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	res, err := f.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{res.StatusCode, res.Header, body}
}

// TestFrontDoor checks that a URL that berth has signed for the store is valid on the
// host of the CDN, for its blob and no other.
func TestFrontDoor(t *testing.T) {
	t.Parallel()
	f := startFrontDoor(t)
	blob, other := randomBytes(1, 100_000), randomBytes(2, 100_000)
	link, otherLink := f.push(t, blob), f.push(t, other)
	wantCheckPasses(t, f.env, f.config, "sig=")

	presigned := f.explain(t, link)
	if !strings.HasPrefix(presigned, f.store) {
		t.Errorf("berth redirect explain without rules = %s, want a URL of %s", presigned, f.store)
	}
	tampered := func(change func(*url.URL)) string {
		u := *link
		change(&u)
		return u.String()
	}
	for _, tc := range []struct {
		what, url, byteRange string
		status               int
		body                 []byte // nil if the request is refused
	}{
		{"the blob", link.String(), "", http.StatusOK, blob},
		{"a range of the blob", link.String(), "bytes=10-19", http.StatusPartialContent, blob[10:20]},
		{"another blob", otherLink.String(), "", http.StatusOK, other},
		{"the blob, by explain", f.explain(t, link, "--config", f.config), "", http.StatusOK, blob},
		{"the blob, by explain without rules", presigned, "", http.StatusOK, blob},
		{"another signature", tampered(func(u *url.URL) { u.RawQuery = strings.Replace(u.RawQuery, "sig=", "sig=A", 1) }), "", http.StatusForbidden, nil},
		{"the signature of another blob", tampered(func(u *url.URL) { u.RawQuery = otherLink.RawQuery }), "", http.StatusForbidden, nil},
		{"another key", f.base + "/meta/format?" + link.RawQuery, "", http.StatusForbidden, nil},
		{"a later expiry", tampered(func(u *url.URL) {
			q := u.Query()
			q.Set("se", "2099-01-01T00:00:00Z")
			u.RawQuery = q.Encode()
		}), "", http.StatusForbidden, nil},
	} {
		a := f.get(t, tc.url, tc.byteRange)
		if a.status != tc.status || tc.body != nil && !bytes.Equal(a.body, tc.body) {
			t.Errorf("%s = %d with %d bytes, want %d with %d bytes", tc.what, a.status, len(a.body), tc.status, len(tc.body))
		}
		if got := a.header.Get("Content-Disposition"); tc.body != nil && got != "attachment" {
			t.Errorf("%s: Content-Disposition = %q, want attachment", tc.what, got)
		}
	}
}
