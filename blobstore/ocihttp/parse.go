package ocihttp

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/access"
)

// action is what a request asks for. The comments give the numbers of the
// endpoints in the specification
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#endpoints).
type action int

const (
	actVersion      action = iota + 1 // end-1
	actGetBlob                        // end-2
	actDeleteBlob                     // end-10
	actStartUpload                    // end-4a; end-4b with a digest; end-11 with mount
	actAppendUpload                   // end-5
	actFinishUpload                   // end-6
	actUploadStatus                   // end-13
	actCancelUpload                   // end-14
)

// request is a request as data: what its method and URL contain.
type request struct {
	action action
	name   repository // empty for actVersion

	digest digest.Digest // of the blob, or of a finished upload; optional for actStartUpload
	upload string        // id of the upload
	state  string        // state of the upload, from the previous Location

	mount     digest.Digest    // blob to mount, of actStartUpload
	from      repository       // repository to mount it from; may be empty
	algorithm digest.Algorithm // of the digest that the upload will have; may be empty
}

// access returns the permissions that the request needs. It reports false if none
// are defined for the action; such a request must be refused.
func (r request) access() (access.Need, bool) {
	var need access.Need
	switch r.action {
	case actVersion:
		return need, true
	case actGetBlob:
		need.Required = r.name.access(access.Pull)
	case actDeleteBlob:
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
		{http.MethodHead, actGetBlob},
		{http.MethodDelete, actDeleteBlob},
	}},
}

// parse parses a method and URL. Its errors are of type [*apiError].
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
			return request{}, err
		}
	}
	if r.read == nil {
		return req, nil
	}
	err := r.read(&req, segment, u)
	return req, err
}

// allow returns the Allow header of the route.
func (r *route) allow() string {
	var names []string
	for _, m := range r.methods {
		names = append(names, m.name)
	}
	return strings.Join(names, ", ")
}

func readBlob(r *request, segment string, _ *url.URL) (err error) {
	r.digest, err = parseDigest(segment)
	return err
}

func readStart(r *request, _ string, u *url.URL) error {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errBadQuery
	}
	if q.Has("digest") {
		if r.digest, err = parseDigest(q.Get("digest")); err != nil {
			return err
		}
	}
	if q.Has("mount") {
		mount, err := parseDigest(q.Get("mount"))
		if err != nil {
			return err
		}
		from, err := parseOptionalName(q.Get("from"))
		if err == nil { // otherwise the repository cannot exist, and there is nothing to mount
			r.mount, r.from = mount, from
		}
	}
	r.algorithm = digest.Algorithm(q.Get("digest-algorithm"))
	return nil
}

func readUpload(r *request, segment string, u *url.URL) error {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errBadQuery
	}
	r.upload, r.state = segment, q.Get("_state")
	if r.action == actFinishUpload {
		r.digest, err = parseDigest(q.Get("digest"))
	}
	return err
}

// maxName is the length in bytes of the longest name of a repository. Names are
// part of keys in the bucket.
const maxName = 255

// repository is the name of a repository.
type repository string

var _ reference.Named = repository("")

// Name returns the name.
func (r repository) Name() string { return string(r) }

// String returns the name.
func (r repository) String() string { return string(r) }

func (r repository) access(actions ...access.Action) access.Access {
	return access.Access{Repository: string(r), Actions: actions}
}

// parseName parses the name of a repository as the specification defines it:
// segments that match [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*, separated by slashes
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests).
// Package reference would also accept a host and port as the first segment.
func parseName(segments []string) (repository, error) {
	name := strings.Join(segments, "/")
	if len(name) > maxName {
		return "", badName(name, "longer than 255 bytes")
	}
	for _, s := range segments {
		if !isNameSegment(s) {
			return "", badName(name, "want lower-case letters and digits with single separators between them")
		}
	}
	return repository(name), nil
}

// parseOptionalName is parseName for a name that may be missing.
func parseOptionalName(name string) (repository, error) {
	if name == "" {
		return "", nil
	}
	return parseName(strings.Split(name, "/"))
}

func isNameSegment(s string) bool {
	for {
		rest := strings.TrimLeft(s, "abcdefghijklmnopqrstuvwxyz0123456789")
		if rest == s {
			return false
		}
		if rest == "" {
			return true
		}
		s = strings.TrimLeft(rest, "._-")
		switch separator := rest[:len(rest)-len(s)]; {
		case separator == ".", separator == "_", separator == "__", strings.Trim(separator, "-") == "":
		default:
			return false
		}
	}
}

func parseDigest(s string) (digest.Digest, error) {
	if s == "" {
		return "", errNoDigest
	}
	d, err := digest.Parse(s)
	if err != nil || d.Algorithm() != digest.SHA256 && d.Algorithm() != digest.SHA512 {
		return "", badDigest(s)
	}
	return d, nil
}
