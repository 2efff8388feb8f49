package emulator

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
)

// strictGCS is a proxy in front of fake-gcs-server that adds rules of Google
// Cloud Storage that the server does not enforce. It refuses requests without a
// token or a signature, and requests to buckets that do not exist. It enforces
// generation preconditions on reads, deletes and composes. It allows a compose
// of at most 32 sources, of one storage class, and with the checksum that the
// request states, and it deletes the sources if the request asks for it. It
// lists at most 1000 objects at a time. It refuses requests of a kind that
// berth does not make.
//
// The server itself enforces preconditions of writes. The proxy has the
// metadata of all objects, because every request passes through it.
type strictGCS struct {
	upstream string
	account  string
	key      *rsa.PublicKey
	token    string
	client   *http.Client

	// Writes hold changing for reading, because the server serializes them
	// itself. Requests that the proxy has to check first hold it for writing.
	changing sync.RWMutex

	mu      sync.Mutex
	buckets map[string]map[string]gcsObject
}

// gcsObject is the metadata that the proxy needs of an object.
type gcsObject struct {
	generation int64
	size       int64
	crc32c     uint32
	class      string
}

func newStrictGCS(upstream, account string, key *rsa.PublicKey) *strictGCS {
	return &strictGCS{
		upstream: upstream, account: account, key: key, token: rand.Text(),
		client:  &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}},
		buckets: make(map[string]map[string]gcsObject),
	}
}

// addBucket adds an empty bucket.
func (s *strictGCS) addBucket(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buckets[name] = make(map[string]gcsObject)
}

// object returns the metadata of an object. It returns false if it is absent.
func (s *strictGCS) object(bucket, name string) (gcsObject, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.buckets[bucket][name]
	return o, ok
}

// gcsError sends an error in the form of the JSON API. XML clients use the
// status and a code in the message.
func gcsError(w http.ResponseWriter, status int, reason, message string) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{ // fails if the client has left
		"code": status, "message": message,
		"errors": []any{map[string]any{"domain": "global", "reason": reason, "message": message}},
	}})
}

// unmet sends the error of a precondition that does not hold.
func unmet(w http.ResponseWriter) {
	gcsError(w, http.StatusPreconditionFailed, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
}

// noObject sends the error of an absent object.
func noObject(w http.ResponseWriter, bucket, name string) {
	gcsError(w, http.StatusNotFound, "notFound", "No such object: "+bucket+"/"+name)
}

func (s *strictGCS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost && r.URL.Path == "/token" {
		s.serveToken(w, r)
		return
	}
	path := r.URL.EscapedPath()
	rest, isUpload := strings.CutPrefix(path, "/upload/storage/v1/b/")
	isJSON := isUpload
	if !isUpload {
		rest, isJSON = strings.CutPrefix(path, "/storage/v1/b/")
	}
	if !s.authorize(w, r, isJSON) {
		return
	}
	if !isJSON {
		rest = strings.TrimPrefix(path, "/")
	}
	bucket, rest, _ := strings.Cut(rest, "/")
	s.mu.Lock()
	_, ok := s.buckets[bucket]
	s.mu.Unlock()
	switch {
	case !ok:
		gcsError(w, http.StatusNotFound, "notFound", "The specified bucket does not exist.")
	case isUpload:
		s.serveUpload(w, r, bucket, rest)
	case isJSON:
		s.serveJSON(w, r, bucket, rest)
	default:
		s.serveMedia(w, r, bucket, rest)
	}
}

// authorize reports whether the request has the token or, for the XML API only, a
// valid signature. Otherwise it sends an error.
func (s *strictGCS) authorize(w http.ResponseWriter, r *http.Request, isJSON bool) bool {
	authorization := r.Header.Get("Authorization")
	switch {
	case authorization == "Bearer "+s.token:
		return true
	case authorization != "":
		gcsError(w, http.StatusUnauthorized, "authError", "Invalid Credentials")
		return false
	case isJSON || r.URL.Query().Get("X-Goog-Signature") == "":
		gcsError(w, http.StatusUnauthorized, "required", "Anonymous caller does not have storage access.")
		return false
	}
	if err := s.verify(r); err != nil {
		gcsError(w, http.StatusForbidden, "forbidden", "SignatureDoesNotMatch or expired: "+err.Error())
		return false
	}
	return true
}

// notImplemented refuses a request of a kind that berth does not make.
func notImplemented(w http.ResponseWriter, r *http.Request) {
	gcsError(w, http.StatusNotImplemented, "notImplemented", r.Method+" "+r.URL.Path)
}

// serveUpload answers requests that create objects, except composes.
func (s *strictGCS) serveUpload(w http.ResponseWriter, r *http.Request, bucket, rest string) {
	if rest != "o" || r.Method != http.MethodPost || r.URL.Query().Get("uploadType") != "multipart" {
		notImplemented(w, r)
		return
	}
	s.serveInsert(w, r, bucket)
}

// serveJSON answers requests of the JSON API below a bucket.
func (s *strictGCS) serveJSON(w http.ResponseWriter, r *http.Request, bucket, rest string) {
	if escaped, isObject := strings.CutPrefix(rest, "o/"); isObject {
		s.serveObject(w, r, bucket, escaped)
		return
	}
	if r.Method != http.MethodGet {
		notImplemented(w, r)
		return
	}
	switch rest {
	case "o":
		q := r.URL.Query()
		if n, err := strconv.Atoi(q.Get("maxResults")); err != nil || n > 1000 {
			q.Set("maxResults", "1000")
		}
		r.URL.RawQuery = q.Encode()
		s.pass(w, r)
	case "": // the settings of the bucket
		s.pass(w, r)
	case "storageLayout":
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		_, _ = io.WriteString(w, `{"kind":"storage#storageLayout","locationType":"region"}`) // fails if the client has left
	default:
		notImplemented(w, r)
	}
}

// serveObject answers requests of the JSON API for an object.
func (s *strictGCS) serveObject(w http.ResponseWriter, r *http.Request, bucket, escaped string) {
	escaped, isCompose := strings.CutSuffix(escaped, "/compose")
	name, err := url.PathUnescape(escaped)
	switch {
	case err != nil:
		gcsError(w, http.StatusBadRequest, "invalid", err.Error())
	case isCompose && r.Method == http.MethodPost:
		s.serveCompose(w, r, bucket, name)
	case !isCompose && r.Method == http.MethodGet:
		if s.holds(w, bucket, name, r.URL.Query().Get("ifGenerationMatch")) {
			s.pass(w, r)
		}
	case !isCompose && r.Method == http.MethodDelete:
		s.serveDelete(w, r, bucket, name)
	default:
		notImplemented(w, r)
	}
}
