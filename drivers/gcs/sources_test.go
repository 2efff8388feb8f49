package gcs

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// TestCompleteDropsSources has a store that keeps the sources of a compose.
// Complete deletes them after the object exists, in one request each.
func TestCompleteDropsSources(t *testing.T) {
	for _, keeps := range []bool{true, false} {
		const n = 100 // in two levels
		d := newDouble()
		d.leave = func(string) bool { return true }
		parts := testParts(n)
		d.stage(testUpload, parts)
		b := d.open(t, nil)
		b.keepsSources = keeps
		if _, err := complete(t, b, parts); err != nil {
			t.Fatal(err)
		}
		nodes := d.requests["compose"] - 1
		names, deleted := d.names(), n+nodes
		if !keeps {
			names, deleted = names[:1], 0
		}
		if !slices.Equal(names, []string{testUpload.Key}) || d.requests["delete"] != deleted {
			t.Errorf("keepsSources %v: Complete sent %d deletions and left %q, want %d deletions and the object", keeps, d.requests["delete"], names, deleted)
		}
	}
}

// TestOpenFindsKeptSources opens a store that ignores deleteSourceObjects, and
// one that does not.
func TestOpenFindsKeptSources(t *testing.T) {
	server := emulator.FakeGCS(t)
	store := newTransport()
	for _, keeps := range []bool{true, false} {
		var log bytes.Buffer
		cfg := Config{
			Bucket: server.Bucket(t), Endpoint: server.Endpoint, CredentialsFile: server.CredentialsFile,
			Log: slog.New(slog.NewTextHandler(&log, nil)),
			Transport: transport(func(r *http.Request) (*http.Response, error) {
				if keeps && strings.HasSuffix(r.URL.Path, "/compose") {
					body := strings.Replace(readAll(r), `"deleteSourceObjects":true`, `"deleteSourceObjects":false`, 1)
					r = r.Clone(r.Context())
					r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
				}
				return store.RoundTrip(r)
			}),
		}
		b, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() }) // frees connections only
		if warned := strings.Contains(log.String(), "keeps the parts"); warned != keeps {
			t.Errorf("store keeps sources: %v: log = %q", keeps, &log)
		}
		u, err := b.StartUpload(t.Context(), "data/k")
		if err != nil {
			t.Fatal(err)
		}
		p, err := b.PutPart(t.Context(), u, 1, drivers.NewBody([]byte("part")))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Complete(t.Context(), u, []drivers.Part{p}, p.CRC32C); err != nil {
			t.Fatal(err)
		}
		for u, err := range b.Uploads(t.Context(), "") {
			t.Errorf("store keeps sources: %v: Complete left %+v, %v", keeps, u, err)
		}
	}
}
