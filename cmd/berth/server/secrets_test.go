package server

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/berthhq/berth/blobstore/activity"
)

// TestLogHasNoSecrets sends secrets everywhere in requests where clients send them,
// and in redirects. Neither form of the log contains any.
func TestLogHasNoSecrets(t *testing.T) {
	const secret = "hush-5f0e"
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:"+secret))
	var log bytes.Buffer
	for format, handler := range map[string]slog.Handler{
		"text": slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}),
		"json": slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}),
	} {
		cfg := testConfig(func(w http.ResponseWriter, r *http.Request) {
			SetUser(r.Context(), "ann")
			activity.Of(r.Context()).Redirected("cdn:edge")
			w.Header().Set("Location", "https://store.example.com/data?X-Amz-Signature="+secret+"&sig="+secret)
			w.Header().Set("Set-Cookie", "session="+secret)
			w.WriteHeader(http.StatusTemporaryRedirect)
		})
		cfg.Log = slog.New(handler)
		cfg.ClientAddr = func(*http.Request) netip.Addr { return netip.MustParseAddr("198.51.100.7") }
		server := httptest.NewServer(newServer(t.Context(), t.Context(), &cfg, newReadiness(cfg.Ping, cfg.Log)).Handler)
		client := *server.Client()
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		log.Reset()
		for _, query := range []string{"_state", "token", "access_token", "sig", "X-Amz-Signature", "X-Goog-Signature", "password"} {
			for _, auth := range []string{basic, "Bearer " + secret} {
				url := fmt.Sprintf("%s/v2/a/blobs/uploads/1?%s=%s", server.URL, query, secret)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader("password="+secret))
				if err != nil {
					t.Fatal(err)
				}
				req.Header = http.Header{"Authorization": {auth}, "Proxy-Authorization": {auth}, "Cookie": {"session=" + secret},
					"Referer": {url}, "X-Registry-Auth": {secret}, "X-Amz-Security-Token": {secret}}
				res, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		}
		server.Close() // the lines are written by then
		got := log.String()
		for _, hidden := range []string{secret, basic[len("Basic "):], "store.example.com"} {
			if strings.Contains(got, hidden) {
				t.Errorf("%s: the log contains %s:\n%s", format, hidden, got)
			}
		}
		if n := strings.Count(got, "cdn:edge"); n != 14 || strings.Count(got, "ann") != n {
			t.Errorf("%s: %d lines name the target of the redirect, want 14, each with the user:\n%s", format, n, got)
		}
	}
}
