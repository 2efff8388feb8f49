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

// s3Permissions are the actions that a request takes, each with what it is
// allowed on.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
func s3Permissions(r *http.Request) (names []string, ok bool) {
	q := r.URL.Query()
	if slices.ContainsFunc([]string{"versionId", "acl", "tagging", "retention", "legal-hold"}, q.Has) {
		return nil, false
	}
	for name := range r.Header {
		switch strings.ToLower(name) {
		case "x-amz-acl", "x-amz-tagging", "x-amz-copy-source", "x-amz-bypass-governance-retention":
			return nil, false
		}
	}
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	const bucket, objects = " on arn:aws:s3:::BUCKET", " on arn:aws:s3:::BUCKET/*"
	// A condition on an ETag reads it:
	// https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
	conditional := func(name string) []string {
		if r.Header.Get("If-Match") != "" {
			return []string{name + objects, "s3:GetObject" + objects}
		}
		return []string{name + objects}
	}
	switch method := r.Method; {
	case key == "" && method == http.MethodGet && q.Get("list-type") == "2":
		return []string{"s3:ListBucket" + bucket}, true
	case key == "" && method == http.MethodGet && q.Has("uploads"):
		return []string{"s3:ListBucketMultipartUploads" + bucket}, true
	case key == "" && method == http.MethodPost && q.Has("delete"):
		return []string{"s3:DeleteObject" + objects}, true
	case key == "" && method == http.MethodGet && q.Has("lifecycle"):
		return []string{"s3:GetLifecycleConfiguration" + bucket}, true
	case key == "" && method == http.MethodGet && q.Has("versioning"):
		return []string{"s3:GetBucketVersioning" + bucket}, true
	case key == "" && method == http.MethodGet && q.Has("intelligent-tiering"):
		return []string{"s3:GetIntelligentTieringConfiguration" + bucket}, true
	case key == "" && method == http.MethodGet && q.Has("object-lock"):
		return []string{"s3:GetBucketObjectLockConfiguration" + bucket}, true
	case key == "" && method == http.MethodGet && q.Has("requestPayment"):
		return []string{"s3:GetBucketRequestPayment" + bucket}, true
	case key == "":
		return nil, false
	case method == http.MethodGet && q.Has("uploadId"):
		return []string{"s3:ListMultipartUploadParts" + objects}, true
	case method == http.MethodGet, method == http.MethodHead:
		return []string{"s3:GetObject" + objects}, true
	case method == http.MethodPut, method == http.MethodPost && (q.Has("uploads") || q.Has("uploadId")):
		return conditional("s3:PutObject"), true
	case method == http.MethodDelete && q.Has("uploadId"):
		return []string{"s3:AbortMultipartUpload" + objects}, true
	case method == http.MethodDelete:
		return conditional("s3:DeleteObject"), true
	default:
		return nil, false
	}
}

// TestS3 records what the driver asks of two servers: by conditional deletes
// and without, with equal ETags of equal parts and, under SSE-KMS, with others.
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
		proven(t, b, "s3")
		exercise(t, b)
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
	r.grants(t, granted...)
}

// inFrontOf is a server that passes requests on by a transport of its own.
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
			p.Out.Host = p.In.Host // which is signed
		},
		FlushInterval: -1,
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return server.URL
}
