package server

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/berthhq/berth/blobstore/activity"
)

// Exchange describes a request that has ended and its response, for metrics, traces
// and events. It has no query, no header with credentials and no signed URL.
type Exchange struct {
	ID        string // [ocihttp.RequestID] of the response
	Method    string // cut off after a few bytes, as are the strings below
	Path      string
	UserAgent string
	Client    string // address behind proxies; with a port if it is that of the peer
	Host      string // that the request was sent to

	Status         int
	Received, Sent int64 // bytes of the bodies
	Start          time.Time
	Took           time.Duration

	activity.Facts
}

// routeHealth is the [activity.Facts] Route of health checks.
const routeHealth = "health"

func (e *Exchange) fill(cfg *Config, r *http.Request, res *response, body *countingBody, act *activity.Request) {
	e.Method = truncate(r.Method, maxLoggedMethod)
	e.Path = truncate(r.URL.Path, maxLoggedPath)
	e.UserAgent = truncate(r.UserAgent(), maxLoggedAgent)
	e.Host = truncate(r.Host, maxLoggedHost)
	e.Client = clientOf(cfg, r)
	e.Status, e.Sent = res.status, res.sent
	if body != nil {
		e.Received = body.n.Load()
	}
	e.Took = time.Since(e.Start)
	e.Facts = act.Facts()
	if isHealthPath(r.URL.Path) {
		e.Route = routeHealth
	}
}

// countingBody is a request's body that counts the bytes that were read.
type countingBody struct {
	io.ReadCloser

	n atomic.Int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}
