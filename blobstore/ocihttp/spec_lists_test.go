package ocihttp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/access"
	"github.com/berthhq/berth/drivers/memory"
)

// next returns the URL in a Link header, or nothing if there is none.
func (c specClient) next(header http.Header) string {
	c.t.Helper()
	link := header.Get("Link")
	if link == "" {
		return ""
	}
	target, rest, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if !ok || strings.TrimSpace(rest) != `; rel="next"` || !strings.HasPrefix(target, "/v2/") {
		c.t.Fatalf("Link %q, want <relative URL>; rel=\"next\"", link)
	}
	return target
}

// allPages returns the entries of a list, from this page on to the last, and the number
// of pages.
func allPages[T any](c specClient, target string, entries func(page T) []string) (all []string, pages int) {
	c.t.Helper()
	for target != "" {
		page, header := getJSON[T](c, target)
		all = append(all, entries(page)...)
		target = c.next(header)
		if pages++; pages > 1000 {
			c.t.Fatal("more than 1000 pages")
		}
	}
	return all, pages
}

func tagsOf(l tagList) []string                { return l.Tags }
func repositoriesOf(l repositoryList) []string { return l.Repositories }

// Lists of tags and of repositories are paged: n entries, from after last, and a Link
// as long as there are more.
func TestSpecPages(t *testing.T) {
	onServers(t, func(t *testing.T, c specClient, alg digest.Algorithm) {
		c = c.with(t)
		s := &set{alg: alg, random: seeded("pages"), blobs: map[digest.Digest][]byte{}}
		s.index("", nil)
		m := s.manifests[0]
		var tags, repositories, query []string
		for i := range 23 {
			tags = append(tags, fmt.Sprintf("v1.%d", i))
			repositories = append(repositories, fmt.Sprintf("a%d/b", i))
			query = append(query, "tag="+tags[i])
			c.pushManifest(repositories[i], m.digest.String(), m, m.digest)
		}
		c.pushManifest(repositories[0], m.digest.String()+"?"+strings.Join(query, "&"), m, m.digest)
		slices.Sort(tags)
		slices.Sort(repositories)
		for _, n := range []int{1, 2, 7, 22, 23, 24, 10_000, 1 << 40} {
			list := fmt.Sprintf("/v2/%s/tags/list?n=%d", repositories[0], n)
			if got, pages := allPages(c, list, tagsOf); !slices.Equal(got, tags) || pages != (22+n)/n {
				t.Errorf("pages of %d tags: %d with %q, want %d with %q", n, pages, got, (22+n)/n, tags)
			}
			if got, pages := allPages(c, fmt.Sprintf("/v2/_catalog?n=%d", n), repositoriesOf); !slices.Equal(got, repositories) || pages != (22+n)/n {
				t.Errorf("pages of %d repositories: %d with %q, want %d with %q", n, pages, got, (22+n)/n, repositories)
			}
			for i, last := range tags {
				got, _ := getJSON[tagList](c, list+"&last="+last)
				if want := tags[i+1 : min(i+1+n, len(tags))]; !slices.Equal(got.Tags, want) {
					t.Errorf("%d tags after %s: %q, want %q", n, last, got.Tags, want)
				}
			}
		}
		for _, target := range []string{"/v2/" + repositories[0] + "/tags/list?n=0", "/v2/_catalog?n=0"} {
			if resp := c.want(http.StatusOK, "GET", target, nil); resp.Header.Get("Link") != "" {
				t.Errorf("GET %s: Link %q, want none", target, resp.Header.Get("Link"))
			}
		}
	})
}

// A long list of referrers is continued in further responses of at most 4 MiB.
func TestSpecReferrersPages(t *testing.T) {
	c := specClient{t, &url.URL{Scheme: "http", Host: serve(t, newHandler(t, openMemory(t, &memory.Store{}), blobstore.Config{}, Config{}))}}
	s := &set{alg: digest.SHA256, random: seeded("referrers"), blobs: map[digest.Digest][]byte{}}
	subject := s.descriptor(typeImage, []byte("subject"), nil)
	want := map[string][]string{}
	for i := range 7 {
		kind := "application/vnd.example." + fmt.Sprint(i%2)
		s.index("", object{"subject": subject, "artifactType": kind, "annotations": map[string]string{"number": fmt.Sprint(i), "long": strings.Repeat("x", 800_000)}})
		d := s.manifests[i].digest.String()
		want[kind], want[""] = append(want[kind], d), append(want[""], d)
		c.pushManifest("a", d, s.manifests[i], s.manifests[i].digest)
	}
	for kind, digests := range want {
		target := "/v2/a/referrers/" + fmt.Sprint(subject["digest"])
		if kind != "" {
			target += "?artifactType=" + url.QueryEscape(kind)
		}
		var got []string
		pages := 0
		for ; target != ""; pages++ {
			l, header := getJSON[referrerList](c, target)
			for _, r := range l.Manifests {
				got = append(got, r.Digest.String())
			}
			if length, err := strconv.Atoi(header.Get("Content-Length")); err != nil || length > 4<<20 {
				t.Errorf("GET %s: %d bytes, %v, want at most 4 MiB", target, length, err)
			}
			if kind != "" && header.Get("Oci-Filters-Applied") != "artifactType" {
				t.Errorf("GET %s: OCI-Filters-Applied %q, want artifactType", target, header.Get("Oci-Filters-Applied"))
			}
			target = c.next(header)
		}
		slices.Sort(digests)
		if !slices.Equal(got, digests) || kind == "" && pages != 2 {
			t.Errorf("referrers of type %q in %d pages: %q, want %q", kind, pages, got, digests)
		}
	}
}

// seesTeam is an authorizer of a caller who may list repositories, and pull from those in
// team/.
type seesTeam struct{ err error }

func (a seesTeam) Authorize(_ context.Context, need access.Need) (bool, error) {
	if need.Required.Repository != "" {
		return false, access.ErrDenied
	}
	return strings.HasPrefix(need.Optional.Repository, "team/"), a.err
}

// secretsAndTeam fills a store with repositories that seesTeam may not see, and a few
// among them that it may see, which it returns.
func secretsAndTeam(t *testing.T, store *blobstore.Store) (visible []string) {
	t.Helper()
	for i := range 150 {
		name := fmt.Sprintf("secret/%03d", i)
		if i%50 == 0 {
			name = fmt.Sprintf("team/%03d", i)
			visible = append(visible, name)
		}
		if i > 100 {
			name = "x" + name
		}
		put := blobstore.ManifestPut{MediaType: typeIndex, Content: []byte(indexOf(100))}
		if _, err := store.Repository(repository(name)).Manifests().Put(t.Context(), put); err != nil {
			t.Fatal(err)
		}
	}
	return visible
}

// catalogPage returns the response of a new replica to this caller.
func catalogPage(t *testing.T, store *blobstore.Store, caller access.Authorizer, target string) (w *httptest.ResponseRecorder, page repositoryList) {
	t.Helper()
	h, err := New(store, Config{Authorizer: caller})
	if err != nil {
		t.Fatal(err)
	}
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", target, nil))
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil {
		t.Fatalf("GET %s: %s: %v", target, w.Body, err)
	}
	return w, page
}

// The catalog has what the caller may pull from, and reveals nothing else, although a
// page stops after a number of repositories that the caller may not see.
func TestCatalogOfCaller(t *testing.T) {
	store, err := blobstore.Open(t.Context(), openMemory(t, &memory.Store{}), blobstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	want := secretsAndTeam(t, store)
	for n, wantPages := range map[int]int{1: 9, 2: 6, 10: 2, 10_000: 1} {
		var got []string
		pages := 0
		for target := fmt.Sprintf("/v2/_catalog?n=%d", n); target != "" && pages < 20; pages++ {
			w, page := catalogPage(t, store, seesTeam{}, target)
			if w.Code != http.StatusOK || page.Repositories == nil || len(page.Repositories) > n {
				t.Fatalf("GET %s = %d, %s, want 200 with at most %d repositories", target, w.Code, w.Body, n)
			}
			if all := fmt.Sprint(w.Header(), w.Body); strings.Contains(all, "secret") {
				t.Errorf("GET %s reveals the name of a repository: %s", target, all)
			}
			got = append(got, page.Repositories...)
			target = specClient{t, nil}.next(w.Header())
		}
		if !slices.Equal(got, want) || pages != wantPages {
			t.Errorf("the catalog has %q in %d pages of %d, want %q in %d", got, pages, n, want, wantPages)
		}
	}
	if w, _ := catalogPage(t, store, seesTeam{context.DeadlineExceeded}, "/v2/_catalog"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("the catalog with an authorizer that fails = %d, want 503", w.Code)
	}
}
