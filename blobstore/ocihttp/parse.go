package ocihttp

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/access"
)

// action is what a request asks for. The comments give the numbers of the
// endpoints in the specification
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#endpoints).
type action int

const (
	actVersion        action = iota + 1 // end-1
	actGetBlob                          // end-2
	actHeadBlob                         // end-2
	actDeleteBlob                       // end-10
	actStartUpload                      // end-4a; end-4b with a digest; end-11 with mount
	actAppendUpload                     // end-5
	actFinishUpload                     // end-6
	actUploadStatus                     // end-13
	actCancelUpload                     // end-14
	actGetManifest                      // end-3
	actHeadManifest                     // end-3
	actPutManifest                      // end-7
	actDeleteManifest                   // end-9, by digest or by tag
	actListTags                         // end-8
	actListReferrers                    // end-12
	actCatalog                          // not in the specification; Docker's registry has it
)

// request is a request as data: what its method and URL contain.
type request struct {
	action action
	name   repository // empty for actVersion and actCatalog

	digest digest.Digest // of the blob, manifest, subject or finished upload; optional for actStartUpload
	upload string        // id of the upload
	state  string        // state of the upload, from the previous Location

	mount     digest.Digest    // blob to mount, of actStartUpload
	from      repository       // repository to mount it from; may be empty
	algorithm digest.Algorithm // of the digest that the upload will have; may be empty

	tag  string   // of the manifest, if it has no digest
	tags []string // that shall name the manifest, of actPutManifest by digest

	page         page   // of a list
	artifactType string // of the referrers to list; empty for all

	readOnly bool // the caller may not push, which only HEAD asks
}

// isHead reports whether the request asks if a blob or manifest exists.
func (r request) isHead() bool { return r.action == actHeadBlob || r.action == actHeadManifest }

// access returns the permissions that the request needs. It reports false if none
// are defined for the action; such a request must be refused.
func (r request) access() (access.Need, bool) {
	var need access.Need
	switch r.action {
	case actVersion:
		return need, true
	case actCatalog:
		need.Required = access.Access{Actions: []access.Action{access.Catalog}}
	case actGetBlob, actGetManifest, actListTags, actListReferrers:
		need.Required = r.name.access(access.Pull)
	case actHeadBlob, actHeadManifest:
		need.Required = r.name.access(access.Pull)
		need.Optional = r.name.access(access.Push)
	case actPutManifest:
		need.Required = r.name.access(access.Push)
	case actDeleteBlob, actDeleteManifest:
		need.Required = r.name.access(access.Delete)
	case actStartUpload:
		need.Required = r.name.access(access.Push)
		if r.mount != "" && r.from != "" {
			need.Optional = r.from.access(access.Pull)
		}
	case actAppendUpload, actFinishUpload, actUploadStatus, actCancelUpload:
		need.Required = r.name.access(access.Push)
	default:
		return need, false
	}
	return need, true
}

// route is the URL of one or more endpoints.
type route struct {
	// path is the segments after /v2/ and, if repository is set, after the
	// repository's name. The segment "*" matches any one segment.
	path       []string
	repository bool

	methods []method

	// read reads the segment that matched "*", and the query.
	read func(r *request, segment string, u *url.URL) error
}

type method struct {
	name   string
	action action
}

// routes is every URL that is served. The first route that matches a path
// decides, so a fixed segment comes before "*".
var routes = []route{
	{path: []string{""}, methods: []method{
		{http.MethodGet, actVersion},
		{http.MethodHead, actVersion},
	}},
	{path: []string{"_catalog"}, read: readPage, methods: []method{
		{http.MethodGet, actCatalog},
	}},
	{path: []string{"blobs", "uploads", ""}, repository: true, read: readStart, methods: []method{
		{http.MethodPost, actStartUpload},
	}},
	{path: []string{"blobs", "uploads"}, repository: true, read: readStart, methods: []method{
		{http.MethodPost, actStartUpload},
	}},
	{path: []string{"blobs", "uploads", "*"}, repository: true, read: readUpload, methods: []method{
		{http.MethodGet, actUploadStatus},
		{http.MethodHead, actUploadStatus},
		{http.MethodPatch, actAppendUpload},
		{http.MethodPut, actFinishUpload},
		{http.MethodDelete, actCancelUpload},
	}},
	{path: []string{"blobs", "*"}, repository: true, read: readBlob, methods: []method{
		{http.MethodGet, actGetBlob},
		{http.MethodHead, actHeadBlob},
		{http.MethodDelete, actDeleteBlob},
	}},
	{path: []string{"manifests", "*"}, repository: true, read: readManifest, methods: []method{
		{http.MethodGet, actGetManifest},
		{http.MethodHead, actHeadManifest},
		{http.MethodPut, actPutManifest},
		{http.MethodDelete, actDeleteManifest},
	}},
	{path: []string{"tags", "list"}, repository: true, read: readPage, methods: []method{
		{http.MethodGet, actListTags},
	}},
	{path: []string{"referrers", "*"}, repository: true, read: readReferrers, methods: []method{
		{http.MethodGet, actListReferrers},
	}},
}

// parse parses a method and URL. Its errors are of type [*apiError]. With an error it
// may return the action alone.
func parse(method string, u *url.URL) (request, error) {
	path, ok := strings.CutPrefix(u.Path, "/v2")
	if !ok || path != "" && path[0] != '/' {
		return request{}, errNoSuchPath
	}
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i := range routes {
		if name, segment, ok := routes[i].match(segments); ok {
			return routes[i].parse(method, name, segment, u)
		}
	}
	return request{}, errNoSuchPath
}

// match reports whether the segments of a path are of this route. It returns
// the segments of the repository's name, and the segment that matched "*".
func (r *route) match(segments []string) (name []string, segment string, ok bool) {
	n := len(segments) - len(r.path)
	if r.repository && n < 1 || !r.repository && n != 0 {
		return nil, "", false
	}
	for i, want := range r.path {
		got := segments[n+i]
		if want == "*" {
			segment = got
		} else if got != want {
			return nil, "", false
		}
	}
	return segments[:n], segment, true
}

func (r *route) parse(method string, name []string, segment string, u *url.URL) (request, error) {
	var req request
	for _, m := range r.methods {
		if m.name == method {
			req.action = m.action
		}
	}
	if req.action == 0 {
		return request{}, notAllowed(r.allow())
	}
	if r.repository {
		var err error
		if req.name, err = parseName(name); err != nil {
			return request{action: req.action}, err
		}
	}
	if r.read == nil {
		return req, nil
	}
	if err := r.read(&req, segment, u); err != nil {
		return request{action: req.action}, err
	}
	return req, nil
}

// allow returns the Allow header of the route.
func (r *route) allow() string {
	var names []string
	for _, m := range r.methods {
		names = append(names, m.name)
	}
	return strings.Join(names, ", ")
}
