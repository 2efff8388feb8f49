package ocihttp

import (
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/activity"
)

// serveManifest handles GET and HEAD of a manifest.
func (h *handler) serveManifest(w http.ResponseWriter, r *http.Request, req request) error {
	reference := req.tag
	if reference == "" {
		reference = req.digest.String()
	}
	return h.repository(req).Manifests().ServeManifest(r.Context(), w, r, reference)
}

// putManifest handles PUT of a manifest, by tag or by digest.
func (h *handler) putManifest(w http.ResponseWriter, r *http.Request, req request) error {
	put := blobstore.ManifestPut{MediaType: r.Header.Get("Content-Type"), Digest: req.digest, Tags: req.tags}
	if req.tag != "" {
		put.Tags = []string{req.tag}
	}
	var err error
	if put.Condition, err = tagCondition(r.Header, put.Tags); err != nil {
		return err
	}
	body := h.wholeBody(w, r, errManifestIdle, errManifestBroken)
	desc, err := h.repository(req).Manifests().Receive(r.Context(), body, put)
	if err != nil {
		return err
	}
	reportPush(r.Context(), req, desc, put.Tags)
	header := w.Header()
	header.Set("Location", h.base+"/v2/"+req.name.Name()+"/manifests/"+desc.Digest.String())
	header.Set("Docker-Content-Digest", desc.Digest.String())
	if desc.Subject != "" {
		header.Set("Oci-Subject", desc.Subject.String())
	}
	for _, tag := range req.tags {
		header.Add("Oci-Tag", tag)
	}
	header.Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
	return nil
}

// tagCondition returns the condition on the tags of a push: that they do not exist, or
// that they name a certain manifest. It returns an error for a condition that it does
// not support, because to ignore it could overwrite what another client has pushed.
func tagCondition(h http.Header, tags []string) (blobstore.TagCondition, error) {
	var c blobstore.TagCondition
	absent, match := h.Values("If-None-Match"), h.Values("If-Match")
	switch {
	case len(absent) == 0 && len(match) == 0:
		return c, nil
	case len(tags) == 0 || len(absent) > 1 || len(match) > 1:
		return c, errBadCondition
	}
	if len(absent) == 1 {
		if absent[0] != "*" {
			return c, errBadCondition
		}
		c.Absent = true
	}
	if len(match) == 1 {
		tag, ok := strings.CutPrefix(match[0], `"`)
		tag, closed := strings.CutSuffix(tag, `"`)
		if !ok || !closed || strings.ContainsAny(tag, `",`) {
			return c, errBadCondition
		}
		var err error
		if c.Digest, err = digest.Parse(tag); err != nil {
			return c, blobstore.ErrTagChanged // no manifest has this entity tag
		}
	}
	return c, nil
}

// deleteManifest handles DELETE of a manifest or of a tag.
func (h *handler) deleteManifest(w http.ResponseWriter, r *http.Request, req request) error {
	if h.cfg.DisableDelete {
		return deletionDisabled("GET, HEAD, PUT")
	}
	var err error
	if repo := h.repository(req); req.tag != "" {
		err = repo.Tags().Untag(r.Context(), req.tag)
	} else {
		err = repo.Manifests().Delete(r.Context(), req.digest)
	}
	if err != nil {
		return err
	}
	activity.Of(r.Context()).Add(activity.Event{
		Action: activity.Delete, Manifest: true, Repository: req.name.Name(), Digest: req.digest.String(), Tag: req.tag})
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}
