package ocihttp

import (
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
)

func readBlob(r *request, segment string, _ *url.URL) (err error) {
	r.digest, err = parseDigest(segment)
	return err
}

func readStart(r *request, _ string, u *url.URL) error {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return badQuery(codeUploadInvalid)
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
		return badQuery(codeUploadInvalid)
	}
	r.upload, r.state = segment, q.Get("_state")
	if r.action == actFinishUpload {
		r.digest, err = parseDigest(q.Get("digest"))
	}
	return err
}

// readManifest reads a reference, which is a tag or a digest. Only digests have a
// colon.
func readManifest(r *request, segment string, u *url.URL) (err error) {
	if !strings.Contains(segment, ":") {
		r.tag, err = parseTag(segment)
		if err != nil && r.action != actPutManifest {
			return errNoSuchManifest
		}
		return err
	}
	r.digest, err = parseDigest(segment)
	if err == nil && r.action == actPutManifest {
		r.tags, err = readTags(u)
	}
	return err
}

// readTags returns the tags that a manifest shall have, each once.
func readTags(u *url.URL) ([]string, error) {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, badQuery(codeManifestInvalid)
	}
	if len(q["tag"]) > blobstore.MaxTags {
		return nil, errTooManyTags
	}
	var tags []string
	for _, s := range q["tag"] {
		tag, err := parseTag(s)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}

// page is the part of a list that a request asks for.
type page struct {
	n    int    // the most entries that the response has
	last string // the list continues after this entry, which need not exist; the first page has none
}

// maxPage is the largest number of entries of one response. The store lists that many
// with ten requests.
const maxPage = 10_000

func readPage(r *request, _ string, u *url.URL) error {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return badQuery(codeUnsupported)
	}
	r.page = page{n: maxPage, last: q.Get("last")}
	s := q.Get("n")
	if s == "" {
		return nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return badCount(s)
	}
	r.page.n = int(min(n, maxPage)) // out of range, n is the largest integer
	return nil
}

func readReferrers(r *request, segment string, u *url.URL) (err error) {
	if r.digest, err = parseDigest(segment); err != nil {
		return err
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return badQuery(codeUnsupported)
	}
	r.artifactType = q.Get("artifactType")
	if last := q.Get("last"); last != "" {
		r.page.last = last
		_, err = parseDigest(last)
	}
	return err
}
