package emulator

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Wire is a connection to a server through toxiproxy, in which a test can
// inject faults. It starts without faults. The API of toxiproxy is described at
// https://github.com/Shopify/toxiproxy.
type Wire struct {
	URL string // of the server, through toxiproxy

	api    string
	client *http.Client // to the API
}

// Toxic is a fault of a Wire: one of toxiproxy's toxics.
type Toxic struct {
	Type       string           `json:"type"`
	Stream     string           `json:"stream"` // upstream, to the server, or downstream
	Attributes map[string]int64 `json:"attributes"`
}

// NewWire starts toxiproxy as a proxy to the server at endpoint, a URL with
// plain HTTP.
func NewWire(t testing.TB, endpoint string) *Wire {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	_, api := start(t, func(_, addr string) command {
		host, port, _ := strings.Cut(addr, ":")
		return command{name: "toxiproxy-server", args: []string{"-host", host, "-port", port}, env: []string{"LOG_LEVEL=error"}, ready: "http://" + addr + "/version"}
	})
	// Do not use http.DefaultClient, because other tests close its connections.
	w := &Wire{api: "http://" + api, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	var created struct {
		Listen string `json:"listen"`
	}
	w.call(t, "/proxies", map[string]any{"name": "store", "listen": "127.0.0.1:0", "upstream": u.Host, "enabled": true}, &created)
	u.Host = created.Listen
	w.URL = u.String()
	return w
}

// Poison adds faults, which also affect open connections.
func (w *Wire) Poison(t testing.TB, toxics ...Toxic) {
	t.Helper()
	for _, toxic := range toxics {
		w.call(t, "/proxies/store/toxics", toxic, nil)
	}
}

// Cut closes all connections and refuses new ones.
func (w *Wire) Cut(t testing.TB) {
	t.Helper()
	w.call(t, "/proxies/store", map[string]any{"enabled": false}, nil)
}

// Heal removes all faults and accepts connections again.
func (w *Wire) Heal(t testing.TB) {
	t.Helper()
	w.call(t, "/reset", nil, nil)
}

// call sends a request to the API and decodes its response into answer, unless
// answer is nil.
func (w *Wire) call(t testing.TB, path string, body, answer any) {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := w.client.Post(w.api+path, "application/json", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err = io.ReadAll(resp.Body)
	if err == nil && answer != nil {
		err = json.Unmarshal(data, answer)
	}
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("toxiproxy: POST %s = %s %s, %v", path, resp.Status, data, err)
	}
}
