package ocihttp

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers/memory"
)

// specClient is a client that relies on nothing but the distribution
// specification. It follows Locations and checks the required headers.
type specClient struct {
	t    *testing.T
	base *url.URL
}

// want sends a request and checks the status of the response.
func (c specClient) want(status int, method, target string, body []byte, header ...string) *http.Response {
	c.t.Helper()
	u, err := c.base.Parse(target)
	if err != nil {
		c.t.Fatalf("Location %q: %v", target, err)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, u.String(), bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Transfer-Encoding" {
			req.ContentLength = -1
			continue
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(p))
	if resp.StatusCode != status {
		c.t.Fatalf("%s %s = %s, want %d: %s", method, target, resp.Status, status, p)
	}
	if status >= 400 && status != http.StatusRequestedRangeNotSatisfiable && resp.Header.Get("Content-Type") != "application/json" {
		c.t.Errorf("%s %s = %s of type %q, want JSON", method, target, resp.Status, resp.Header.Get("Content-Type"))
	}
	return resp
}

// location returns the Location of a response, with a query parameter added unless
// key is empty.
func (c specClient) location(resp *http.Response, key, value string) string {
	c.t.Helper()
	u, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		c.t.Fatalf("Location %q: %v", resp.Header.Get("Location"), err)
	}
	if key != "" {
		q := u.Query()
		q.Set(key, value)
		u.RawQuery = q.Encode()
	}
	return u.String()
}

// pushed checks that the blob can be read at the Location and by its digest.
func (c specClient) pushed(resp *http.Response, repository string, d digest.Digest, p []byte) {
	c.t.Helper()
	if got := resp.Header.Get("Docker-Content-Digest"); got != d.String() {
		c.t.Errorf("Docker-Content-Digest %q, want %q", got, d)
	}
	for _, target := range []string{c.location(resp, "", ""), "/v2/" + repository + "/blobs/" + d.String()} {
		for _, method := range []string{"HEAD", "GET"} {
			resp := c.want(http.StatusOK, method, target, nil)
			if resp.ContentLength != int64(len(p)) || resp.Header.Get("Docker-Content-Digest") != d.String() {
				c.t.Errorf("%s: Content-Length %d, Docker-Content-Digest %q, want %d, %q", method, resp.ContentLength, resp.Header.Get("Docker-Content-Digest"), len(p), d)
			}
			if got, _ := io.ReadAll(resp.Body); method == "GET" && !bytes.Equal(got, p) {
				c.t.Errorf("GET returns %d bytes that differ from the blob", len(got))
			}
		}
	}
}

// start starts an upload. It returns the minimum size of chunks before the last.
func (c specClient) start(repository string, alg digest.Algorithm) (resp *http.Response, least int) {
	c.t.Helper()
	target := "/v2/" + repository + "/blobs/uploads/"
	if alg != digest.SHA256 {
		target += "?digest-algorithm=" + alg.String()
	}
	resp = c.want(http.StatusAccepted, "POST", target, nil)
	if h := resp.Header.Get("OCI-Chunk-Min-Length"); h != "" {
		var err error
		if least, err = strconv.Atoi(h); err != nil {
			c.t.Fatal(err)
		}
	}
	return resp, least
}

const octets = "application/octet-stream"

// inChunks sends p in three chunks. If putLast, the last one is sent with PUT. If
// disorderly, a chunk that is out of order is sent before each.
func (c specClient) inChunks(repository string, d digest.Digest, p []byte, putLast, disorderly bool) {
	c.t.Helper()
	resp, least := c.start(repository, d.Algorithm())
	size := max(len(p)/3+1, least)
	for off := 0; off < len(p); off += size {
		last := min(off+size, len(p)) - 1
		if disorderly {
			bad := off + size
			if bad >= len(p) {
				bad = 0
			}
			if bad != off {
				end := min(bad+size, len(p)) - 1
				at := c.location(resp, "", "")
				c.want(http.StatusRequestedRangeNotSatisfiable, "PATCH", at, p[bad:end+1],
					"Content-Type", octets, "Content-Range", fmt.Sprintf("%d-%d", bad, end))
				resp = c.want(http.StatusNoContent, "GET", at, nil)
				if got, want := resp.Header.Get("Range"), fmt.Sprintf("0-%d", max(off-1, 0)); got != want {
					c.t.Errorf("status: Range %q, want %q", got, want)
				}
			}
		}
		header := []string{"Content-Type", octets, "Content-Range", fmt.Sprintf("%d-%d", off, last)}
		if putLast && last == len(p)-1 {
			resp = c.want(http.StatusCreated, "PUT", c.location(resp, "digest", d.String()), p[off:], header...)
			break
		}
		resp = c.want(http.StatusAccepted, "PATCH", c.location(resp, "", ""), p[off:last+1], header...)
		if got, want := resp.Header.Get("Range"), fmt.Sprintf("0-%d", last); got != want {
			c.t.Errorf("PATCH: Range %q, want %q", got, want)
		}
	}
	if !putLast {
		resp = c.want(http.StatusCreated, "PUT", c.location(resp, "digest", d.String()), nil)
	}
	c.pushed(resp, repository, d, p)
}

// specTests are what the specification
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md) and its
// conformance suite require for blobs. The suite itself runs nothing against a
// registry without manifests.
var specTests = map[string]func(c specClient, repository string, alg digest.Algorithm, random func(n int) []byte){
	"single POST": func(c specClient, repository string, alg digest.Algorithm, random func(int) []byte) {
		p := random(5000)
		d := alg.FromBytes(p)
		c.pushed(c.want(http.StatusCreated, "POST", "/v2/"+repository+"/blobs/uploads/?digest="+d.String(), p, "Content-Type", octets), repository, d, p)
	},
	"POST and PUT": func(c specClient, repository string, alg digest.Algorithm, random func(int) []byte) {
		for _, p := range [][]byte{random(300_000), {}, []byte("{}")} {
			d := alg.FromBytes(p)
			resp, _ := c.start(repository, digest.SHA256)
			c.pushed(c.want(http.StatusCreated, "PUT", c.location(resp, "digest", d.String()), p, "Content-Type", octets), repository, d, p)
		}
	},
	"one chunk": func(c specClient, repository string, alg digest.Algorithm, random func(int) []byte) {
		p := random(3)
		resp, _ := c.start(repository, alg)
		resp = c.want(http.StatusAccepted, "PATCH", c.location(resp, "", ""), p, "Content-Type", octets, "Content-Range", "0-2")
		d := alg.FromBytes(p)
		c.pushed(c.want(http.StatusCreated, "PUT", c.location(resp, "digest", d.String()), nil), repository, d, p)
	},
	"stream": func(c specClient, repository string, alg digest.Algorithm, random func(int) []byte) {
		p := random(300_000)
		resp, _ := c.start(repository, alg)
		resp = c.want(http.StatusAccepted, "PATCH", c.location(resp, "", ""), p, "Content-Type", octets, "Transfer-Encoding", "chunked")
		d := alg.FromBytes(p)
		c.pushed(c.want(http.StatusCreated, "PUT", c.location(resp, "digest", d.String()), nil), repository, d, p)
	},
	"unannounced stream": func(c specClient, repository string, alg digest.Algorithm, random func(int) []byte) {
		for _, p := range [][]byte{random(3), random(300_000)} {
			d := alg.FromBytes(p)
			for range 2 { // the response to the first may be lost
				resp, _ := c.start(repository, digest.SHA256)
				resp = c.want(http.StatusAccepted, "PATCH", c.location(resp, "", ""), p, "Content-Type", octets, "Transfer-Encoding", "chunked")
				at := c.location(resp, "digest", d.String())
				for range 2 {
					c.pushed(c.want(http.StatusCreated, "PUT", at, nil), repository, d, p)
				}
			}
		}
	},
	"unannounced chunks": func(c specClient, repository string, alg digest.Algorithm, random func(int) []byte) {
		p := random(3*(64<<10) - 5)
		resp, least := c.start(repository, digest.SHA256)
		size, header := max(len(p)/2, least), []string{"Content-Type", octets, "Content-Range"}
		resp = c.want(http.StatusAccepted, "PATCH", c.location(resp, "", ""), p[:size], append(header, fmt.Sprintf("0-%d", size-1))...)
		d := alg.FromBytes(p)
		resp = c.want(http.StatusCreated, "PUT", c.location(resp, "digest", d.String()), p[size:], append(header, fmt.Sprintf("%d-%d", size, len(p)-1))...)
		c.pushed(resp, repository, d, p)
	},
	"unannounced wrong digest": func(c specClient, repository string, alg digest.Algorithm, random func(int) []byte) {
		d := alg.FromString("another")
		for _, p := range [][]byte{random(3), random(3*(64<<10) - 5)} {
			resp, _ := c.start(repository, digest.SHA256)
			resp = c.want(http.StatusAccepted, "PATCH", c.location(resp, "", ""), p)
			for range 2 {
				bad := c.want(http.StatusBadRequest, "PUT", c.location(resp, "digest", d.String()), nil)
				if body, _ := io.ReadAll(bad.Body); !bytes.Contains(body, []byte(`"DIGEST_INVALID"`)) {
					c.t.Errorf("PUT by a wrong digest: %s, want DIGEST_INVALID", body)
				}
			}
			c.want(http.StatusNotFound, "HEAD", "/v2/"+repository+"/blobs/"+d.String(), nil)
			right := digest.FromBytes(p)
			c.pushed(c.want(http.StatusCreated, "PUT", c.location(resp, "digest", right.String()), nil), repository, right, p)
		}
	},
	"chunks": func(c specClient, repository string, alg digest.Algorithm, random func(int) []byte) {
		for _, putLast := range []bool{false, true} {
			for _, disorderly := range []bool{false, true} {
				p := random(3*(64<<10) - 5)
				c.inChunks(repository, alg.FromBytes(p), p, putLast, disorderly)
			}
		}
	},
	"cancel": func(c specClient, repository string, alg digest.Algorithm, random func(int) []byte) {
		resp, _ := c.start(repository, alg)
		c.want(http.StatusNoContent, "DELETE", c.location(resp, "", ""), nil)
		c.want(http.StatusNotFound, "GET", c.location(resp, "", ""), nil)
	},
	"mount": func(c specClient, repository string, alg digest.Algorithm, random func(int) []byte) {
		p := random(5000)
		d := alg.FromBytes(p)
		mount := "/v2/" + repository + "/blobs/uploads/?mount=" + d.String()
		other := repository + "/other"
		for _, target := range []string{mount + "&from=" + other, mount} { // the source does not have it
			resp := c.want(http.StatusAccepted, "POST", target, nil)
			c.want(http.StatusNoContent, "DELETE", c.location(resp, "", ""), nil)
		}
		c.want(http.StatusCreated, "POST", "/v2/"+other+"/blobs/uploads/?digest="+d.String(), p)
		for _, target := range []string{mount + "&from=" + other, mount} {
			c.pushed(c.want(http.StatusCreated, "POST", target, nil), repository, d, p)
			c.want(http.StatusAccepted, "DELETE", "/v2/"+repository+"/blobs/"+d.String(), nil)
		}
	},
	"delete": func(c specClient, repository string, alg digest.Algorithm, random func(int) []byte) {
		p := random(5000)
		at := "/v2/" + repository + "/blobs/" + alg.FromBytes(p).String()
		c.want(http.StatusNotFound, "HEAD", at, nil)
		c.want(http.StatusNotFound, "DELETE", at, nil)
		c.want(http.StatusCreated, "POST", "/v2/"+repository+"/blobs/uploads/?digest="+alg.FromBytes(p).String(), p)
		c.want(http.StatusAccepted, "DELETE", at, nil)
		c.want(http.StatusNotFound, "GET", at, nil)
	},
	"ranges": func(c specClient, repository string, alg digest.Algorithm, random func(int) []byte) {
		p := random(2048)
		d := alg.FromBytes(p)
		at := c.location(c.want(http.StatusCreated, "POST", "/v2/"+repository+"/blobs/uploads/?digest="+d.String(), p), "", "")
		for header, want := range map[string]chunk{"500-1499": {500, 1000}, "500-": {500, 1548}, "-500": {1548, 500}, "2000-5000": {2000, 48}} {
			resp := c.want(http.StatusPartialContent, "GET", at, nil, "Range", "bytes="+header)
			got, _ := io.ReadAll(resp.Body)
			if !bytes.Equal(got, p[want.off:want.off+want.n]) || resp.ContentLength != int64(want.n) ||
				resp.Header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/2048", want.off, want.off+want.n-1) {
				c.t.Errorf("bytes=%s: %d bytes, Content-Length %d, Content-Range %q", header, len(got), resp.ContentLength, resp.Header.Get("Content-Range"))
			}
		}
		for _, header := range []string{"500-0", "5000-10000"} {
			c.want(http.StatusRequestedRangeNotSatisfiable, "GET", at, nil, "Range", "bytes="+header)
		}
	},
	"wrong digest": func(c specClient, repository string, alg digest.Algorithm, random func(int) []byte) {
		d, p := alg.FromString("another"), random(3*(64<<10)-5)
		c.want(http.StatusBadRequest, "POST", "/v2/"+repository+"/blobs/uploads/?digest="+d.String(), p)
		resp, _ := c.start(repository, alg)
		c.want(http.StatusBadRequest, "PUT", c.location(resp, "digest", d.String()), p)
		resp = c.want(http.StatusAccepted, "PATCH", c.location(resp, "", ""), p)
		c.want(http.StatusBadRequest, "PUT", c.location(resp, "digest", d.String()), nil)
		c.want(http.StatusNotFound, "HEAD", "/v2/"+repository+"/blobs/"+d.String(), nil)
		for _, bad := range []string{"sha256:baddigeststring", "sha256:" + strings.Repeat("a", 63), "sha512:" + strings.Repeat("a", 64), "unknown:" + strings.Repeat("a", 64)} {
			c.want(http.StatusBadRequest, "GET", "/v2/"+repository+"/blobs/"+bad, nil)
			c.want(http.StatusNotFound, "HEAD", "/v2/"+repository+"/blobs/"+bad, nil)
			c.want(http.StatusBadRequest, "POST", "/v2/"+repository+"/blobs/uploads/?digest="+bad, p)
		}
	},
}

func TestDistributionSpec(t *testing.T) {
	for habit, h := range habits() {
		for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			addr := serve(t, newHandler(t, openMemory(t, &memory.Store{Habits: h}), blobstore.Config{Upload: smallMemory}, Config{}))
			for name, test := range specTests {
				t.Run(fmt.Sprintf("%s/%s/%s", habit, alg, name), func(t *testing.T) {
					t.Parallel()
					rng := rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32s", name))[:32]))
					random := func(n int) []byte {
						p := make([]byte, n)
						_, _ = rng.Read(p) // it never fails
						return p
					}
					c := specClient{t, &url.URL{Scheme: "http", Host: addr}}
					test(c, "spec/"+strings.ReplaceAll(strings.ToLower(name), " ", "-"), alg, random)
				})
			}
		}
	}
}
