package ocihttp

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// action is what a request wants.
type action int

const (
	actVersion action = iota + 1 // does the API exist?
	actGetBlob                   // GET or HEAD
	actDeleteBlob
	actStartUpload // all kinds of POST
	actStatus
	actAppend // PATCH
	actFinish // PUT
	actCancel
)

// request is a request as data: what is known from its method and URL alone.
type request struct {
	action action
	name   repository // empty for actVersion

	digest digest.Digest // of the blob, or that an upload is finished with; may be empty for actStartUpload
	upload string        // id
	state  string        // that the client got with the last Location

	mount     digest.Digest // of actStartUpload
	from      string        // repository to mount from, not validated: it may be one that can't exist
	algorithm digest.Algorithm
}

// maxName is the longest name of a repository, in bytes: it is part of a key.
const maxName = 255

// parse reads a method and URL. Its errors are ones of the table in errors.go.
func parse(method string, u *url.URL) (request, error) {
	path, ok := strings.CutPrefix(u.Path, "/v2")
	if !ok || path != "" && path[0] != '/' {
		return request{}, errNoSuchPath
	}
	if path == "" || path == "/" {
		if method != http.MethodGet && method != http.MethodHead {
			return request{}, notAllowed("GET, HEAD")
		}
		return request{action: actVersion}, nil
	}
	segments := strings.Split(path[1:], "/")
	n := len(segments)
	switch {
	case n >= 4 && segments[n-3] == "blobs" && segments[n-2] == "uploads" && segments[n-1] != "":
		return parseUpload(method, u, segments[:n-3], segments[n-1])
	case n >= 4 && segments[n-3] == "blobs" && segments[n-2] == "uploads":
		return parseStart(method, u, segments[:n-3])
	case n >= 3 && segments[n-2] == "blobs" && segments[n-1] == "uploads":
		return parseStart(method, u, segments[:n-2])
	case n >= 3 && segments[n-2] == "blobs":
		return parseBlob(method, segments[:n-2], segments[n-1])
	default:
		return request{}, errNoSuchPath
	}
}

func parseBlob(method string, name []string, dgst string) (request, error) {
	var r request
	switch method {
	case http.MethodGet, http.MethodHead:
		r.action = actGetBlob
	case http.MethodDelete:
		r.action = actDeleteBlob
	default:
		return r, notAllowed("GET, HEAD, DELETE")
	}
	var err error
	if r.name, err = parseName(name); err != nil {
		return r, err
	}
	r.digest, err = parseDigest(dgst)
	return r, err
}

func parseStart(method string, u *url.URL, name []string) (request, error) {
	r := request{action: actStartUpload}
	if method != http.MethodPost {
		return r, notAllowed("POST")
	}
	var err error
	if r.name, err = parseName(name); err != nil {
		return r, err
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return r, errBadQuery
	}
	if q.Has("digest") {
		if r.digest, err = parseDigest(q.Get("digest")); err != nil {
			return r, err
		}
	}
	if q.Has("mount") {
		if r.mount, err = parseDigest(q.Get("mount")); err != nil {
			return r, err
		}
		r.from = q.Get("from")
	}
	r.algorithm = digest.Algorithm(q.Get("digest-algorithm"))
	return r, nil
}

func parseUpload(method string, u *url.URL, name []string, id string) (request, error) {
	r := request{upload: id}
	switch method {
	case http.MethodGet, http.MethodHead:
		r.action = actStatus
	case http.MethodPatch:
		r.action = actAppend
	case http.MethodPut:
		r.action = actFinish
	case http.MethodDelete:
		r.action = actCancel
	default:
		return r, notAllowed("GET, HEAD, PATCH, PUT, DELETE")
	}
	var err error
	if r.name, err = parseName(name); err != nil {
		return r, err
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return r, errBadQuery
	}
	r.state = q.Get("_state")
	if r.action == actFinish {
		r.digest, err = parseDigest(q.Get("digest"))
	}
	return r, err
}

// repository is the name of one.
type repository string

var _ reference.Named = repository("")

// Name is all of it.
func (r repository) Name() string { return string(r) }

// String is Name.
func (r repository) String() string { return string(r) }

// parseName takes the name of a repository as the distribution specification
// has it: segments that match [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*, with slashes
// between them
// (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests).
// Package reference would take a host and port for the first segment too.
func parseName(segments []string) (repository, error) {
	name := strings.Join(segments, "/")
	if len(name) > maxName {
		return "", badName(name, "it is longer than 255 bytes")
	}
	for _, s := range segments {
		if !isNameSegment(s) {
			return "", badName(name, "want lower-case letters and digits, and single separators between them")
		}
	}
	return repository(name), nil
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
