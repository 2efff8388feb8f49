package ocihttp

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/activity"
	"github.com/berthhq/berth/blobstore/internal/header"
)

// startUpload handles POST: it mounts a blob, stores a blob from the body of this
// one request, or starts an upload. A mount that fails starts an upload.
func (h *handler) startUpload(w http.ResponseWriter, r *http.Request, req request) error {
	repo := h.store.Repository(req.name)
	if req.mount != "" {
		desc, err := h.mount(r.Context(), repo, req)
		switch {
		case err == nil:
			activity.Of(r.Context()).Add(blobEvent(activity.Mount, req, req.mount, desc))
			writeCreated(w, h.base, req, req.mount.String())
			return nil
		case !errors.Is(err, blobstore.ErrBlobUnknown):
			return err
		}
	}
	alg := req.algorithm
	if req.digest != "" {
		alg = req.digest.Algorithm()
	}
	u, err := repo.StartUpload(alg)
	if err != nil {
		return err
	}
	if req.digest != "" {
		req.upload, req.state = u.ID, u.State
		return h.finishUpload(w, r, req)
	}
	if least := repo.MinChunk(); least > 0 {
		w.Header().Set("OCI-Chunk-Min-Length", strconv.FormatInt(least, 10))
	}
	setUploadHeaders(w, h.base, req.name, u)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// mount returns ErrBlobUnknown if there is nothing to mount from. Without a source it
// mounts from any repository that the caller may pull from. The response does not
// contain its name.
func (h *handler) mount(ctx context.Context, repo *blobstore.Repository, req request) (blobstore.Descriptor, error) {
	if req.from != "" {
		return repo.Mount(ctx, req.from, req.mount)
	}
	var undecided error
	desc, err := repo.MountAny(ctx, req.mount, func(ctx context.Context, name string) bool {
		ok, err := h.mayPull(ctx, repository(name))
		if err != nil {
			undecided = err
		}
		return ok && err == nil
	})
	if errors.Is(err, blobstore.ErrBlobUnknown) && undecided != nil {
		return blobstore.Descriptor{}, undecided
	}
	return desc, err
}

// appendUpload handles PATCH.
func (h *handler) appendUpload(w http.ResponseWriter, r *http.Request, req request) error {
	repo := h.store.Repository(req.name)
	body, err := h.body(w, r)
	if err != nil {
		return err
	}
	u, err := repo.AppendUpload(r.Context(), req.upload, req.state, body)
	if err != nil {
		if u.State != "" { // part of the body was stored
			setUploadHeaders(w, h.base, req.name, u)
		}
		return h.withOffset(w, r, req, err)
	}
	setUploadHeaders(w, h.base, req.name, u)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// finishUpload handles PUT.
func (h *handler) finishUpload(w http.ResponseWriter, r *http.Request, req request) error {
	body, err := h.body(w, r)
	if err != nil {
		return err
	}
	// The descriptor has no media type: the Content-Type of the request is not
	// that of the blob, and the first client to push it would set it for all
	// repositories.
	desc, err := h.store.Repository(req.name).FinishUpload(r.Context(), req.upload, req.state, body, blobstore.Descriptor{Digest: req.digest})
	if err != nil {
		return h.withOffset(w, r, req, err)
	}
	activity.Of(r.Context()).Add(blobEvent(activity.Push, req, req.digest, desc))
	writeCreated(w, h.base, req, req.digest.String())
	return nil
}

// withOffset returns err. If err reports that the body belongs to another
// offset, it first sets the headers from which the client can resume.
func (h *handler) withOffset(w http.ResponseWriter, r *http.Request, req request, err error) error {
	if !errors.Is(err, blobstore.ErrOutOfOrder) {
		return err
	}
	u, statusErr := h.store.Repository(req.name).UploadStatus(r.Context(), req.upload, req.state)
	if statusErr != nil {
		return statusErr
	}
	setUploadHeaders(w, h.base, req.name, u)
	return err
}

// uploadStatus handles GET and HEAD of an upload.
func (h *handler) uploadStatus(w http.ResponseWriter, r *http.Request, req request) error {
	u, err := h.store.Repository(req.name).UploadStatus(r.Context(), req.upload, req.state)
	if err != nil {
		return err
	}
	setUploadHeaders(w, h.base, req.name, u)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// cancelUpload handles DELETE of an upload.
func (h *handler) cancelUpload(w http.ResponseWriter, r *http.Request, req request) error {
	if err := h.store.Repository(req.name).CancelUpload(r.Context(), req.upload, req.state); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// setUploadHeaders sets the headers that report the size of an upload and the
// URL of its next request.
func setUploadHeaders(w http.ResponseWriter, base string, name repository, u blobstore.Upload) {
	w.Header().Set("Location", base+"/v2/"+name.Name()+"/blobs/uploads/"+u.ID+"?_state="+url.QueryEscape(u.State))
	w.Header().Set("Range", header.UploadRange(u.Size))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Docker-Upload-UUID", u.ID)
}

// writeCreated writes the response to a request that stored a blob.
func writeCreated(w http.ResponseWriter, base string, req request, dgst string) {
	w.Header().Set("Location", base+"/v2/"+req.name.Name()+"/blobs/"+dgst)
	w.Header().Set("Docker-Content-Digest", dgst)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
}
