package main

import (
	"net/http"
	"time"

	"github.com/rs/cors"

	"github.com/berthhq/berth/cmd/berth/config"
)

// exposed are the headers of answers that pages may read, besides those that the
// Fetch standard lets them read anyway
// (https://fetch.spec.whatwg.org/#cors-safelisted-response-header-name).
var exposed = []string{
	"Accept-Ranges", "Content-Range", "Docker-Content-Digest", "Docker-Distribution-Api-Version", "Docker-Upload-Uuid", "Etag",
	"Link", "Location", "Oci-Chunk-Max-Length", "Oci-Chunk-Min-Length", "Oci-Filters-Applied", "Oci-Subject", "Oci-Tag",
	"Range", "Retry-After", "Warning", "Www-Authenticate", "X-Request-Id",
}

// crossOrigin has browsers let pages of the configured origins use next, and
// answers their preflights with 204. Without origins it is next.
func crossOrigin(next http.Handler, cfg config.CORS) http.Handler {
	if len(cfg.Origins) == 0 {
		return next
	}
	maxAge := int(cfg.MaxAge / time.Second)
	if maxAge == 0 {
		maxAge = -1 // to cors zero is to send no header, and browsers keep the answer for a few seconds
	}
	return cors.New(cors.Options{
		AllowedOrigins:   cfg.Origins,
		AllowedMethods:   []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete},
		AllowedHeaders:   []string{"*"},
		ExposedHeaders:   exposed,
		AllowCredentials: cfg.Credentials,
		MaxAge:           maxAge,
	}).Handler(next)
}
