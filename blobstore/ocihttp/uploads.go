package ocihttp

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/berthhq/berth/blobstore"
)

// startUpload is POST: a mount, an upload in one request, or the begin of one.
func (h *handler) startUpload(w http.ResponseWriter, r *http.Request, req request) error {
	repo := h.store.Repository(req.name)
	if req.mount != "" {
		err := h.mount(r.Context(), repo, req)
		switch {
		case err == nil:
			h.created(w, req, req.mount.String())
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
		return h.finish(w, r, req, repo, u)
	}
	if least := repo.MinChunk(); least > 0 {
		w.Header().Set("OCI-Chunk-Min-Length", strconv.FormatInt(least, 10))
	}
	h.describe(w, req.name, u)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// mount reports ErrBlobUnknown for all that the client can do nothing about: it
// uploads instead.
func (h *handler) mount(ctx context.Context, repo *blobstore.Repository, req request) error {
	switch {
	case req.from != "":
		from, err := parseName(strings.Split(req.from, "/"))
		if err != nil { // there is no such repository
			return blobstore.ErrBlobUnknown
		}
		_, err = repo.Mount(ctx, from, req.mount)
		return err
	case h.cfg.MayMount != nil:
		_, err := repo.MountAny(ctx, req.mount, h.cfg.MayMount)
		return err
	default:
		return blobstore.ErrBlobUnknown
	}
}

// appendUpload is PATCH.
func (h *handler) appendUpload(w http.ResponseWriter, r *http.Request, req request) error {
	repo := h.store.Repository(req.name)
	body, err := h.body(w, r)
	if err != nil {
		return err
	}
	u, err := repo.AppendUpload(r.Context(), req.upload, req.state, body)
	if err != nil {
		if u.State != "" { // what came was kept
			h.describe(w, req.name, u)
		}
		return h.misplaced(w, r, req, err)
	}
	h.describe(w, req.name, u)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// finishUpload is PUT.
func (h *handler) finishUpload(w http.ResponseWriter, r *http.Request, req request) error {
	return h.finish(w, r, req, h.store.Repository(req.name), blobstore.Upload{ID: req.upload, State: req.state})
}

func (h *handler) finish(w http.ResponseWriter, r *http.Request, req request, repo *blobstore.Repository, u blobstore.Upload) error {
	body, err := h.body(w, r)
	if err != nil {
		return err
	}
	// The type of the request's body is not that of the blob, which no client
	// of this API tells; and the first one to push would set it for all.
	desc := blobstore.Descriptor{Digest: req.digest}
	if _, err := repo.FinishUpload(r.Context(), u.ID, u.State, body, desc); err != nil {
		req.upload, req.state = u.ID, u.State
		return h.misplaced(w, r, req, err)
	}
	h.created(w, req, req.digest.String())
	return nil
}

// misplaced tells a client whose bytes don't belong where it sent them where to
// go on.
func (h *handler) misplaced(w http.ResponseWriter, r *http.Request, req request, err error) error {
	if !errors.Is(err, blobstore.ErrOutOfOrder) {
		return err
	}
	u, statusErr := h.store.Repository(req.name).UploadStatus(r.Context(), req.upload, req.state)
	if statusErr != nil {
		return statusErr
	}
	h.describe(w, req.name, u)
	return err
}

// status is GET of an upload.
func (h *handler) status(w http.ResponseWriter, r *http.Request, req request) error {
	u, err := h.store.Repository(req.name).UploadStatus(r.Context(), req.upload, req.state)
	if err != nil {
		return err
	}
	h.describe(w, req.name, u)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// cancel is DELETE of an upload.
func (h *handler) cancel(w http.ResponseWriter, r *http.Request, req request) error {
	if err := h.store.Repository(req.name).CancelUpload(r.Context(), req.upload, req.state); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// describe says where an upload stands, and where its next request goes.
func (h *handler) describe(w http.ResponseWriter, name repository, u blobstore.Upload) {
	w.Header().Set("Location", h.base+"/v2/"+name.Name()+"/blobs/uploads/"+u.ID+"?_state="+url.QueryEscape(u.State))
	w.Header().Set("Range", uploadRange(u.Size))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Docker-Upload-UUID", u.ID)
}

func (h *handler) created(w http.ResponseWriter, req request, dgst string) {
	w.Header().Set("Location", h.base+"/v2/"+req.name.Name()+"/blobs/"+dgst)
	w.Header().Set("Docker-Content-Digest", dgst)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
}
