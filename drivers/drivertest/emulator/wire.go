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

// Wire is the way to a server, through toxiproxy, and can be made bad. It is
// good at first. Its API is that of https://github.com/Shopify/toxiproxy.
type Wire struct {
	URL string // of the server, by this way

	api    string
	client *http.Client // to the API
}

// Toxic is what is wrong with a Wire: one of toxiproxy's toxics.
type Toxic struct {
	Type       string           `json:"type"`
	Stream     string           `json:"stream"` // upstream, to the server, or downstream
	Attributes map[string]int64 `json:"attributes"`
}

// NewWire starts toxiproxy, and lays a way to the server at endpoint, a URL of
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
	// Not http.DefaultClient, whose connections other tests close.
	w := &Wire{api: "http://" + api, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	var made struct {
		Listen string `json:"listen"`
	}
	w.ask(t, "/proxies", map[string]any{"name": "store", "listen": "127.0.0.1:0", "upstream": u.Host, "enabled": true}, &made)
	u.Host = made.Listen
	w.URL = u.String()
	return w
}

// Poison makes the wire bad, for connections that are open as well.
func (w *Wire) Poison(t testing.TB, toxics ...Toxic) {
	t.Helper()
	for _, toxic := range toxics {
		w.ask(t, "/proxies/store/toxics", toxic, nil)
	}
}

// Cut closes all connections, and refuses others.
func (w *Wire) Cut(t testing.TB) {
	t.Helper()
	w.ask(t, "/proxies/store", map[string]any{"enabled": false}, nil)
}

// Heal makes the wire good again.
func (w *Wire) Heal(t testing.TB) {
	t.Helper()
	w.ask(t, "/reset", nil, nil)
}

// ask sends a request to the API, and reads its answer into answer, unless that
// is nil.
func (w *Wire) ask(t testing.TB, path string, body, answer any) {
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
