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

// TestFrontDoor has a proxy that passes requests on to Azurite under the name of
// the store, as the route in deploy/cdn/frontdoor.json does: what berth signed
// for the store is good on the other host, for that blob and no other.
func TestFrontDoor(t *testing.T) {
	t.Parallel()
	s := emulator.Azurite(t)
	store, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Transport: s.Transport,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(store) }, // and its host
	})
	t.Cleanup(proxy.Close)
	client := proxy.Client()

	env := append(azureEnv(t, s), "BERTH_STORAGE_PREFIX=some/prefix")
	var base string
	for _, setting := range env {
		if container, ok := strings.CutPrefix(setting, "BERTH_STORAGE_AZURE_CONTAINER="); ok {
			base = proxy.URL + "/" + container + "/some/prefix"
		}
	}
	file := filepath.Join(t.TempDir(), "berth.yaml")
	err = os.WriteFile(file, fmt.Appendf(nil, `
redirect:
  cdn: {edge: {kind: frontdoor, base_url: %q}}
  rules: [{target: "cdn:edge"}]
`, base), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(t.TempDir(), env, "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	p.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

	data := [][]byte{randomBytes(1, 100_000), randomBytes(2, 100_000)}
	var links []*url.URL
	for _, d := range data {
		want(t, p, http.StatusCreated, http.MethodPost, "/v2/test/blobs/uploads/?digest="+digest.FromBytes(d).String(), bytes.NewReader(d))
		a := want(t, p, http.StatusTemporaryRedirect, http.MethodGet, "/v2/test/blobs/"+digest.FromBytes(d).String(), nil)
		link, err := url.Parse(a.header.Get("Location"))
		if err != nil || !strings.HasPrefix(link.String(), base+"/data/") {
			t.Fatalf("a read is sent to %s, %v, want %s/data/", link, err, base)
		}
		links = append(links, link)
	}

	wantChecked(t, env, file, "sig=")

	// explain prints the URL of a blob, by the rules of the file or without any.
	explain := func(args ...string) string {
		_, key, _ := strings.Cut(links[0].Path, "/data/")
		cmd := exec.Command(filepath.Join(buildDir, "berth"), append([]string{"redirect", "explain", "--key", "data/" + key}, args...)...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		_, after, ok := strings.Cut(string(out), "307 to ")
		if err != nil || !ok {
			t.Fatalf("berth redirect explain %q: %v\n%s", args, err, out)
		}
		link, _, _ := strings.Cut(after, "\n")
		return link
	}
	presigned := explain()
	if !strings.HasPrefix(presigned, s.Endpoint) {
		t.Errorf("berth redirect explain, without rules: %s, want a URL of %s", presigned, s.Endpoint)
	}

	tampered := func(change func(*url.URL)) string {
		u := *links[0]
		change(&u)
		return u.String()
	}
	for _, test := range []struct {
		what, url, byteRange string
		status               int
		body                 []byte // nil if it is refused
	}{
		{"the blob", links[0].String(), "", http.StatusOK, data[0]},
		{"a range of it", links[0].String(), "bytes=10-19", http.StatusPartialContent, data[0][10:20]},
		{"the other", links[1].String(), "", http.StatusOK, data[1]},
		{"the blob, as explained", explain("--config", file), "", http.StatusOK, data[0]},
		{"the blob, as explained without rules", presigned, "", http.StatusOK, data[0]},
		{"another signature", tampered(func(u *url.URL) { u.RawQuery = strings.Replace(u.RawQuery, "sig=", "sig=A", 1) }), "", http.StatusForbidden, nil},
		{"the other blob's signature", tampered(func(u *url.URL) { u.RawQuery = links[1].RawQuery }), "", http.StatusForbidden, nil},
		{"another key", base + "/meta/format?" + links[0].RawQuery, "", http.StatusForbidden, nil},
		{"a later expiry", tampered(func(u *url.URL) {
			q := u.Query()
			q.Set("se", "2099-01-01T00:00:00Z")
			u.RawQuery = q.Encode()
		}), "", http.StatusForbidden, nil},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, test.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if test.byteRange != "" {
			req.Header.Set("Range", test.byteRange)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != test.status || test.body != nil && !bytes.Equal(body, test.body) {
			t.Errorf("%s: %d with %d bytes, %v, want %d with %d", test.what, res.StatusCode, len(body), err, test.status, len(test.body))
		}
		if test.body != nil && res.Header.Get("Content-Disposition") != "attachment" {
			t.Errorf("%s: Content-Disposition %q, want attachment", test.what, res.Header.Get("Content-Disposition"))
		}
	}
}
