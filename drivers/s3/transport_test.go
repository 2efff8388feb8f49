package s3

import (
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers/drivertest/s3double"
)

// TestTransport checks that a configured transport sends every attempt of every
// request to the store, with its signature, and that Close reaches it.
func TestTransport(t *testing.T) {
	t.Parallel()
	s := s3double.New(t, s3double.Knobs{})
	cfg := newBucketOfDouble(s)
	counted := &countingTransport{RoundTripper: new(http.Transport)}
	cfg.Transport = counted
	b := openBucket(t, cfg)
	create(t, b, "text")
	wantObject(t, b, "k", "text")
	if got, want := int(counted.signed.Load()), len(s.Seen()); got != want {
		t.Errorf("the transport sent %d signed requests, want %d", got, want)
	}
	s.Set(s3double.Knobs{Faults: map[string]s3double.Fault{"": {Status: http.StatusServiceUnavailable, Code: "SlowDown"}}})
	counted.signed.Store(0)
	_, err := b.Create(t.Context(), "l", textBody("text"))
	wantBusy(t, err, "Create in a store that is busy")
	if got, want := int(counted.signed.Load()), 1+defaultRetries; got != want {
		t.Errorf("the transport sent %d attempts, want %d", got, want)
	}
	if err := b.Close(); err != nil || !counted.closed.Load() {
		t.Errorf("Close() = %v, and closed the transport's idle connections: %t, want true", err, counted.closed.Load())
	}
}

// TestTransportOfCredentials checks that a configured transport sends no
// requests for credentials.
func TestTransportOfCredentials(t *testing.T) {
	fakeSTS(t, http.StatusOK)
	store := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(store.Close)
	counted := &countingTransport{RoundTripper: new(http.Transport)}
	b, _ := connectBucket(t, Config{
		Bucket: "b", Endpoint: store.URL, PathStyle: true, Profile: "other", RoleARN: "arn:aws:iam::1:role/berth", Transport: counted,
	})
	if n := counted.all.Load(); n != 0 {
		t.Errorf("connect sent %d requests by the store's transport, want 0", n)
	}
	if err := b.Delete(t.Context(), "k"); err != nil || counted.all.Load() != 1 {
		t.Errorf("Delete = %v, and sent %d requests, want 1", err, counted.all.Load())
	}
}

// countingTransport counts requests.
type countingTransport struct {
	http.RoundTripper

	all, signed atomic.Int32
	closed      atomic.Bool
}

func (c *countingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	c.all.Add(1)
	if r.Header.Get("Authorization") != "" {
		c.signed.Add(1)
	}
	return c.RoundTripper.RoundTrip(r)
}

func (c *countingTransport) CloseIdleConnections() { c.closed.Store(true) }

// TestConnections checks the size of the pool, and that Close empties it.
func TestConnections(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ connections, want int }{{0, defaultConnections}, {7, 7}} {
		tr := (&Config{Connections: test.connections}).httpClient(nil).GetTransport()
		if tr.MaxIdleConns != test.want || tr.MaxIdleConnsPerHost != test.want || tr.MaxConnsPerHost != 0 {
			t.Errorf("with Connections %d the transport has MaxIdleConns %d, MaxIdleConnsPerHost %d and MaxConnsPerHost %d, want %d, %d, 0",
				test.connections, tr.MaxIdleConns, tr.MaxIdleConnsPerHost, tr.MaxConnsPerHost, test.want, test.want)
		}
	}
	proxy, cfg := newProxy(t)
	var mu sync.Mutex
	open := make(map[net.Conn]bool)
	server := httptest.NewUnstartedServer(proxy)
	server.Config.ConnState = func(c net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch state {
		case http.StateNew:
			open[c] = true
		case http.StateClosed, http.StateHijacked:
			delete(open, c)
		default:
		}
	}
	server.Start()
	defer server.Close()
	cfg.Endpoint = server.URL
	b, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	left := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(open)
	}
	for deadline := time.Now().Add(10 * time.Second); left() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after Close %d connections are open, want 0", left())
		}
	}
}

// TestCAFile connects to a store with a certificate of a private authority.
func TestCAFile(t *testing.T) {
	t.Parallel()
	store := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	store.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	store.StartTLS()
	t.Cleanup(store.Close)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	cfg := Config{Bucket: "b", Endpoint: store.URL, PathStyle: true, AccessKeyID: "id", SecretAccessKey: "secret", Retries: -1}
	request := func(cfg Config) error {
		c, err := connect(t.Context(), cfg)
		if err != nil {
			return err
		}
		return c.store.deleteAll(t.Context(), []string{"k"})
	}
	with := func(file string) Config {
		cfg := cfg
		cfg.CAFile = file
		return cfg
	}
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: store.Certificate().Raw})
	valid := with(write("ca.pem", authority))
	if err := request(valid); err != nil {
		t.Errorf("a request with the authority's certificate = %v", err)
	}
	err := request(cfg)
	wantRefused(t, err, "a request without the authority's certificate")
	wantText(t, err, "s3.Config.CAFile: ", "a request without the authority's certificate")
	wantText(t, request(with(write("key.pem", []byte("no PEM")))), "s3.Config.CAFile: ", "a request with a file that has no certificate")
	wantText(t, request(with(filepath.Join(dir, "none"))), "s3.Config.CAFile: ", "a request without the file")

	valid.Transport = new(http.Transport)
	if err := request(valid); err == nil {
		t.Error("a request by a Transport with other authorities = nil, want an error: CAFile is not for a configured Transport")
	}
	valid.Transport = store.Client().Transport
	if err := request(valid); err != nil {
		t.Errorf("a request by a Transport that trusts the authority = %v", err)
	}
}
