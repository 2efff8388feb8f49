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

// killer kills replicas in the middle of requests to the store: one replica at each
// moment of each kind of request.
type killer struct {
	mu    sync.Mutex
	fleet *fleet // nil until the killer starts
	due   []moment
}

// moment is a moment of a request to the store.
type moment struct {
	request string
	done    bool // the store has carried out the request, and its response has not arrived
}

func (m moment) String() string {
	if m.done {
		return "after the store did this and before its response arrived: " + m.request
	}
	return "before this request reached the store: " + m.request
}

// newKiller returns a killer for two moments of each of these kinds of requests.
func newKiller(requests []string) *killer {
	k := new(killer)
	for _, r := range requests {
		k.due = append(k.due, moment{r, false}, moment{r, true})
	}
	return k
}

func (k *killer) start(f *fleet) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fleet = f
}

// missed returns the moments at which no replica was killed.
func (k *killer) missed() []moment {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.due
}

var errKilled = errors.New("the replica was killed")

// process returns the current process of a replica, or nil before the killer starts.
func (k *killer) process(replica int) *process {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fleet == nil {
		return nil
	}
	return k.fleet.replica(replica)
}

// kill kills a process at this moment, if the moment is due, and reports whether it
// did. It spares a process that has exited. While a replica is replaced, the process
// is that of its predecessor.
func (k *killer) kill(p *process, m moment) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.Index(k.due, m)
	if i < 0 || p == nil || p.hasExited() {
		return false
	}
	k.due = slices.Delete(k.due, i, i+1)
	p.kill()
	return true
}

// endpoint returns the URL of a proxy that one replica uses to reach the store.
func (k *killer) endpoint(t *testing.T, store string, replica int) string {
	t.Helper()
	proxy, path := proxyTo(t, store, nil)
	proxy.Transport = &watchedTransport{k, replica, proxy.Transport}
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // its clients are killed
	s := httptest.NewServer(proxy)
	t.Cleanup(s.Close)
	return s.URL + path
}

// watchedTransport is the way of one replica's requests to the store.
type watchedTransport struct {
	killer  *killer
	replica int
	next    http.RoundTripper
}

func (w *watchedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	kind := kindOf(r.Method, r.URL)
	p := w.killer.process(w.replica) // before the response arrives, another process may have taken its place
	if w.killer.kill(p, moment{kind, false}) {
		return nil, errKilled
	}
	res, err := w.next.RoundTrip(r)
	if err == nil && res.StatusCode < 300 && w.killer.kill(p, moment{kind, true}) {
		res.Body.Close()
		return nil, fmt.Errorf("%s: %w", res.Status, errKilled)
	}
	return res, err
}

// proxyTo returns a proxy to the store at endpoint, which may change requests, and
// the path of the endpoint, which clients add to the URL of the proxy.
func proxyTo(t *testing.T, endpoint string, change func(*http.Request)) (proxy *httputil.ReverseProxy, path string) {
	t.Helper()
	store, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{Transport: ownTransport(), Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = store.Scheme, store.Host, r.In.Host
		if change != nil {
			change(r.Out)
		}
	}}, store.Path
}

// Kinds of requests that change something in a store.
const (
	startsUpload  = "start of an upload"
	storesPart    = "part"
	completes     = "completion of an upload"
	writesSession = "record of a session"
	writesRecord  = "record of a blob"
	writesLink    = "link"
)

// kindOf returns the kind of a request to any of the stores, or "" for requests that
// replicas are not killed at.
func kindOf(method string, u *url.URL) string {
	q := u.Query()
	key := u.Path
	if name := q.Get("name"); name != "" { // the key of an upload to Cloud Storage
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
		return writesSession
	case strings.HasSuffix(key, "/record"):
		return writesRecord
	case strings.Contains(key, "/links/"):
		return writesLink
	}
	return ""
}
