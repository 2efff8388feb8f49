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

// strictS3 is the way to versitygw that makes an Amazon S3 of it, where a
// conditional delete takes away what has the tag and nothing else. The server
// looks at the tag and removes the object in two steps, without the lock that
// its writes take, and so removes what is written in between as well (1.8.0, in
// backend/posix: DeleteObject). Here such a delete waits for the writes of its
// key, and they for it.
type strictS3 struct {
	server http.RoundTripper
	keys   sync.Map // path -> *sync.RWMutex: shared by writes, held alone by conditional deletes
}

// RoundTrip asks the server. What is held apart from others goes on without its
// client, as the server may do with it, unless its body breaks off.
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
			r.Out.Host = r.In.Host // it is signed
		},
		ModifyResponse: func(r *http.Response) error {
			r.Header.Set("Server", "AmazonS3")
			return nil
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // clients go away
		// Where the server breaks off, so does the proxy.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	})
	t.Cleanup(func() {
		proxy.CloseClientConnections()
		proxy.Close()
		server.CloseIdleConnections()
	})
	return proxy.URL
}
