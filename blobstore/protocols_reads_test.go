package blobstore_test

import (
	"fmt"
	"net/http"
	"strings"
)

// long is the manifest of an image that is too long to be held in memory.
func (i images) long() document {
	return image(i.blobs, `"annotations":{"k":"`+strings.Repeat("v", 100*kB)+`"}`)
}

// reads returns a function that reads from the repository, with a response of this
// status.
func reads(method, path string, status int) func(c *httpClient) {
	return func(c *httpClient) { c.do(method, "/v2/"+c.repo+path, nil, 0, status) }
}

func (i images) pull() protocol {
	const get, head = http.MethodGet, http.MethodHead
	const ok, unknown = http.StatusOK, http.StatusNotFound
	read := func(method, ref string) func(c *httpClient) { return reads(method, "/manifests/"+ref, ok) }
	none := func(method, ref string) func(c *httpClient) { return reads(method, "/manifests/"+ref, unknown) }
	d, long := i.app.digest.String(), i.long()
	pushed := after(there(i.warm), there(puts(i.app, "v1")))
	pushedLong := after(there(i.warm), there(puts(long, "")))
	deleted := func(c *httpClient) { c.otherReplica().deleteManifest(d) }
	return protocol{
		name: "pull-manifest",
		text: `A read by digest takes one request, and none while the manifest is cached. A read by tag
always asks the store for the tag. If the cached manifest is from before a deletion, its id
is not that of the tag: then it is read from the store. The bytes of a manifest over 64 KiB
are not held, so a GET takes one request.`,
		rows: []operation{
			{name: "GET by tag, cold", budget: 2, before: pushed, run: read(get, "v1")},
			{name: "GET by tag, cached", budget: 1, before: after(pushed, read(get, d)), run: read(get, "v1")},
			{name: "GET by tag, after a push at this process", budget: 1, before: after(i.warm, puts(i.app, "v1")), run: read(get, "v1")},
			{name: "HEAD by tag, cold", budget: 2, before: pushed, run: read(head, "v1")},
			{name: "HEAD by tag, cached", budget: 1, before: after(pushed, read(get, d)), run: read(head, "v1")},
			{name: "GET by digest, cold", budget: 1, before: pushed, run: read(get, d)},
			{name: "GET by digest, warm", budget: 0, before: after(pushed, read(get, d)), run: read(get, d)},
			{name: "HEAD by digest, cold", budget: 1, before: pushed, run: read(head, d)},
			{name: "HEAD by digest, warm", budget: 0, before: after(pushed, read(head, d)), run: read(head, d)},
			{name: "GET of 100 KB by digest, cold", budget: 1, before: pushedLong, run: read(get, long.digest.String())},
			{name: "GET of 100 KB by digest, warm", budget: 1, before: after(pushedLong, read(get, long.digest.String())), run: read(get, long.digest.String())},
			{name: "HEAD of 100 KB by digest, warm", budget: 0, before: after(pushedLong, read(get, long.digest.String())), run: read(head, long.digest.String())},
			{name: "GET of an unknown tag", budget: 1, before: pushed, run: none(get, "v2")},
			{name: "GET of an unknown digest", budget: 1, before: pushed, run: none(get, i.other.digest.String())},
			{name: "GET by tag, pushed again after a deletion", budget: 2, run: read(get, "v1"),
				before: after(pushed, read(get, d), deleted, there(puts(i.app, "v1")))},
		},
	}
}

func (i images) lists() protocol {
	tags := func(n int) func(c *httpClient) {
		return func(c *httpClient) {
			for at := 0; at < n; at += 100 {
				var query []string
				for k := at; k < min(at+100, n); k++ {
					query = append(query, fmt.Sprintf("tag=v%04d", k))
				}
				c.putManifest(i.app, i.app.digest.String()+"?"+strings.Join(query, "&"))
			}
		}
	}
	pushed := there(i.warm)
	referrers := after(pushed, func(c *httpClient) {
		for n := range 3 {
			c.otherReplica().putManifest(image(i.blobs[:1], `"subject":`+i.app.descriptor(), fmt.Sprintf(`"artifactType":"x/%d"`, n)), "")
		}
	})
	list := func(path string) func(c *httpClient) { return reads(http.MethodGet, path, http.StatusOK) }
	ofApp := list("/referrers/" + i.app.digest.String())
	return protocol{
		name: "list",
		text: `A page of tags or repositories asks the store for about as many keys as it has, and for
one more to find out whether there are more. After 1,000 it does not ask. A list of
referrers reads the manifest of each entry, because the entry counts only while the manifest
can be read.`,
		rows: []operation{
			{name: "1,000 of 1,200 tags", budget: 1, before: after(pushed, there(tags(1200))), run: list("/tags/list?n=1000")},
			{name: "10 of 1,200 tags", budget: 1, before: after(pushed, there(tags(1200))), run: list("/tags/list?n=10&last=v0500")},
			{name: "all of 1,200 tags", budget: 2, before: after(pushed, there(tags(1200))), run: list("/tags/list")},
			{name: "tags of a repository without tags", budget: 2, before: pushed, run: list("/tags/list")},
			{name: "tags of an unknown repository", budget: 2, run: reads(http.MethodGet, "/tags/list", http.StatusNotFound)},
			{name: "3 referrers, cold", budget: 1 + 3, before: referrers, run: ofApp},
			{name: "3 referrers, warm", budget: 1, before: after(referrers, ofApp), run: ofApp},
			{name: "no referrers", budget: 1, before: pushed, run: ofApp},
			{name: "repositories", budget: 1, before: pushed, run: func(c *httpClient) {
				c.do(http.MethodGet, "/v2/_catalog?n=10", nil, 0, http.StatusOK)
			}},
		},
	}
}
