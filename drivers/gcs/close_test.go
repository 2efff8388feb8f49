package gcs

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestClose checks that neither Close nor Inspect leaves a connection to the
// store.
func TestClose(t *testing.T) {
	t.Parallel()
	for name, use := range map[string]func(Config) error{
		"Close": func(cfg Config) error {
			b, err := open(t.Context(), cfg)
			if err != nil {
				return err
			}
			if err := b.Delete(t.Context(), "k"); err != nil {
				return err
			}
			return b.Close()
		},
		"Inspect": func(cfg Config) error {
			_, err := Inspect(t.Context(), cfg)
			return err
		},
	} {
		opened, closed := make(chan bool, 10), make(chan bool, 10)
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte("{}")) // if this fails, the calls fail
		}))
		server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				opened <- true
			case http.StateClosed:
				closed <- true
			default:
			}
		}
		server.Start()
		if err := use(Config{Bucket: "b", Endpoint: server.URL}); err != nil {
			t.Errorf("%s = %v", name, err)
		}
		for range len(opened) {
			select {
			case <-closed:
			case <-time.After(10 * time.Second):
				t.Errorf("%s left a connection open", name)
			}
		}
		if len(opened) == 0 {
			t.Errorf("%s opened no connection, so that the test shows nothing", name)
		}
		server.Close()
	}
}
