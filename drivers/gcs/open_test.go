package gcs

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
)

// sentinel returns the sentinel that err wraps, or nil. ErrRefused and ErrFull are
// not among them.
func sentinel(err error) error {
	for _, s := range []error{drivers.ErrNotFound, drivers.ErrExists, drivers.ErrChanged, drivers.ErrRange, drivers.ErrBusy, errors.ErrUnsupported} {
		if errors.Is(err, s) {
			return s
		}
	}
	return nil
}

// withoutPrecondition returns a transport that removes ifGenerationMatch from
// requests with a method, as if the store ignored it. create selects the
// create-only precondition of writes, and otherwise the one on a generation.
func withoutPrecondition(method string, create bool) transport {
	wire := newTransport()
	return func(r *http.Request) (*http.Response, error) {
		if q := r.URL.Query(); r.Method == method && (q.Get("ifGenerationMatch") == "0") == create {
			r = r.Clone(r.Context())
			q.Del("ifGenerationMatch")
			r.URL.RawQuery = q.Encode()
		}
		return wire.RoundTrip(r)
	}
}

// withoutClass returns a transport that refuses writes in a storage class.
func withoutClass(class string) transport {
	wire := newTransport()
	return func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPost {
			body := readAll(r)
			if strings.Contains(body, `"storageClass":"`+class+`"`) {
				return answer(r, http.StatusBadRequest, "Invalid storage class")
			}
			r = r.Clone(r.Context())
			r.Body = io.NopCloser(strings.NewReader(body))
		}
		return wire.RoundTrip(r)
	}
}

// TestOpenRefused opens buckets that cannot be opened. The error names the field
// to change, and makes no claim about a key.
func TestOpenRefused(t *testing.T) {
	server := emulator.FakeGCS(t)
	good := Config{Bucket: server.Bucket(t), Endpoint: server.Endpoint, CredentialsFile: server.CredentialsFile}
	through := func(f transport) func(*Config) { return func(c *Config) { c.Transport = f } }
	nonsense := filepath.Join(t.TempDir(), "nonsense.json")
	if err := os.WriteFile(nonsense, []byte(`{"type":"service_account","private_key":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		want   []string
	}{
		"no bucket":       {func(c *Config) { c.Bucket = "" }, []string{"gcs.Config.Bucket"}},
		"a URL as bucket": {func(c *Config) { c.Bucket = "gs://b" }, []string{"gcs.Config.Bucket", "gs://b"}},
		"bad prefix":      {func(c *Config) { c.Prefix = "a//b" }, []string{"gcs.Config.Prefix"}},
		"long prefix":     {func(c *Config) { c.Prefix = strings.Repeat("a/b/", 40) }, []string{"gcs.Config.Prefix"}},
		"endpoint, path":  {func(c *Config) { c.Endpoint += "/x" }, []string{"gcs.Config.Endpoint"}},
		"public endpoint": {func(c *Config) { c.PublicEndpoint = "blobs.example" }, []string{"gcs.Config.PublicEndpoint"}},
		"no such file":    {func(c *Config) { c.CredentialsFile += "x" }, []string{"gcs.Config.CredentialsFile", "no such file"}},
		"nonsense file":   {func(c *Config) { c.CredentialsFile = nonsense }, []string{"gcs.Config.CredentialsFile"}},
		"another key":     {func(c *Config) { c.CredentialsFile = otherKey(t, server.Endpoint) }, []string{"gcs.Config.CredentialsFile", "clock"}},
		"no credentials":  {func(c *Config) { c.CredentialsFile = "" }, []string{"gcs.Config.CredentialsFile", "not accepted"}},
		"missing bucket":  {func(c *Config) { c.Bucket = "absent" }, []string{"gcs.Config.Bucket", `"absent" does not exist`}},
		"endpoint down":   {func(c *Config) { c.Endpoint, c.CredentialsFile = "http://127.0.0.1:1", "" }, []string{"gcs.Config.Endpoint", "cannot be reached"}},
		"no create-only": {through(withoutPrecondition(http.MethodPost, true)),
			[]string{"gcs.Config.Endpoint", "ignores ifGenerationMatch=0 on writes (create-only)"}},
		"no compare-and-swap": {through(withoutPrecondition(http.MethodPost, false)),
			[]string{"gcs.Config.Endpoint", "ignores ifGenerationMatch on writes (compare-and-swap)"}},
		"no conditional delete": {through(withoutPrecondition(http.MethodDelete, false)),
			[]string{"gcs.Config.Endpoint", "ignores ifGenerationMatch on DELETE"}},
		"unknown class": {func(c *Config) { c.StorageClass, c.Transport = "GLACIAL", withoutClass("GLACIAL") },
			[]string{"gcs.Config.StorageClass", "GLACIAL"}},
		"denied": {through(func(r *http.Request) (*http.Response, error) {
			return answer(r, http.StatusForbidden, "writer does not have storage.objects.create access")
		}), []string{"gcs.Config.CredentialsFile", "roles/storage.objectUser", "storage.objects.create"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := good
			c.change(&cfg)
			wantRefused(t, cfg, name == "endpoint down", c.want...)
		})
	}
}

// wantRefused fails the test unless Open returns an error that contains the texts
// and makes no claim about a key. It may be ErrBusy only if busy is set.
func wantRefused(t *testing.T, cfg Config, busy bool, texts ...string) {
	t.Helper()
	b, err := Open(t.Context(), cfg)
	if err == nil {
		b.Close()
		t.Fatal("Open = nil, want an error")
	}
	if s := sentinel(err); s != nil && (!busy || !errors.Is(s, drivers.ErrBusy)) {
		t.Errorf("Open = %v, which claims %q", err, s)
	}
	for _, want := range texts {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Open = %v, want %q in it", err, want)
		}
	}
}

// TestOpenWithoutCredentials runs in an environment without credentials.
func TestOpenWithoutCredentials(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	t.Setenv("GCE_METADATA_HOST", "")
	b, err := Open(t.Context(), Config{Bucket: "b", Transport: refuseAll})
	if err == nil {
		b.Close()
		t.Fatal("Open = nil, want an error (or is this a machine of Google's?)")
	}
	if s := sentinel(err); s != nil || !strings.Contains(err.Error(), "gcs.Config.CredentialsFile: it is empty") {
		t.Errorf("Open = %v (%v), want gcs.Config.CredentialsFile in it", err, s)
	}
}

// otherKey creates the credentials of an account that does not exist on the
// server.
func otherKey(t *testing.T, endpoint string) string {
	t.Helper()
	path := writeCredentials(t, newKey(t))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(data), `"token_uri":"`)
	url, _, _ := strings.Cut(after, `"`)
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), url, endpoint+"/token", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOpenLeavesNothing checks that the probe leaves no objects.
func TestOpenLeavesNothing(t *testing.T) {
	server := emulator.FakeGCS(t)
	b, err := Open(t.Context(), Config{Bucket: server.Bucket(t), Endpoint: server.Endpoint, CredentialsFile: server.CredentialsFile})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for u, err := range b.Uploads(t.Context(), "") {
		t.Errorf("Open left %+v, %v", u, err)
	}
}

// TestBucketGone has a bucket that was deleted after Open. The errors make no claim
// about a key.
func TestBucketGone(t *testing.T) {
	for name, body := range map[string]string{
		"XML":  `<?xml version='1.0' encoding='UTF-8'?><Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist.</Message></Error>`,
		"JSON": `{"error":{"code":404,"message":"The specified bucket does not exist.","errors":[{"reason":"notFound"}]}}`,
	} {
		gone := transport(func(r *http.Request) (*http.Response, error) {
			resp, err := answer(r, http.StatusNotFound, nil)
			if err == nil {
				resp.Body = io.NopCloser(strings.NewReader(body))
			}
			return resp, err
		})
		b := openUnprobed(t, Config{Endpoint: "http://gcs.example", Transport: gone})
		ctx := t.Context()
		_, _, opened := b.Open(ctx, "k", 0, -1)
		_, stat := b.Stat(ctx, "k")
		_, created := b.Create(ctx, "k", drivers.NewBody([]byte("x")))
		_, replaced := b.Replace(ctx, "k", "1", drivers.NewBody([]byte("x")))
		errs := []error{opened, stat, created, replaced, b.Delete(ctx, "k"), b.DeleteIf(ctx, "k", "1"), b.Abort(ctx, testUpload)}
		for _, err := range b.List(ctx, "", "", 0) {
			errs = append(errs, err)
		}
		_, err := complete(t, b, testParts(2))
		for i, err := range append(errs, err) {
			if !errors.Is(err, errNoBucket) || sentinel(err) != nil {
				t.Errorf("%s: call %d = %v (%v), want %v", name, i, err, sentinel(err), errNoBucket)
			}
		}
	}
}

// TestRequests counts the requests of each call.
func TestRequests(t *testing.T) {
	server := emulator.FakeGCS(t)
	wire := newTransport()
	var got []string
	cfg := Config{Bucket: server.Bucket(t), Endpoint: server.Endpoint, CredentialsFile: server.CredentialsFile}
	cfg.Transport = transport(func(r *http.Request) (*http.Response, error) {
		got = append(got, r.Method)
		return wire.RoundTrip(r)
	})
	b := openUnprobed(t, cfg)
	ctx := t.Context()
	var o drivers.Object
	var u drivers.Upload
	var parts []drivers.Part
	for _, c := range []struct {
		what string
		call func() error
		want []string
	}{
		{"Create", func() (err error) { o, err = b.Create(ctx, "k", drivers.NewBody([]byte("x"))); return err }, []string{"POST"}},
		{"Open", func() error {
			r, _, err := b.Open(ctx, "k", 0, -1)
			if err == nil {
				err = r.Close()
			}
			return err
		}, []string{"GET"}},
		{"Stat", func() error { _, err := b.Stat(ctx, "k"); return err }, []string{"GET"}},
		{"Replace", func() (err error) { o, err = b.Replace(ctx, "k", o.Tag, drivers.NewBody([]byte("y"))); return err }, []string{"POST"}},
		{"DeleteIf", func() error { return b.DeleteIf(ctx, "k", o.Tag) }, []string{"DELETE"}},
		{"Delete", func() error { return b.Delete(ctx, "k") }, []string{"DELETE"}},
		{"StartUpload", func() (err error) { u, err = b.StartUpload(ctx, "data/k"); return err }, nil},
		{"PutPart", func() error {
			p, err := b.PutPart(ctx, u, 1, drivers.NewBody([]byte("z")))
			parts = append(parts, p)
			return err
		}, []string{"POST"}},
		{"Complete", func() error { _, err := b.Complete(ctx, u, parts, parts[0].CRC32C); return err }, []string{"POST"}},
		{"second Complete", func() error { _, err := b.Complete(ctx, u, parts, parts[0].CRC32C); return err }, []string{"POST", "GET"}},
		{"SignGet", func() error { _, err := b.SignGet(ctx, "data/k", drivers.SignOptions{Expires: 1e9}); return err }, nil},
	} {
		got = nil
		if err := c.call(); err != nil {
			t.Fatalf("%s = %v", c.what, err)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("requests of %s = %q, want %q", c.what, got, c.want)
		}
	}
}

// TestLostResponses closes the connection after each write has taken effect.
func TestLostResponses(t *testing.T) {
	server := emulator.FakeGCS(t)
	wire := newTransport()
	lose := false
	cfg := Config{Bucket: server.Bucket(t), Endpoint: server.Endpoint, CredentialsFile: server.CredentialsFile}
	cfg.Transport = transport(func(r *http.Request) (*http.Response, error) {
		resp, err := wire.RoundTrip(r)
		if lose && err == nil {
			lose = false
			resp.Body.Close()
			return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
		}
		return resp, err
	})
	b := openUnprobed(t, cfg)
	ctx := t.Context()
	u, err := b.StartUpload(ctx, "data/k")
	if err != nil {
		t.Fatal(err)
	}
	lose = true
	p, err := b.PutPart(ctx, u, 1, drivers.NewBody([]byte("part")))
	if err != nil {
		t.Fatalf("PutPart after a lost response = %v", err)
	}
	lose = true
	o, err := b.Complete(ctx, u, []drivers.Part{p}, p.CRC32C)
	if err != nil || o.Size != 4 {
		t.Fatalf("Complete after a lost response = %+v, %v", o, err)
	}
	lose = true
	if err := b.DeleteIf(ctx, "data/k", o.Tag); err != nil {
		t.Errorf("DeleteIf after a lost response = %v", err)
	}
	lose = true
	if _, err := b.Create(ctx, "k", drivers.NewBody([]byte("x"))); !errors.Is(err, drivers.ErrExists) {
		t.Errorf("Create after a lost response = %v, want %v", err, drivers.ErrExists)
	}
	o, err = b.Stat(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	lose = true
	if _, err := b.Replace(ctx, "k", o.Tag, drivers.NewBody([]byte("y"))); !errors.Is(err, drivers.ErrChanged) {
		t.Errorf("Replace after a lost response = %v, want %v", err, drivers.ErrChanged)
	}
	if lose {
		t.Error("no response was lost")
	}
}

// TestClasses checks the storage class of writes.
func TestClasses(t *testing.T) {
	var classes []string
	b := openUnprobed(t, Config{Endpoint: "http://gcs.example", StorageClass: "NEARLINE", Transport: transport(func(r *http.Request) (*http.Response, error) {
		class := ""
		if strings.Contains(readAll(r), `"storageClass":"NEARLINE"`) {
			class = "NEARLINE"
		}
		classes = append(classes, class)
		return answer(r, http.StatusOK, map[string]string{"generation": "1", "size": "1", "updated": "2026-01-02T03:04:05Z"})
	})})
	ctx := t.Context()
	one := drivers.NewBody([]byte("x"))
	_, record := b.Create(ctx, "blobs/r", one)
	_, data := b.Create(ctx, "data/d", one)
	_, part := b.PutPart(ctx, drivers.Upload{Key: "data/u", ID: "A"}, 1, one)
	_, other := b.PutPart(ctx, drivers.Upload{Key: "other/u", ID: "A"}, 1, one)
	if err := errors.Join(record, data, part, other); err != nil {
		t.Fatal(err)
	}
	if want := []string{"", "NEARLINE", "NEARLINE", ""}; !slices.Equal(classes, want) {
		t.Errorf("classes of a record, data and two parts = %q, want %q", classes, want)
	}
}
