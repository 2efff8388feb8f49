// Package activity collects what is known about a request while it is handled: who
// sent it, what it is about, what it did, and what that cost. The handlers that know
// a fact add it to the Request in the context. A handler around them reads the facts
// at the end of the request, for the access log, metrics and events.
//
// No fact decides anything about the request.
package activity

import (
	"context"
	"slices"
	"sync"
)

// Facts is what is known about a request. Fields that do not apply are empty.
type Facts struct {
	// Route names the group of URLs that the request belongs to, such as "blob". It is
	// one of a few constants, so it can be the label of a metric.
	Route string

	User       string // that was authenticated
	Repository string
	Digest     string // in the URL
	Tag        string // in the URL

	// Redirect is the target that the client was redirected to, by its name in the
	// configuration: "presign" or "cdn:<name>".
	Redirect string

	// StoreRequests is the number of HTTP requests to the store, repeated ones included.
	StoreRequests int

	// Events is what the request has changed or read, in this order.
	Events []Event
}

// Action is what an event has done.
type Action string

// The actions. A push of a manifest by tag is a push followed by a tag.
const (
	Pull   Action = "pull"   // of a blob or manifest
	Push   Action = "push"   // of a blob or manifest
	Mount  Action = "mount"  // of a blob, from another repository
	Delete Action = "delete" // of a blob, manifest or tag
	Tag    Action = "tag"    // a tag was created, or moved to a manifest
)

// Event is one change or read that has succeeded.
type Event struct {
	Action     Action
	Repository string
	Digest     string // of the blob or manifest; empty for the deletion of a tag
	Tag        string // of Tag, of the deletion of a tag, and of the pull of a manifest by tag
	MediaType  string // empty if it is not known, as that of most blobs
	Size       int64  // bytes; 0 if it is not known
	From       string // repository that a blob was mounted from; empty if the client did not name one
	Manifest   bool   // a manifest, or a tag of one, and not a blob
}

// Request collects the facts of one request. It is safe for concurrent use. All
// methods of a nil Request do nothing.
type Request struct {
	mu    sync.Mutex
	facts Facts
}

// Facts returns what has been collected so far.
func (r *Request) Facts() Facts {
	if r == nil {
		return Facts{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	facts := r.facts
	facts.Events = slices.Clip(facts.Events) // a later event does not change it
	return facts
}

// SetUser records the user that was authenticated.
func (r *Request) SetUser(name string) {
	r.set(func(f *Facts) { f.User = name })
}

// Describe records what the request is about.
func (r *Request) Describe(route, repository, digest, tag string) {
	r.set(func(f *Facts) { f.Route, f.Repository, f.Digest, f.Tag = route, repository, digest, tag })
}

// Redirected records the target of a redirect.
func (r *Request) Redirected(target string) {
	r.set(func(f *Facts) { f.Redirect = target })
}

// CountStoreRequest counts a request to the store.
func (r *Request) CountStoreRequest() {
	r.set(func(f *Facts) { f.StoreRequests++ })
}

// Add adds an event.
func (r *Request) Add(e Event) {
	r.set(func(f *Facts) { f.Events = append(f.Events, e) })
}

func (r *Request) set(change func(*Facts)) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.facts)
}

type contextKey struct{}

// New returns a context with a new Request, and the Request.
func New(ctx context.Context) (context.Context, *Request) {
	r := new(Request)
	return context.WithValue(ctx, contextKey{}, r), r
}

// Of returns the Request of a context, or nil if it has none.
func Of(ctx context.Context) *Request {
	r, _ := ctx.Value(contextKey{}).(*Request)
	return r
}
