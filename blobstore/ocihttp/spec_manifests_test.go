package ocihttp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/drivers/memory"
)

// seeded returns a function that returns random bytes, the same for each name.
func seeded(name string) func(n int) []byte {
	rng := rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32s", name))[:32]))
	return func(n int) []byte {
		p := make([]byte, n)
		_, _ = rng.Read(p) // it never fails
		return p
	}
}

// onServers calls test with a client of a server for each kind of store and each
// algorithm.
func onServers(t *testing.T, test func(t *testing.T, c specClient, alg digest.Algorithm)) {
	t.Helper()
	for habit, h := range habits() {
		for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			addr := serve(t, newHandler(t, openMemory(t, &memory.Store{Habits: h}), blobstore.Config{}, Config{}))
			t.Run(habit+"/"+alg.String(), func(t *testing.T) {
				t.Parallel()
				test(t, specClient{t, &url.URL{Scheme: "http", Host: addr}}, alg)
			})
		}
	}
}

func (c specClient) with(t *testing.T) specClient { return specClient{t, c.base} }

// pushBlobs pushes the blobs of a set.
func (c specClient) pushBlobs(repository string, s *set) {
	c.t.Helper()
	for d, p := range s.blobs {
		c.want(http.StatusCreated, "POST", "/v2/"+repository+"/blobs/uploads/?digest="+d.String(), p, "Content-Type", octets)
	}
}

// pushManifest pushes a manifest and checks the response. It returns the Location.
func (c specClient) pushManifest(repository, reference string, m pushed, d digest.Digest) string {
	c.t.Helper()
	resp := c.want(http.StatusCreated, "PUT", "/v2/"+repository+"/manifests/"+reference, m.body, "Content-Type", m.mediaType)
	for header, want := range map[string]string{"Docker-Content-Digest": d.String(), "Oci-Subject": m.subject.String()} {
		if got := resp.Header.Get(header); got != want {
			c.t.Errorf("PUT %s: %s %q, want %q", reference, header, got, want)
		}
	}
	return c.location(resp, "", "")
}

// pulled checks the responses to GET and HEAD of a manifest.
func (c specClient) pulled(target string, m pushed, d digest.Digest) {
	c.t.Helper()
	for _, method := range []string{"GET", "HEAD"} {
		resp := c.want(http.StatusOK, method, target, nil, "Accept", typeIndex+", "+typeImage)
		got, err := io.ReadAll(resp.Body)
		if err != nil || method == "GET" && !bytes.Equal(got, m.body) || method == "HEAD" && len(got) > 0 {
			c.t.Errorf("%s %s = %d bytes, %v, want the %d bytes that were pushed", method, target, len(got), err, len(m.body))
		}
		if resp.ContentLength != int64(len(m.body)) || resp.TransferEncoding != nil {
			c.t.Errorf("%s %s: Content-Length %d, Transfer-Encoding %v, want %d", method, target, resp.ContentLength, resp.TransferEncoding, len(m.body))
		}
		for header, want := range map[string]string{"Content-Type": m.mediaType, "Docker-Content-Digest": d.String()} {
			if got := resp.Header.Get(header); got != want {
				c.t.Errorf("%s %s: %s %q, want %q", method, target, header, got, want)
			}
		}
	}
}

// getJSON decodes the body of a response.
func getJSON[T any](c specClient, target string) (v T, header http.Header) {
	c.t.Helper()
	resp := c.want(http.StatusOK, "GET", target, nil)
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		c.t.Fatalf("GET %s: %v", target, err)
	}
	return v, resp.Header
}

type tagList struct {
	Name string
	Tags []string
}

type repositoryList struct {
	Repositories []string
}

type referrerList struct {
	SchemaVersion int
	MediaType     string
	Manifests     []referrer
}

// Every set is pushed, listed, pulled and deleted as the conformance suite does it:
// children first, by digest and then by tag, or with the tags as parameters.
func TestSpecSets(t *testing.T) {
	onServers(t, func(t *testing.T, c specClient, alg digest.Algorithm) {
		for name, build := range specSets {
			for _, parameters := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%v", name, parameters), func(t *testing.T) {
					t.Parallel()
					s := &set{alg: alg, random: seeded(name), blobs: map[digest.Digest][]byte{}}
					build(s)
					repository := "sets/" + strings.ReplaceAll(name, " ", "-") + "/" + fmt.Sprint(parameters)
					c.with(t).roundTrip(repository, s, parameters)
				})
			}
		}
	})
}

// roundTrip pushes, pulls, lists and deletes a set.
func (c specClient) roundTrip(repository string, s *set, parameters bool) {
	c.t.Helper()
	at := "/v2/" + repository
	c.pushBlobs(repository, s)
	tags := map[string]digest.Digest{} // the digest that GET by tag returns
	for _, m := range s.manifests {
		reference := m.digest.String()
		if m.tag != "" && parameters {
			reference += "?tag=" + m.tag + "&tag=" + m.tag + ".2"
			tags[m.tag], tags[m.tag+".2"] = m.digest, m.digest
		}
		c.pulled(c.pushManifest(repository, reference, m, m.digest), m, m.digest)
		if m.tag != "" && !parameters {
			tags[m.tag] = digest.FromBytes(m.body)
			c.pulled(c.pushManifest(repository, m.tag, m, tags[m.tag]), m, tags[m.tag])
		}
	}
	for _, m := range s.manifests {
		c.pulled(at+"/manifests/"+m.digest.String(), m, m.digest)
		if m.tag != "" {
			c.pulled(at+"/manifests/"+m.tag, m, tags[m.tag])
		}
	}
	c.listed(repository, slices.Sorted(maps.Keys(tags)))
	c.referrersListed(repository, s)

	for tag := range tags {
		c.want(http.StatusAccepted, "DELETE", at+"/manifests/"+tag, nil)
		c.want(http.StatusNotFound, "HEAD", at+"/manifests/"+tag, nil)
		c.want(http.StatusNotFound, "DELETE", at+"/manifests/"+tag, nil)
	}
	for _, m := range slices.Backward(s.manifests) {
		byDigest := []digest.Digest{m.digest}
		if d := digest.FromBytes(m.body); m.tag != "" && !parameters && d != m.digest {
			byDigest = append(byDigest, d)
		}
		for _, d := range byDigest {
			c.pulled(at+"/manifests/"+d.String(), m, d)
			c.want(http.StatusAccepted, "DELETE", at+"/manifests/"+d.String(), nil)
			c.want(http.StatusNotFound, "HEAD", at+"/manifests/"+d.String(), nil)
			c.want(http.StatusNotFound, "GET", at+"/manifests/"+d.String(), nil)
			c.want(http.StatusNotFound, "DELETE", at+"/manifests/"+d.String(), nil)
		}
	}
	for d := range s.blobs {
		c.want(http.StatusAccepted, "DELETE", at+"/blobs/"+d.String(), nil)
		c.want(http.StatusNotFound, "HEAD", at+"/blobs/"+d.String(), nil)
	}
	c.listed(repository, nil)
}

// listed checks the list of tags, whole and after each tag.
func (c specClient) listed(repository string, want []string) {
	c.t.Helper()
	for i := range len(want) + 1 {
		target := "/v2/" + repository + "/tags/list"
		if i > 0 {
			target += "?last=" + want[i-1]
		}
		got, _ := getJSON[tagList](c, target)
		if got.Name != repository || got.Tags == nil || !slices.Equal(got.Tags, want[i:]) {
			c.t.Errorf("GET %s = %+v, want the tags %q", target, got, want[i:])
		}
	}
}

// referrersListed checks the referrers of every subject in the set, and of a manifest
// that is none.
func (c specClient) referrersListed(repository string, s *set) {
	c.t.Helper()
	subjects := map[digest.Digest]map[digest.Digest]referrer{s.alg.FromString("no subject"): {}}
	for _, m := range s.manifests {
		if m.subject == "" {
			continue
		}
		if subjects[m.subject] == nil {
			subjects[m.subject] = map[digest.Digest]referrer{}
		}
		want := referrer{m.mediaType, int64(len(m.body)), m.digest, m.artifactType, m.annotations}
		subjects[m.subject][want.Digest] = want
		if d := digest.FromBytes(m.body); m.tag != "" && s.alg != digest.SHA256 {
			if _, ok := c.exists("/v2/" + repository + "/manifests/" + d.String()); ok {
				want.Digest = d
				subjects[m.subject][d] = want
			}
		}
	}
	for subject, want := range subjects {
		target := "/v2/" + repository + "/referrers/" + subject.String()
		c.wantReferrers(target, want, "")
		types := map[string]bool{"application/vnd.example.other+json": true}
		for _, r := range want {
			types[r.ArtifactType] = true
		}
		for artifactType := range types {
			some := maps.Clone(want)
			maps.DeleteFunc(some, func(_ digest.Digest, r referrer) bool { return r.ArtifactType != artifactType })
			if artifactType != "" {
				c.wantReferrers(target+"?artifactType="+url.QueryEscape(artifactType), some, "artifactType")
			}
		}
	}
}

func (c specClient) wantReferrers(target string, want map[digest.Digest]referrer, filters string) {
	c.t.Helper()
	got, header := getJSON[referrerList](c, target)
	if got.SchemaVersion != 2 || got.MediaType != typeIndex || got.Manifests == nil || header.Get("Content-Type") != typeIndex {
		c.t.Errorf("GET %s: Content-Type %q, %+v, want an index", target, header.Get("Content-Type"), got)
	}
	if header.Get("Oci-Filters-Applied") != filters {
		c.t.Errorf("GET %s: OCI-Filters-Applied %q, want %q", target, header.Get("Oci-Filters-Applied"), filters)
	}
	found := map[digest.Digest]referrer{}
	for _, r := range got.Manifests {
		found[r.Digest] = r
	}
	if diff := cmp.Diff(want, found); diff != "" || len(found) != len(got.Manifests) {
		c.t.Errorf("GET %s has %d entries, want each referrer once (-want +got):\n%s", target, len(got.Manifests), diff)
	}
}

// exists returns the header of the response to HEAD, and whether it is 200.
func (c specClient) exists(target string) (http.Header, bool) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodHead, c.base.String()+target, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.Header, resp.StatusCode == http.StatusOK
}
