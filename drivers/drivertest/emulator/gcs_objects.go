package emulator

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// holds reports whether the object has this generation. Otherwise it sends an
// error. "" means any generation, and "0" means that there is no object.
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

// serveInsert creates an object. It reads the whole body before it takes the lock,
// so that a slow client does not block other requests.
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
	status, header, answer, err := s.exchange(r.WithContext(context.WithoutCancel(r.Context())), body)
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
		return fmt.Errorf("the server's response describes no object: %s", answer)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.buckets[bucket][o.Name]; known.generation < o.Generation { // responses may arrive out of order
		s.buckets[bucket][o.Name] = gcsObject{o.Generation, o.Size, binary.BigEndian.Uint32(o.CRC32C), o.StorageClass}
	}
	return nil
}

// serveDelete deletes an object, if its precondition holds.
func (s *strictGCS) serveDelete(w http.ResponseWriter, r *http.Request, bucket, name string) {
	s.changing.Lock()
	defer s.changing.Unlock()
	if _, ok := s.object(bucket, name); !ok {
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
