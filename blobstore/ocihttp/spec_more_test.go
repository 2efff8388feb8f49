package ocihttp

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers/memory"
)

// newSpecClient returns a client of a new server.
func newSpecClient(t *testing.T) specClient {
	t.Helper()
	return specClient{t, &url.URL{Scheme: "http", Host: serve(t, newHandler(t, openMemory(t, &memory.Store{}), blobstore.Config{}, Config{}))}}
}

func indexSet(fields object) pushed {
	s := &set{alg: digest.SHA256}
	s.index("", fields)
	return s.manifests[0]
}

// Names, tags and numbers of tags may be as long and as many as the specification
// allows.
func TestSpecLimits(t *testing.T) {
	c := newSpecClient(t)
	m := indexSet(nil)
	longest := strings.Repeat("z", 128)
	for _, repository := range []string{
		strings.Repeat("a", 255), strings.Repeat("a/", 127) + "a", "a.b_c__d-e---f/0", "manifests", "a/manifests/b", "tags/list", "referrers/blobs/uploads", "_catalog"[1:],
	} {
		for _, tag := range []string{"a", "_", "0", "V1.2-3_4", "a..b", "list", "uploads", longest} {
			c.pulled(c.pushManifest(repository, tag, m, m.digest), m, m.digest)
			c.pulled("/v2/"+repository+"/manifests/"+tag, m, m.digest)
		}
		c.listed(repository, slices.Sorted(slices.Values([]string{"a", "_", "0", "V1.2-3_4", "a..b", "list", "uploads", longest})))
	}
	var tags, query []string
	for i := range 100 {
		tags = append(tags, fmt.Sprintf("%03d%s", i, strings.Repeat("t", 125)))
		query = append(query, "tag="+tags[i])
	}
	for _, n := range []int{10, 100} {
		at := "/v2/many/manifests/" + m.digest.String() + "?" + strings.Join(query[:n], "&")
		resp := c.want(http.StatusCreated, "PUT", at, m.body, "Content-Type", m.mediaType)
		if got := resp.Header.Values("OCI-Tag"); !slices.Equal(got, tags[:n]) {
			t.Errorf("OCI-Tag %q, want %q", got, tags[:n])
		}
		c.listed("many", tags[:n])
	}
	c.want(http.StatusRequestURITooLong, "PUT", "/v2/many/manifests/"+m.digest.String()+"?"+strings.Join(query, "&")+"&tag=x", m.body, "Content-Type", m.mediaType)
}

// The media type is that of the Content-Type if the body has none. A second push with
// another type changes it.
func TestSpecMediaType(t *testing.T) {
	c := newSpecClient(t)
	index := []byte(`{"schemaVersion":2,"manifests":[]}`)
	d := digest.FromBytes(index)
	for _, mediaType := range []string{typeIndex, typeDockerList, typeIndex} {
		m := pushed{mediaType: mediaType, body: index}
		for _, reference := range []string{"latest", d.String()} {
			c.pushManifest("a", reference, m, d)
			c.pulled("/v2/a/manifests/latest", m, d)
			c.pulled("/v2/a/manifests/"+d.String(), m, d)
		}
	}
	c.want(http.StatusBadRequest, "PUT", "/v2/a/manifests/latest", index)
	c.want(http.StatusBadRequest, "PUT", "/v2/a/manifests/latest", index, "Content-Type", "application/vnd.docker.distribution.manifest.v1+json")
}

// A manifest is sent as it is. The types that the client accepts and the parameters of
// mirrors change nothing.
func TestSpecNegotiation(t *testing.T) {
	c := newSpecClient(t)
	m := indexSet(nil)
	c.pushManifest("a", "latest", m, m.digest)
	for _, accept := range []string{"", "*/*", typeImage, typeDockerImage, "application/vnd.docker.distribution.manifest.v1+json", "text/html;q=0.5", ";"} {
		for _, target := range []string{"/v2/a/manifests/latest", "/v2/a/manifests/" + m.digest.String() + "?ns=docker.io&%"} {
			resp := c.want(http.StatusOK, "GET", target, nil, "Accept", accept)
			if got := resp.Header.Get("Content-Type"); got != typeIndex || resp.Header.Get("Content-Encoding") != "" || resp.Header.Get("OCI-Namespace") != "" {
				t.Errorf("GET %s, Accept %q: %v, want the index as it is", target, accept, resp.Header)
			}
		}
	}
}

// Of many clients that push to one tag at once, each is acknowledged, and the tag names
// one of the manifests. Of those that want to create the tag, one succeeds.
func TestSpecRaces(t *testing.T) {
	c := newSpecClient(t)
	var manifests []pushed
	for i := range 8 {
		manifests = append(manifests, indexSet(object{"annotations": map[string]string{"number": fmt.Sprint(i)}}))
	}
	put := func(tag string, m pushed, header ...string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, c.base.String()+"/v2/a/manifests/"+tag, strings.NewReader(string(m.body)))
		if err != nil {
			t.Error(err)
			return 0
		}
		req.Header.Set("Content-Type", m.mediaType)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for round := range 10 {
		var wg sync.WaitGroup
		var created atomic.Int32
		tag := fmt.Sprintf("created-%d", round)
		for _, m := range manifests {
			wg.Go(func() {
				if got := put("moved", m); got != http.StatusCreated {
					t.Errorf("PUT among others = %d, want 201", got)
				}
			})
			wg.Go(func() {
				switch got := put(tag, m, "If-None-Match", "*"); got {
				case http.StatusCreated:
					created.Add(1)
				case http.StatusPreconditionFailed:
				default:
					t.Errorf("PUT with If-None-Match among others = %d, want 201 or 412", got)
				}
			})
		}
		wg.Wait()
		if created.Load() != 1 {
			t.Errorf("%d clients have created the tag, want 1", created.Load())
		}
		for _, tag := range []string{"moved", tag} {
			header, ok := c.exists("/v2/a/manifests/" + tag)
			if !ok || !slices.ContainsFunc(manifests, func(m pushed) bool { return m.digest.String() == header.Get("Docker-Content-Digest") }) {
				t.Errorf("HEAD %s: %v, %v, want one of the manifests", tag, ok, header)
			}
		}
	}
}
