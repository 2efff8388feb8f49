package system

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// death kills each replica of a fleet that makes a certain request, once at each
// of the moments that are due.
type death struct {
	mu    sync.Mutex
	fleet *fleet // nil before it starts
	due   []moment
}

// moment is in the middle of a request to the store.
type moment struct {
	request  string
	answered bool // the store has done what it was asked for
}

func (m moment) String() string {
	if m.answered {
		return "after the store did this, and before its answer came: " + m.request
	}
	return "before the store got this: " + m.request
}

// newDeath has two moments of each kind of request.
func newDeath(requests []string) *death {
	d := new(death)
	for _, r := range requests {
		d.due = append(d.due, moment{r, false}, moment{r, true})
	}
	return d
}

// begin starts to kill.
func (d *death) begin(f *fleet) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fleet = f
}

// missed is the moments that never came.
func (d *death) missed() []moment {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.due
}

var errKilled = errors.New("the replica was killed")

// victim returns the current process of a replica, or nil before death starts.
func (d *death) victim(replica int) *process {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fleet == nil {
		return nil
	}
	return d.fleet.replica(replica)
}

// strikes kills a process if this moment of its request is due, and it is
// not dead already. A replica that is only starting still counts as the one
// before, and is spared.
func (d *death) strikes(p *process, m moment) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.Index(d.due, m)
	if i < 0 || p == nil || p.isDead() {
		return false
	}
	d.due = slices.Delete(d.due, i, i+1)
	p.kill()
	return true
}

// wire is a replica's own way to the store at endpoint.
func (d *death) wire(t *testing.T, endpoint string, replica int) string {
	t.Helper()
	through, path := wayTo(t, endpoint, nil)
	proxy := through.(*httputil.ReverseProxy)
	proxy.Transport = &watched{d, replica, proxy.Transport}
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // it loses its clients
	s := httptest.NewServer(proxy)
	t.Cleanup(s.Close)
	return s.URL + path
}

// watched is the requests of one replica.
type watched struct {
	d       *death
	replica int
	to      http.RoundTripper
}

func (w *watched) RoundTrip(r *http.Request) (*http.Response, error) {
	kind := kindOf(r.Method, r.URL)
	p := w.d.victim(w.replica) // its successor may serve before the answer comes
	if w.d.strikes(p, moment{kind, false}) {
		return nil, errKilled
	}
	res, err := w.to.RoundTrip(r)
	if err == nil && res.StatusCode < 300 && w.d.strikes(p, moment{kind, true}) {
		res.Body.Close()
		return nil, fmt.Errorf("%s: %w", res.Status, errKilled)
	}
	return res, err
}

// Kinds of requests that change something in a store.
const (
	startsUpload = "start of an upload"
	storesPart   = "part"
	completes    = "completion of an upload"
	writesState  = "record of a session"
	writesRecord = "record of a blob"
	writesLink   = "link"
)

// kindOf is the kind of a request to any of the stores, or empty.
func kindOf(method string, u *url.URL) string {
	q := u.Query()
	key := u.Path
	if name := q.Get("name"); name != "" { // Cloud Storage's
		key = "/" + name
	}
	switch {
	case method != http.MethodPut && method != http.MethodPost:
		return ""
	case q.Has("uploads"):
		return startsUpload
	case q.Has("partNumber"), q.Get("comp") == "block", strings.HasPrefix(q.Get("name"), "parts/"):
		return storesPart
	case q.Has("uploadId"), q.Get("comp") == "blocklist", strings.HasSuffix(u.Path, "/compose"):
		return completes
	case strings.Contains(key, "/uploads/"):
		return writesState
	case strings.HasSuffix(key, "/record"):
		return writesRecord
	case strings.Contains(key, "/links/"):
		return writesLink
	}
	return ""
}
