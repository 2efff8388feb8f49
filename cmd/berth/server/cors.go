package server

import (
	"net/http"
	"time"

	"github.com/rs/cors"
)

// CORS describes which pages of other origins may use the API in browsers. If
// Origins is empty, no such page may use it.
type CORS struct {
	Origins     []string      // as browsers send them, or "*" alone for every origin
	Credentials bool          // the browser may send its own credentials, such as client certificates
	MaxAge      time.Duration // how long a browser may keep the response to a preflight
}

// exposed are the response headers that pages may read, in addition to the
// headers that the Fetch standard always allows
// (https://fetch.spec.whatwg.org/#cors-safelisted-response-header-name).
var exposed = []string{
	"Accept-Ranges", "Content-Range", "Docker-Content-Digest", "Docker-Distribution-Api-Version", "Docker-Upload-Uuid", "Etag",
	"Link", "Location", "Oci-Chunk-Max-Length", "Oci-Chunk-Min-Length", "Oci-Filters-Applied", "Oci-Subject", "Oci-Tag",
	"Range", "Retry-After", "Warning", "Www-Authenticate", "X-Request-Id",
}

// crossOrigin returns a handler that allows pages of the configured origins to
// use next in browsers, and answers their preflights with 204. Without origins
// it returns next.
func crossOrigin(next http.Handler, cfg CORS) http.Handler {
	if len(cfg.Origins) == 0 {
		return next
	}
	maxAge := int(cfg.MaxAge / time.Second)
	if maxAge == 0 {
		maxAge = -1 // package cors sends no header for zero, and browsers then keep the response for a few seconds
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
