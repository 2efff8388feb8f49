package emulator

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
)

// strictS3 is a RoundTripper to versitygw that adds Amazon S3's rule that a
// conditional delete removes only the version with the tag. versitygw compares
// the tag and deletes the object in two steps, without the lock that its writes
// take, so it also deletes an object that is written in between (1.8.0, in
// backend/posix: DeleteObject). With strictS3 such a delete waits for the
// writes of its key, and they wait for it.
type strictS3 struct {
	server http.RoundTripper
	keys   sync.Map // path -> *sync.RWMutex: read-locked by writes, locked by conditional deletes
}

// RoundTrip sends the request to the server. A write or a conditional delete
// continues even if its client disconnects, as it may on the server, unless its
// body breaks off.
func (s *strictS3) RoundTrip(r *http.Request) (*http.Response, error) {
	isDelete := r.Method == http.MethodDelete && r.Header.Get("If-Match") != ""
	if !isDelete && r.Method != http.MethodPut && r.Method != http.MethodPost {
		return s.server.RoundTrip(r)
	}
	v, _ := s.keys.LoadOrStore(r.URL.Path, new(sync.RWMutex))
	key := v.(*sync.RWMutex)
	if isDelete {
		key.Lock()
		defer key.Unlock()
	} else {
		key.RLock()
		defer key.RUnlock()
	}
	return s.server.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
}

// newStrictS3 starts a proxy in front of the server at endpoint, and returns
// its URL.
func newStrictS3(t testing.TB, endpoint string) string {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Transport: &strictS3{server: server},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // the signature covers it
		},
		ModifyResponse: func(r *http.Response) error {
			r.Header.Set("Server", "AmazonS3")
			return nil
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // clients disconnect
		// If the server breaks off the connection, so does the proxy.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	})
	t.Cleanup(func() {
		proxy.CloseClientConnections()
		proxy.Close()
		server.CloseIdleConnections()
	})
	return proxy.URL
}
