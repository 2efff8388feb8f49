package system

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// TestMetrics pushes and pulls through a real process with a real store, and reads the
// metrics from the operator's listener.
func TestMetrics(t *testing.T) {
	p, err := start(t.TempDir(), append(s3Env(t, emulator.VersityGW(t)), "BERTH_ADMIN_LISTEN=127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	}()
	m := regexp.MustCompile(`listening for the operator" address=(\S+)`).FindStringSubmatch(p.stderr.String())
	if m == nil {
		t.Fatalf("the log does not name the operator's listener:\n%s", &p.stderr)
	}
	data := randomBytes(1, 100_000)
	path := "/v2/test/blobs/" + digest.FromBytes(data).String()
	for _, tc := range []struct {
		method, path string
		body         []byte
		status       int
	}{
		{http.MethodPost, "/v2/test/blobs/uploads/?digest=" + digest.FromBytes(data).String(), data, http.StatusCreated},
		{http.MethodGet, path, nil, http.StatusTemporaryRedirect},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tc.method, p.url+tc.path, strings.NewReader(string(tc.body)))
		if err != nil {
			t.Fatal(err)
		}
		res, err := p.client.Transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != tc.status {
			t.Errorf("%s %s = %d, want %d", tc.method, tc.path, res.StatusCode, tc.status)
		}
	}
	if a, err := request(t.Context(), p, http.MethodGet, "/metrics", nil); err != nil || a.status != http.StatusNotFound {
		t.Errorf("GET /metrics on the clients' listener = %d, %v, want 404", a.status, err)
	}
	admin := &process{url: "http://" + m[1], client: p.client}
	got, err := request(t.Context(), admin, http.MethodGet, "/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`berth_http_requests_total{code="201",method="POST",route="uploads"} 1`,
		`berth_http_received_bytes_total{route="uploads"} 100000`,
		`berth_redirects_total{target="presign"} 1`,
		`berth_operations_total{action="push",kind="blob"} 1`,
		`berth_operations_total{action="pull",kind="blob"} 1`,
		`berth_cache_hits_total{cache="links"} 1`,
		`berth_upload_memory_bytes 0`,
		`berth_store_requests_total{driver="s3",operation="write",outcome="ok"}`,
	} {
		if !strings.Contains(string(got.body), "\n"+line) {
			t.Errorf("the metrics have no line %s", line)
		}
	}
	if !regexp.MustCompile(`msg=request .*method=POST .*repository=test .*store_requests=3`).MatchString(p.stderr.String()) {
		t.Errorf("the log has no POST with 3 requests to the store:\n%s", &p.stderr)
	}
}
