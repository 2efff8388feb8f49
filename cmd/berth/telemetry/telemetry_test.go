package telemetry

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/activity"
	"github.com/berthhq/berth/cmd/berth/server"
)

var update = flag.Bool("update", false, "write the table of metrics into deploy/README.md")

func newTelemetry(t *testing.T) *Telemetry {
	t.Helper()
	tel, err := New(t.Context(), "v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Close(context.WithoutCancel(t.Context())) }) // the collector of a test may be gone
	tel.WatchStore(func() blobstore.Usage {
		return blobstore.Usage{Caches: map[string]blobstore.CacheUsage{"links": {Hits: 3, Misses: 1}}}
	}, 1<<28, 1<<26)
	return tel
}

// scrape returns the lines of the metrics that start with berth_.
func scrape(t *testing.T, tel *Telemetry) (lines []string) {
	t.Helper()
	w := httptest.NewRecorder()
	tel.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "berth_") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	all := "\n" + strings.Join(got, "\n") + "\n"
	for _, line := range want {
		if !strings.Contains(all, "\n"+line+"\n") {
			t.Errorf("metrics have no line %s in\n%s", line, all)
		}
	}
}

// TestReference compares the table in deploy/README.md with the metrics.
func TestReference(t *testing.T) {
	var table strings.Builder
	table.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, r := range newTelemetry(t).Rows() {
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", r.Name, r.Type, strings.Join(r.Labels, ", "), r.Help)
	}
	file := filepath.Join("..", "..", "..", "deploy", "README.md")
	readme, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const start, end = "<!-- metrics -->\n", "<!-- end of metrics -->\n"
	before, rest, ok := strings.Cut(string(readme), start)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("deploy/README.md has no %q and %q", start, end)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+start+table.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(table.String(), got); diff != "" {
		t.Errorf("deploy/README.md differs from the metrics; run go test ./cmd/berth/telemetry -update (-want +got):\n%s", diff)
	}
}

// TestRequests counts requests, and checks that clients cannot make up labels.
func TestRequests(t *testing.T) {
	tel := newTelemetry(t)
	end := func(e server.Exchange) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		ctx, trace := tel.Begin(r)
		if trace != "" {
			t.Errorf("Begin returned the trace %s although traces are off", trace)
		}
		tel.End(ctx, e)
	}
	end(server.Exchange{Method: "GET", Status: 307, Facts: activity.Facts{Route: "blob", Repository: "a", Redirect: "presign",
		Events: []activity.Event{{Action: activity.Pull, Repository: "a"}}}})
	end(server.Exchange{Method: "PUT", Status: 201, Received: 7, Sent: 2, Facts: activity.Facts{Route: "manifest",
		Events: []activity.Event{{Action: activity.Push, Manifest: true}, {Action: activity.Tag, Manifest: true}}}})
	before := len(scrape(t, tel))
	for i := range 100 {
		name := fmt.Sprintf("name-%d", i)
		end(server.Exchange{Method: "GET", Status: 307, UserAgent: name, Client: name, Path: "/" + name, Host: name,
			Facts: activity.Facts{Route: "blob", User: name, Repository: name, Tag: name, Digest: name, Redirect: "presign"}})
	}
	if after := len(scrape(t, tel)); after != before {
		t.Errorf("100 requests for other names took the metrics from %d lines to %d", before, after)
	}
	for i := range 100 {
		end(server.Exchange{Method: fmt.Sprintf("M%d", i), Status: 404})
	}
	got := scrape(t, tel)
	wantLines(t, got,
		`berth_build_info{go_version="`+runtime.Version()+`",version="v1.2.3"} 1`,
		`berth_http_requests_in_flight 0`,
		`berth_http_requests_total{code="307",method="GET",route="blob"} 101`,
		`berth_http_requests_total{code="404",method="other",route="other"} 100`,
		`berth_http_request_duration_seconds_count{method="PUT",route="manifest"} 1`,
		`berth_http_received_bytes_total{route="manifest"} 7`,
		`berth_http_sent_bytes_total{route="manifest"} 2`,
		`berth_redirects_total{target="presign"} 101`,
		`berth_operations_total{action="pull",kind="blob"} 1`,
		`berth_operations_total{action="tag",kind="manifest"} 1`,
		`berth_cache_hits_total{cache="links"} 3`,
		`berth_upload_memory_limit_bytes 2.68435456e+08`,
	)
}

// transport answers requests by their path, which is a status or a word for an error.
type transport struct{}

func (transport) RoundTrip(req *http.Request) (*http.Response, error) {
	var status int
	if _, err := fmt.Sscanf(req.URL.Path, "/%d", &status); err != nil {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader("")), Request: req}, nil
}

func TestStoreRequests(t *testing.T) {
	tel := newTelemetry(t)
	next := tel.Watch("s3")(transport{})
	ctx, act := activity.New(t.Context())
	send := func(path, attempt string) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://store.example.com"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Amz-Sdk-Request", attempt)
		if res, err := next.RoundTrip(req); err == nil {
			res.Body.Close()
		}
	}
	for _, path := range []string{"/200", "/404", "/412", "/503", "/500", "/403", "/broken"} {
		send(path, "attempt=1; max=3")
	}
	send("/200", "attempt=2; max=3")
	wantLines(t, scrape(t, tel),
		`berth_store_requests_total{driver="s3",operation="read",outcome="ok"} 2`,
		`berth_store_requests_total{driver="s3",operation="read",outcome="not_found"} 1`,
		`berth_store_requests_total{driver="s3",operation="read",outcome="conflict"} 1`,
		`berth_store_requests_total{driver="s3",operation="read",outcome="throttled"} 1`,
		`berth_store_requests_total{driver="s3",operation="read",outcome="failed"} 2`,
		`berth_store_requests_total{driver="s3",operation="read",outcome="refused"} 1`,
		`berth_store_request_duration_seconds_count{driver="s3",operation="read"} 8`,
		`berth_store_retries_total{driver="s3",operation="read"} 1`,
	)
	if n := act.Facts().StoreRequests; n != 8 {
		t.Errorf("the request has counted %d requests to the store, want 8", n)
	}
}

func TestOperation(t *testing.T) {
	for _, tc := range []struct{ driver, method, url, want string }{
		{"s3", "GET", "/b/key?x-id=GetObject", "read"},
		{"s3", "HEAD", "/b/key", "stat"},
		{"s3", "PUT", "/b/key?x-id=PutObject", "write"},
		{"s3", "DELETE", "/b/key", "delete"},
		{"s3", "POST", "/b?delete=", "delete"},
		{"s3", "GET", "/b?list-type=2&prefix=x", "list"},
		{"s3", "POST", "/b/key?uploads=", "start_upload"},
		{"s3", "PUT", "/b/key?partNumber=1&uploadId=u", "write_part"},
		{"s3", "POST", "/b/key?uploadId=u", "complete_upload"},
		{"s3", "DELETE", "/b/key?uploadId=u", "abort_upload"},
		{"s3", "GET", "/b?uploads=", "list_uploads"},
		{"s3", "GET", "/b?location=", "other"},
		{"gcs", "GET", "/bucket/key", "read"},
		{"gcs", "GET", "/storage/v1/b/bucket/o/key?alt=media", "read"},
		{"gcs", "GET", "/storage/v1/b/bucket/o/key?alt=json", "stat"},
		{"gcs", "GET", "/storage/v1/b/bucket/o?prefix=x", "list"},
		{"gcs", "DELETE", "/storage/v1/b/bucket/o/key", "delete"},
		{"gcs", "POST", "/storage/v1/b/bucket/o/key/compose", "compose"},
		{"gcs", "POST", "/upload/storage/v1/b/bucket/o?name=key", "write"},
		{"gcs", "GET", "/storage/v1/b/bucket", "other"},
		{"azure", "GET", "/c/key", "read"},
		{"azure", "PUT", "/c/key", "write"},
		{"azure", "PUT", "/c/key?comp=block&blockid=1", "write_part"},
		{"azure", "PUT", "/c/key?comp=blocklist", "complete_upload"},
		{"azure", "GET", "/c?restype=container&comp=list", "list"},
		{"azure", "POST", "/c?restype=container&comp=batch", "delete"},
		{"azure", "GET", "/c?restype=container", "other"},
	} {
		req := httptest.NewRequestWithContext(t.Context(), tc.method, "http://x"+tc.url, nil)
		if got := operation(tc.driver, req); got != tc.want {
			t.Errorf("operation(%s, %s %s) = %s, want %s", tc.driver, tc.method, tc.url, got, tc.want)
		}
	}
}

// TestTraces sends the spans of a request, and of its requests to the store, to a
// collector. They have the trace of the client, and nothing that a URL of the store
// could reveal.
func TestTraces(t *testing.T) {
	var mu sync.Mutex
	var sent strings.Builder
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what is missing fails the test
		mu.Lock()
		defer mu.Unlock()
		sent.WriteString(r.URL.Path + " ")
		sent.Write(body)
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	tel := newTelemetry(t)
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/a/blobs/x", nil)
	r.Header.Set("Traceparent", "00-"+id+"-00f067aa0ba902b7-01")
	ctx, trace := tel.Begin(r)
	if trace != id {
		t.Errorf("Begin returned the trace %q, want %s", trace, id)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://store.example.com/200?sig=hush", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "hush")
	res, err := tel.Watch("azure")(transport{}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	tel.End(ctx, server.Exchange{Method: "GET", Status: 200, Facts: activity.Facts{Route: "blob"}})
	if err := tel.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"/v1/traces", "GET blob", "azure read", "v1.2.3"} {
		if !strings.Contains(sent.String(), want) {
			t.Errorf("the collector did not get %q in %q", want, sent.String())
		}
	}
	if strings.Contains(sent.String(), "hush") {
		t.Errorf("the collector got a secret: %q", sent.String())
	}
}

func TestTracingIsOffUnlessAskedFor(t *testing.T) {
	for _, tc := range []struct {
		env  []string
		want bool
	}{
		{nil, false},
		{[]string{"OTEL_SERVICE_NAME=berth"}, false},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://x"}, true},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://x"}, true},
		{[]string{"OTEL_TRACES_EXPORTER=console"}, true},
		{[]string{"OTEL_TRACES_EXPORTER=none", "OTEL_EXPORTER_OTLP_ENDPOINT=http://x"}, false},
		{[]string{"OTEL_SDK_DISABLED=true", "OTEL_EXPORTER_OTLP_ENDPOINT=http://x"}, false},
	} {
		t.Run(strings.Join(tc.env, " "), func(t *testing.T) {
			for _, setting := range tc.env {
				name, value, _ := strings.Cut(setting, "=")
				t.Setenv(name, value)
			}
			if got := tracing(); got != tc.want {
				t.Errorf("tracing() = %v, want %v", got, tc.want)
			}
		})
	}
}
