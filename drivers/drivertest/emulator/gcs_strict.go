package emulator

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/berthhq/berth/drivers"
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

func (s *strictGCS) addBucket(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buckets[name] = make(map[string]gcsObject)
}

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
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{ // the client may be gone
		"code": status, "message": message,
		"errors": []any{map[string]any{"domain": "global", "reason": reason, "message": message}},
	}})
}

func unmet(w http.ResponseWriter) {
	gcsError(w, http.StatusPreconditionFailed, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
}

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
	rest2, isJSON := strings.CutPrefix(path, "/storage/v1/b/")
	switch {
	case r.Header.Get("Authorization") == "Bearer "+s.token:
	case r.Header.Get("Authorization") != "":
		gcsError(w, http.StatusUnauthorized, "authError", "Invalid Credentials")
		return
	case isUpload || isJSON || r.URL.Query().Get("X-Goog-Signature") == "":
		gcsError(w, http.StatusUnauthorized, "required", "Anonymous caller does not have storage access.")
		return
	default:
		if err := s.verify(r); err != nil {
			gcsError(w, http.StatusForbidden, "forbidden", "SignatureDoesNotMatch or expired: "+err.Error())
			return
		}
	}
	if isJSON {
		rest = rest2
	}
	if !isUpload && !isJSON {
		rest = strings.TrimPrefix(path, "/")
	}
	bucket, rest, _ := strings.Cut(rest, "/")
	s.mu.Lock()
	_, there := s.buckets[bucket]
	s.mu.Unlock()
	if !there {
		gcsError(w, http.StatusNotFound, "notFound", "The specified bucket does not exist.")
		return
	}
	if !isUpload && !isJSON {
		s.serveMedia(w, r, bucket, rest)
		return
	}
	s.serveJSON(w, r, bucket, rest, isUpload)
}

// serveJSON answers requests of the JSON API below a bucket.
func (s *strictGCS) serveJSON(w http.ResponseWriter, r *http.Request, bucket, rest string, isUpload bool) {
	escaped, isObject := strings.CutPrefix(rest, "o/")
	escaped, isCompose := strings.CutSuffix(escaped, "/compose")
	name, err := url.PathUnescape(escaped)
	if err != nil {
		gcsError(w, http.StatusBadRequest, "invalid", err.Error())
		return
	}
	switch {
	case isUpload && rest == "o" && r.Method == http.MethodPost && r.URL.Query().Get("uploadType") == "multipart":
		s.serveInsert(w, r, bucket)
	case rest == "o" && r.Method == http.MethodGet:
		q := r.URL.Query()
		if n, err := strconv.Atoi(q.Get("maxResults")); err != nil || n > 1000 {
			q.Set("maxResults", "1000")
		}
		r.URL.RawQuery = q.Encode()
		s.pass(w, r)
	case rest == "" && r.Method == http.MethodGet: // the settings of the bucket
		s.pass(w, r)
	case rest == "storageLayout" && r.Method == http.MethodGet:
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		_, _ = io.WriteString(w, `{"kind":"storage#storageLayout","locationType":"region"}`) // the client may be gone
	case isCompose && r.Method == http.MethodPost:
		s.serveCompose(w, r, bucket, name)
	case isObject && r.Method == http.MethodGet:
		if s.holds(w, bucket, name, r.URL.Query().Get("ifGenerationMatch")) {
			s.pass(w, r)
		}
	case isObject && r.Method == http.MethodDelete:
		s.serveDelete(w, r, bucket, name)
	default:
		gcsError(w, http.StatusNotImplemented, "notImplemented", r.Method+" "+r.URL.Path)
	}
}

// holds reports whether the object has this generation, and sends an error if
// not. "" means any generation, and "0" means that there is no object.
func (s *strictGCS) holds(w http.ResponseWriter, bucket, name, generation string) bool {
	if generation == "" {
		return true
	}
	o, _ := s.object(bucket, name)
	if strconv.FormatInt(o.generation, 10) != generation {
		unmet(w)
		return false
	}
	return true
}

// serveMedia answers a read through the XML API.
func (s *strictGCS) serveMedia(w http.ResponseWriter, r *http.Request, bucket, escaped string) {
	name, err := url.PathUnescape(escaped)
	if err != nil || r.Method != http.MethodGet {
		gcsError(w, http.StatusNotImplemented, "notImplemented", r.Method+" "+r.URL.Path)
		return
	}
	if s.holds(w, bucket, name, r.Header.Get("X-Goog-If-Generation-Match")) {
		s.pass(w, r)
	}
}

// serveInsert reads the whole body before it takes the lock, so that a slow
// client does not block other requests.
func (s *strictGCS) serveInsert(w http.ResponseWriter, r *http.Request, bucket string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		gcsError(w, http.StatusBadRequest, "badRequest", err.Error())
		return
	}
	s.changing.RLock()
	defer s.changing.RUnlock()
	s.keep(w, r, bucket, body)
}

// keep lets the server create an object and records its metadata. The request
// to the server continues even if the client disconnects.
func (s *strictGCS) keep(w http.ResponseWriter, r *http.Request, bucket string, body []byte) bool {
	status, header, answer, err := s.ask(r.WithContext(context.WithoutCancel(r.Context())), body)
	if err != nil {
		gcsError(w, http.StatusBadGateway, "backendError", err.Error())
		return false
	}
	if status == http.StatusOK {
		if err := s.remember(bucket, answer); err != nil {
			gcsError(w, http.StatusBadGateway, "backendError", err.Error())
			return false
		}
	}
	reply(w, status, header, answer)
	return status == http.StatusOK
}

// remember records the metadata of an object from the server's response.
func (s *strictGCS) remember(bucket string, answer []byte) error {
	var o struct {
		Name         string `json:"name"`
		Generation   int64  `json:"generation,string"`
		Size         int64  `json:"size,string"`
		CRC32C       []byte `json:"crc32c"`
		StorageClass string `json:"storageClass"`
	}
	if err := json.Unmarshal(answer, &o); err != nil {
		return err
	}
	if len(o.CRC32C) != 4 || o.Name == "" || o.Generation == 0 {
		return fmt.Errorf("the server describes no object: %s", answer)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.buckets[bucket][o.Name]; known.generation < o.Generation { // responses may arrive out of order
		s.buckets[bucket][o.Name] = gcsObject{o.Generation, o.Size, binary.BigEndian.Uint32(o.CRC32C), o.StorageClass}
	}
	return nil
}

func (s *strictGCS) serveDelete(w http.ResponseWriter, r *http.Request, bucket, name string) {
	s.changing.Lock()
	defer s.changing.Unlock()
	if _, there := s.object(bucket, name); !there {
		noObject(w, bucket, name)
		return
	}
	if !s.holds(w, bucket, name, r.URL.Query().Get("ifGenerationMatch")) {
		return
	}
	if err := s.remove(r.Context(), bucket, name); err != nil {
		gcsError(w, http.StatusBadGateway, "backendError", err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// remove deletes an existing object.
func (s *strictGCS) remove(ctx context.Context, bucket, name string) error {
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodDelete,
		s.upstream+"/storage/v1/b/"+bucket+"/o/"+url.PathEscape(name), nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("DELETE %s: %s", name, resp.Status)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.buckets[bucket], name)
	return nil
}

// composeRequest is https://cloud.google.com/storage/docs/json_api/v1/objects/compose.
type composeRequest struct {
	SourceObjects []struct {
		Name                string `json:"name"`
		ObjectPreconditions struct {
			IfGenerationMatch *int64 `json:"ifGenerationMatch,string"`
		} `json:"objectPreconditions"`
	} `json:"sourceObjects"`
	DeleteSourceObjects bool `json:"deleteSourceObjects"`
	Destination         struct {
		CRC32C string `json:"crc32c"`
	} `json:"destination"`
}

func (s *strictGCS) serveCompose(w http.ResponseWriter, r *http.Request, bucket, name string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		gcsError(w, http.StatusBadRequest, "badRequest", err.Error())
		return
	}
	var req composeRequest
	if err := json.Unmarshal(body, &req); err != nil || len(req.SourceObjects) == 0 || len(req.SourceObjects) > 32 {
		gcsError(w, http.StatusBadRequest, "invalid", fmt.Sprintf("%d sources, %v", len(req.SourceObjects), err))
		return
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if !s.holds(w, bucket, name, r.URL.Query().Get("ifGenerationMatch")) {
		return
	}
	var crc uint32
	var class string
	for i, source := range req.SourceObjects {
		o, there := s.object(bucket, source.Name)
		switch want := source.ObjectPreconditions.IfGenerationMatch; {
		case !there:
			noObject(w, bucket, source.Name)
			return
		case want != nil && *want != o.generation:
			unmet(w)
			return
		case i > 0 && o.class != class:
			gcsError(w, http.StatusBadRequest, "invalid", "The storage classes of the source objects differ.")
			return
		}
		crc, class = drivers.CombineCRC32C(crc, o.crc32c, o.size), o.class
	}
	sum := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
	if req.Destination.CRC32C != "" && req.Destination.CRC32C != sum {
		gcsError(w, http.StatusBadRequest, "invalid", "Provided CRC32C "+req.Destination.CRC32C+" doesn't match calculated CRC32C "+sum)
		return
	}
	if !s.keep(w, r, bucket, body) || !req.DeleteSourceObjects {
		return
	}
	for _, source := range req.SourceObjects {
		if source.Name == name {
			continue
		}
		if err := s.remove(r.Context(), bucket, source.Name); err != nil {
			return // the sources stay, as can happen with GCS
		}
	}
}

// ask sends the request to the server and reads its response.
func (s *strictGCS) ask(r *http.Request, body []byte) (status int, header http.Header, answer []byte, err error) {
	resp, err := s.send(r, body)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, answer, err
}

// pass sends the request to the server and streams its response to the client.
func (s *strictGCS) pass(w http.ResponseWriter, r *http.Request) {
	resp, err := s.send(r, nil)
	if err != nil {
		gcsError(w, http.StatusBadGateway, "backendError", err.Error())
		return
	}
	defer resp.Body.Close()
	copyHeader(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body) // the client may be gone
}

func (s *strictGCS) send(r *http.Request, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(r.Context(), r.Method, s.upstream+r.URL.EscapedPath()+"?"+r.URL.RawQuery, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	copyHeader(req.Header, r.Header)
	req.Header.Del("Authorization")
	return s.client.Do(req)
}

func reply(w http.ResponseWriter, status int, header http.Header, body []byte) {
	copyHeader(w.Header(), header)
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}

func copyHeader(to, from http.Header) {
	for name, values := range from {
		if name != "Connection" && name != "Transfer-Encoding" && name != "Te" && name != "Trailer" && name != "Upgrade" {
			to[name] = values
		}
	}
}
