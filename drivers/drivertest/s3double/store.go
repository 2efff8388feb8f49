// Package s3double is an object store in memory that speaks the S3 protocol
// over HTTP, for tests. By default it does what Amazon S3 documents: it checks
// and applies conditions in one step, compares checksums and verifies
// signatures. [Knobs] change this behaviour, each in the way of an existing
// store.
//
// A [Store] has any number of front ends, which are servers on the loopback
// interface. A bucket is the first segment of the path.
package s3double

import (
	"crypto/rand"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The credentials and the region that the store accepts.
const (
	AccessKeyID     = "double"
	SecretAccessKey = "secret-of-the-double"
	Region          = "us-east-1"
)

// RegionHeader selects the region for a request if the store has two regions:
// see [Knobs.Lag]. Without it, a request is for the region of its front end.
const RegionHeader = "X-Double-Region"

// ConsistentHeader makes the region "a" serve a request, as Tigris does.
// https://www.tigrisdata.com/docs/objects/conditionals/
const ConsistentHeader = "X-Tigris-Consistent"

// Store is one object store.
type Store struct {
	endpoint string
	shared   *locks // of the keys, for all front ends

	mu      sync.Mutex
	knobs   Knobs
	buckets map[string]bool
	regions map[string]map[string]*object // region -> bucket/key -> object
	uploads map[string]*upload            // by id
	seen    []Request
}

// object is one version of an object. It never changes.
type object struct {
	data     []byte
	etag     string
	modified time.Time
	header   http.Header // Content-Type, and checksums
}

// Request is a request that reached a front end.
type Request struct {
	Operation  string // the API's name for it
	Key        string
	Header     http.Header
	RemoteAddr string
}

// New starts a store with one front end.
func New(t testing.TB, k Knobs) *Store {
	t.Helper()
	s := &Store{
		shared:  new(locks),
		knobs:   k,
		buckets: make(map[string]bool),
		regions: map[string]map[string]*object{"a": {}, "b": {}},
		uploads: make(map[string]*upload),
	}
	s.endpoint = s.Front(t, "a")
	return s
}

// Endpoint returns the URL of the first front end, which is in region "a".
func (s *Store) Endpoint() string { return s.endpoint }

// Front starts another front end, with its own connections and locks, and
// returns its URL. region is "a" or "b". Without [Knobs.Lag] both regions are
// the same.
func (s *Store) Front(t testing.TB, region string) string {
	t.Helper()
	server := httptest.NewServer(&front{store: s, region: region, own: new(locks)})
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// Bucket creates an empty bucket and returns its name.
func (s *Store) Bucket() string {
	name := "double-" + strings.ToLower(rand.Text())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buckets[name] = true
	return name
}

// Set changes the knobs. Requests in progress keep the earlier ones.
func (s *Store) Set(k Knobs) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.knobs = k
}

// Seen returns the requests since the last call of Seen.
func (s *Store) Seen() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

// Left returns the keys of a bucket's objects in region "a", and then those of
// its uploads in progress, each sorted.
func (s *Store) Left(bucket string) (objects, uploads []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for path := range s.regions["a"] {
		if key, ok := strings.CutPrefix(path, bucket+"/"); ok {
			objects = append(objects, key)
		}
	}
	for u := range maps.Values(s.uploads) {
		if key, ok := strings.CutPrefix(u.path, bucket+"/"); ok {
			uploads = append(uploads, key)
		}
	}
	slices.Sort(objects)
	slices.Sort(uploads)
	return objects, uploads
}

// get returns the object at path in the region, or nil.
func (s *Store) get(region, path string) *object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.regions[region][path]
}

// put stores an object in the region, or deletes it if o is nil. The other
// region receives the change after the lag, or immediately if there is none.
func (s *Store) put(region, path string, o *object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	other := map[string]string{"a": "b", "b": "a"}[region]
	s.set(region, path, o)
	if s.knobs.Lag == 0 {
		s.set(other, path, o)
		return
	}
	time.AfterFunc(s.knobs.Lag, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.set(other, path, o)
	})
}

func (s *Store) set(region, path string, o *object) {
	if o == nil {
		delete(s.regions[region], path)
	} else {
		s.regions[region][path] = o
	}
}

// locks are the locks of all keys.
type locks struct {
	keys sync.Map // path -> *sync.Mutex
}

// lock locks the key and returns the function that unlocks it.
func (l *locks) lock(path string) (unlock func()) {
	v, _ := l.keys.LoadOrStore(path, new(sync.Mutex))
	key := v.(*sync.Mutex)
	key.Lock()
	return key.Unlock
}
