package ocihttp

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
)

// listTags handles GET of tags/list.
func (h *handler) listTags(w http.ResponseWriter, r *http.Request, req request) error {
	l := newList(r.Context(), h.longLists, 0)
	defer l.close()
	last := ""
	more, err := h.repository(req).Tags().List(r.Context(), tagPosition(req.page.last), req.page.n, func(tag string) error {
		last = tag
		_, err := l.add(tag)
		return err
	})
	if err != nil {
		return err
	}
	if more && last != "" {
		h.setNext(w, "/v2/"+req.name.Name()+"/tags/list", req.page.after(last))
	}
	l.send(w, "application/json", `{"name":"`+req.name.Name()+`","tags":`) // a name needs no escapes
	return nil
}

// listCatalog handles GET of _catalog. It leaves repositories out that the caller may
// not pull from.
func (h *handler) listCatalog(w http.ResponseWriter, r *http.Request, req request) error {
	l := newList(r.Context(), h.longLists, 0)
	defer l.close()
	if req.page.n > 0 {
		next, err := h.addRepositories(r.Context(), l, req.page)
		if err != nil {
			return err
		}
		if next != "" {
			h.setNext(w, "/v2/_catalog", req.page.after(next))
		}
	}
	l.send(w, "application/json", `{"repositories":`)
	return nil
}

// addRepositories adds the repositories of a page to a list, and returns where the next
// page continues, or nothing at the end. It checks no more repositories than ten
// requests to the store return, so that a page may be short.
func (h *handler) addRepositories(ctx context.Context, l *list, p page) (next string, err error) {
	left, last := min(10*(p.n+1), maxPage), ""
	for named, err := range h.store.Repositories(ctx, h.positions.open(p.last), p.n+1) {
		if err != nil {
			return "", err
		}
		name := named.Name()
		allowed, err := h.mayPull(ctx, repository(name))
		switch {
		case err != nil:
			return "", err
		case allowed && l.entries == p.n:
			return last, nil
		case allowed:
			last = name
			if _, err := l.add(name); err != nil {
				return "", err
			}
		}
		if left--; left > 0 {
			continue
		}
		if !allowed {
			name = h.positions.seal(name)
		}
		return name, nil
	}
	return "", nil
}

// maxReferrers is the length in bytes of the longest list of referrers. The rest is in
// further responses.
const maxReferrers = 4 << 20

// mediaTypeIndex is the media type of a list of referrers
// (https://github.com/opencontainers/image-spec/blob/main/image-index.md).
const mediaTypeIndex = "application/vnd.oci.image.index.v1+json"

// referrer is an entry of a list of referrers.
type referrer struct {
	MediaType    string            `json:"mediaType"`
	Size         int64             `json:"size"`
	Digest       digest.Digest     `json:"digest"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// listReferrers handles GET of referrers.
func (h *handler) listReferrers(w http.ResponseWriter, r *http.Request, req request) error {
	l := newList(r.Context(), h.longLists, maxReferrers)
	defer l.close()
	last := req.page.last
	for desc, err := range h.repository(req).Manifests().Referrers(r.Context(), req.digest, digest.Digest(last)) {
		if err != nil {
			return err
		}
		if req.artifactType != "" && desc.ArtifactType != req.artifactType {
			continue
		}
		if err := l.reserve(annotationBytes(desc)); err != nil {
			return err
		}
		fits, err := l.add(referrer{desc.MediaType, desc.Size, desc.Digest, desc.ArtifactType, desc.Annotations})
		if err != nil {
			return err
		}
		if !fits {
			query := url.Values{"last": {last}}
			if req.artifactType != "" {
				query.Set("artifactType", req.artifactType)
			}
			h.setNext(w, "/v2/"+req.name.Name()+"/referrers/"+req.digest.String(), query)
			break
		}
		last = desc.Digest.String()
	}
	if req.artifactType != "" {
		w.Header().Set("Oci-Filters-Applied", "artifactType")
	}
	l.send(w, mediaTypeIndex, `{"schemaVersion":2,"mediaType":"`+mediaTypeIndex+`","manifests":`)
	return nil
}

// annotationBytes returns the length of the annotations, without quotes and escapes.
func annotationBytes(desc blobstore.ManifestDescriptor) (n int) {
	for key, value := range desc.Annotations {
		n += len(key) + len(value)
	}
	return n
}

// after returns the query of the page that continues after last.
func (p page) after(last string) url.Values {
	return url.Values{"n": {strconv.Itoa(p.n)}, "last": {last}}
}

// setNext sets the header that has the URL of the next page, relative to this host
// (https://www.rfc-editor.org/rfc/rfc8288).
func (h *handler) setNext(w http.ResponseWriter, path string, query url.Values) {
	w.Header().Set("Link", "<"+h.basePath+path+"?"+query.Encode()+`>; rel="next"`)
}
