package emulator

import (
	"bytes"
	"io"
	"net/http"
)

// exchange sends the request to the server and reads its response.
func (s *strictGCS) exchange(r *http.Request, body []byte) (status int, header http.Header, answer []byte, err error) {
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
	_, _ = io.Copy(w, resp.Body) // fails if the client has left
}

// send sends the request to the server, without its credentials.
func (s *strictGCS) send(r *http.Request, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(r.Context(), r.Method, s.upstream+r.URL.EscapedPath()+"?"+r.URL.RawQuery, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	copyHeader(req.Header, r.Header)
	req.Header.Del("Authorization")
	return s.client.Do(req)
}

// reply sends a response of the server to the client.
func reply(w http.ResponseWriter, status int, header http.Header, body []byte) {
	copyHeader(w.Header(), header)
	w.WriteHeader(status)
	_, _ = w.Write(body) // fails if the client has left
}

// copyHeader copies the fields that are not about the connection.
func copyHeader(to, from http.Header) {
	for name, values := range from {
		if name != "Connection" && name != "Transfer-Encoding" && name != "Te" && name != "Trailer" && name != "Upgrade" {
			to[name] = values
		}
	}
}
