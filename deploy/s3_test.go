package deploy_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/s3"
)

// s3Permissions returns the actions that a request needs, each with the resource
// that it is granted on.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
func s3Permissions(r *http.Request) (names []string, ok bool) {
	if slices.ContainsFunc([]string{"versionId", "acl", "tagging", "retention", "legal-hold"}, r.URL.Query().Has) {
		return nil, false
	}
	for name := range r.Header {
		switch strings.ToLower(name) {
		case "x-amz-acl", "x-amz-tagging", "x-amz-copy-source", "x-amz-bypass-governance-retention":
			return nil, false
		}
	}
	if _, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/"); key != "" {
		return ofS3Object(r)
	}
	return ofS3Bucket(r)
}

const (
	onS3Bucket  = " on arn:aws:s3:::BUCKET"
	onS3Objects = " on arn:aws:s3:::BUCKET/*"
)

// ofS3Bucket returns the action that a request to the bucket needs.
func ofS3Bucket(r *http.Request) (names []string, ok bool) {
	q := r.URL.Query()
	if r.Method == http.MethodPost && q.Has("delete") {
		return []string{"s3:DeleteObject" + onS3Objects}, true
	}
	for parameter, action := range map[string]string{
		"list-type":           "s3:ListBucket",
		"uploads":             "s3:ListBucketMultipartUploads",
		"lifecycle":           "s3:GetLifecycleConfiguration",
		"versioning":          "s3:GetBucketVersioning",
		"intelligent-tiering": "s3:GetIntelligentTieringConfiguration",
		"object-lock":         "s3:GetBucketObjectLockConfiguration",
		"requestPayment":      "s3:GetBucketRequestPayment",
	} {
		if r.Method == http.MethodGet && q.Has(parameter) {
			return []string{action + onS3Bucket}, true
		}
	}
	return nil, false
}

// ofS3Object returns the actions that a request to an object needs.
func ofS3Object(r *http.Request) (names []string, ok bool) {
	q := r.URL.Query()
	switch method := r.Method; {
	case method == http.MethodGet && q.Has("uploadId"):
		return []string{"s3:ListMultipartUploadParts" + onS3Objects}, true
	case method == http.MethodGet, method == http.MethodHead:
		return []string{"s3:GetObject" + onS3Objects}, true
	case method == http.MethodPut, method == http.MethodPost && (q.Has("uploads") || q.Has("uploadId")):
		names = []string{"s3:PutObject" + onS3Objects}
	case method == http.MethodDelete && q.Has("uploadId"):
		return []string{"s3:AbortMultipartUpload" + onS3Objects}, true
	case method == http.MethodDelete:
		names = []string{"s3:DeleteObject" + onS3Objects}
	default:
		return nil, false
	}
	// A condition on an ETag reads it:
	// https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
	if r.Header.Get("If-Match") != "" {
		names = append(names, "s3:GetObject"+onS3Objects)
	}
	return names, true
}

// TestS3 checks the policy against the driver's requests to two servers, with
// conditional deletes and without. On the second, which encrypts by SSE-KMS, parts
// of equal bytes have different ETags.
func TestS3(t *testing.T) {
	t.Parallel()
	r := &recorder{permissions: s3Permissions, base: ownTransport()}
	for name, c := range map[string]struct {
		start func(testing.TB) *emulator.S3
		sse   string
		key   string
	}{
		"versitygw": {start: emulator.VersityGW},
		"MinIO":     {start: emulator.MinIO, sse: "aws:kms", key: emulator.MinIOKey},
	} {
		server := c.start(t)
		cfg := s3.Config{
			Bucket: server.Bucket(t), Region: server.Region, Endpoint: inFrontOf(t, server.Endpoint, r), PathStyle: true,
			AccessKeyID: server.AccessKeyID, SecretAccessKey: server.SecretAccessKey, SSE: c.sse, KMSKeyID: c.key,
		}
		b, err := s3.Open(t.Context(), cfg)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Cleanup(func() { _ = b.Close() }) // frees connections only
		runCheck(t, b, "s3")
		callAll(t, b)
		if _, err := s3.Inspect(t.Context(), cfg); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}

	var policy struct {
		Version   string
		Statement []struct {
			Sid, Effect string
			Action      []string
			Resource    string
		}
	}
	read(t, "s3/policy.json", &policy)
	var granted []string
	for _, s := range policy.Statement {
		if s.Effect != "Allow" {
			t.Errorf("s3/policy.json: %s: the effect is %q", s.Sid, s.Effect)
		}
		for _, action := range s.Action {
			granted = append(granted, action+" on "+s.Resource)
		}
	}
	r.wantUsed(t, granted...)
}

// inFrontOf starts a proxy that sends requests to the endpoint by a transport, and
// returns its URL.
func inFrontOf(t *testing.T, endpoint string, by http.RoundTripper) string {
	t.Helper()
	upstream, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Transport: by,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(upstream)
			p.Out.Host = p.In.Host // it is signed
		},
		FlushInterval: -1,
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return server.URL
}
