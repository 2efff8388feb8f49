package azure

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/berthhq/berth/drivers"
)

// TestAnswers has the service return one answer to every request.
func TestAnswers(t *testing.T) {
	for _, test := range []struct {
		status int
		code   string
		want   error // nil for an error without a sentinel
		text   string
	}{
		{503, "ServerBusy", drivers.ErrBusy, ""},
		{500, "OperationTimedOut", drivers.ErrBusy, ""},
		{500, "InternalError", drivers.ErrBusy, ""},
		{429, "TooManyRequests", drivers.ErrBusy, ""},
		{502, "", drivers.ErrBusy, ""},
		{507, "InsufficientStorage", drivers.ErrFull, "507"},
		{404, "BlobNotFound", drivers.ErrNotFound, ""},
		{404, "ContainerNotFound", drivers.ErrRefused, "azure.Config.Container"},
		{404, "ResourceNotFound", nil, "404 ResourceNotFound"},
		{404, "", nil, "404"},
		{409, "ContainerBeingDeleted", drivers.ErrRefused, "azure.Config.Container"},
		{409, "BlobArchived", nil, "BlobArchived"},
		{403, "AuthenticationFailed", drivers.ErrRefused, "azure.Config.SAS"},
		{403, "AuthorizationFailure", drivers.ErrRefused, "azure.Config.SAS"},
		{403, "AuthorizationFailure", drivers.ErrRefused, "SAS expiration policy"},
		{403, "AuthorizationPermissionMismatch", drivers.ErrRefused, "racwdl of azure.Config.SAS"},
		{403, "KeyBasedAuthenticationNotPermitted", drivers.ErrRefused, "does not accept keys"},
		{412, "LeaseIdMissing", nil, "LeaseIdMissing"},
		{302, "", nil, "302"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := fake(t, func(req *http.Request) (*http.Response, error) {
				return answer(req, test.status, test.code, http.Header{"X-Ms-Request-Id": {"the-request"}, "Location": {"/elsewhere"}}), nil
			})
			_, err := b.Stat(t.Context(), "k")
			wantError(t, fmt.Sprintf("%d %s", test.status, test.code), err, test.want, test.text)
			body := drivers.NewBody([]byte("x"))
			if errors.Is(test.want, drivers.ErrNotFound) {
				return // the service never answers a write with this
			}
			_, err = b.Create(t.Context(), "k", body)
			wantError(t, fmt.Sprintf("%d %s of Create", test.status, test.code), err, test.want, test.text)
			err = b.DeleteIf(t.Context(), "k", `"0x1"`)
			wantError(t, fmt.Sprintf("%d %s of DeleteIf", test.status, test.code), err, test.want, test.text)
		})
	}
}

// TestBusyPasses has a service that is busy at the first two tries.
func TestBusyPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		b := fake(t, func(req *http.Request) (*http.Response, error) {
			if tries++; tries < 3 {
				return answer(req, http.StatusServiceUnavailable, "ServerBusy", http.Header{"Retry-After": {"3"}}), nil
			}
			return answer(req, http.StatusOK, "", http.Header{"Content-Length": {"7"}}), nil
		})
		if o, err := b.Stat(t.Context(), "k"); err != nil || o.Size != 7 {
			t.Errorf("Stat = %+v, %v, want 7 bytes", o, err)
		}
	})
}

// TestConnections has the connection fail.
func TestConnections(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, test := range []struct {
		fails error
		want  error
		text  string
	}{
		{dial(syscall.ECONNREFUSED), drivers.ErrBusy, "account.blob.core.windows.net"},
		{&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}, drivers.ErrBusy, ""},
		{dial(&net.DNSError{Err: "no such host", Name: "account.blob.core.windows.net", IsNotFound: true}), drivers.ErrRefused, "azure.Config.Account"},
		{dial(&net.DNSError{Err: "server misbehaving", Name: "account.blob.core.windows.net", IsTemporary: true}), drivers.ErrBusy, "server misbehaving"},
		{dial(&net.DNSError{Err: "i/o timeout", Name: "account.blob.core.windows.net", IsTimeout: true}), drivers.ErrBusy, "i/o timeout"},
		{fmt.Errorf("transport connection broken: %w", textproto.ProtocolError("malformed MIME header")), drivers.ErrBusy, ""},
		{errors.New(`net/http: HTTP/1.x transport connection broken: malformed HTTP response "HTTP/1.1"`), drivers.ErrBusy, ""},
		{x509.UnknownAuthorityError{}, nil, "unknown authority"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := fake(t, func(*http.Request) (*http.Response, error) { return nil, test.fails })
			_, err := b.Stat(t.Context(), "k")
			wantError(t, test.fails.Error(), err, test.want, test.text)
			if strings.Contains(err.Error(), "SIGNATURE") {
				t.Errorf("Stat = %v, which contains the SAS", err)
			}
		})
	}
}

// TestHang has a service that never responds.
func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := fake(t, func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := b.Stat(ctx, "k")
		wantError(t, "Stat", err, nil, "deadline")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stat = %v, want %v", err, context.DeadlineExceeded)
		}
	})
}

// noIdentity is an identity without a token service.
type noIdentity struct{}

func (noIdentity) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, errors.New("there is no metadata service")
}

// busyIdentity is an identity of a token service that is down or throttles. Its
// value is the status of the service's answers.
type busyIdentity int

func (status busyIdentity) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, &azidentity.AuthenticationFailedError{RawResponse: &http.Response{
		StatusCode: int(status), Body: http.NoBody, Request: httptest.NewRequest(http.MethodPost, "/token", nil),
	}}
}

// TestBusyIdentity distinguishes a refused token from one that is temporarily
// unavailable.
func TestBusyIdentity(t *testing.T) {
	for status, want := range map[int]error{
		http.StatusServiceUnavailable: drivers.ErrBusy, http.StatusTooManyRequests: drivers.ErrBusy, http.StatusUnauthorized: drivers.ErrRefused,
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := fakeConfig(func(req *http.Request) (*http.Response, error) { return answer(req, http.StatusOK, "", nil), nil })
			cfg.SAS, cfg.identity = "", busyIdentity(status)
			b, err := newBucket(cfg)
			if err != nil {
				t.Fatal(err)
			}
			_, err = b.Stat(t.Context(), "k")
			wantError(t, http.StatusText(status), err, want, "provides no identity that works")
		})
	}
}

// TestNoIdentity checks that the error names the field for a credential.
func TestNoIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := fakeConfig(func(req *http.Request) (*http.Response, error) { return answer(req, http.StatusOK, "", nil), nil })
		cfg.SAS, cfg.identity = "", noIdentity{}
		_, err := Open(t.Context(), cfg)
		wantError(t, "Open without an identity", err, drivers.ErrRefused, "azure.Config.SharedKey")
	})
}

// wantError fails the test unless err wraps want and contains the text, in one
// line. If want is nil, err must make no claim.
func wantError(t *testing.T, what string, err, want error, text string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s = nil, want an error", what)
	case want == nil && (claims(err) || errors.Is(err, drivers.ErrBusy) || errors.Is(err, drivers.ErrRefused)):
		t.Errorf("%s = %v, want an error that makes no claim", what, err)
	case want != nil && !errors.Is(err, want):
		t.Errorf("%s = %v, want %v", what, err, want)
	case !strings.Contains(err.Error(), text):
		t.Errorf("%s = %v, want %q in it", what, err, text)
	case strings.Contains(err.Error(), "\n"):
		t.Errorf("%s = %v, want one line", what, err)
	}
}

// testOpenNamesField opens a server with one wrong field, which the error must
// name.
func testOpenNamesField(t *testing.T, good Config) {
	server := good.Transport
	for name, test := range map[string]struct {
		change func(*Config)
		text   string
	}{
		"another container": {func(c *Config) { c.Container = "another" }, "azure.Config.Container"},
		"another key":       {func(c *Config) { c.SharedKey = "AAAA" + c.SharedKey[4:] }, "azure.Config.SharedKey"},
		"another account":   {func(c *Config) { c.Account = "another" }, "azure.Config.SharedKey"},
		"a SAS that was changed": {func(c *Config) {
			c.SAS, c.SharedKey = strings.Replace(containerSAS(t, *c), "sp=racwdl", "sp=racwdlf", 1), ""
		}, "azure.Config.SAS"},
		"a SAS that cannot write": {func(c *Config) { c.SAS, c.SharedKey = readSAS(t, *c), "" }, "racwdl of azure.Config.SAS"},
		"a SAS that has expired": {func(c *Config) {
			c.SAS, c.SharedKey = expiringSAS(t, *c, time.Now().Add(-time.Minute)), ""
		}, "azure.Config.SAS: it expired at 20"},
		"a tier that the account lacks": {func(c *Config) {
			c.AccessTier = "Cold"
			c.Transport = wire(func(req *http.Request) (*http.Response, error) {
				for name := range req.Header { // the SDK's names are not canonical
					if strings.EqualFold(name, "x-ms-access-tier") {
						return answer(req, http.StatusBadRequest, "BlobAccessTierNotSupportedForAccountType", nil), nil
					}
				}
				return server.RoundTrip(req)
			})
		}, "azure.Config.AccessTier"},
		"If-None-Match is ignored": {func(c *Config) {
			c.SAS, c.SharedKey = containerSAS(t, *c), ""
			c.Transport = without("If-None-Match", http.MethodPut, server)
		}, "ignores If-None-Match: * on Put Blob (create-only)"},
		"If-Match is ignored by writes": {func(c *Config) {
			c.SAS, c.SharedKey = containerSAS(t, *c), ""
			c.Transport = without("If-Match", http.MethodPut, server)
		}, "ignores If-Match on Put Blob (compare-and-swap)"},
		"If-Match is ignored by deletes": {func(c *Config) {
			c.SAS, c.SharedKey = containerSAS(t, *c), ""
			c.Transport = without("If-Match", http.MethodDelete, server)
		}, "ignores If-Match on Delete Blob"},
		"directories are blobs": {func(c *Config) {
			c.Transport = wire(func(req *http.Request) (*http.Response, error) {
				if strings.HasSuffix(req.URL.Path, "/"+drivers.PartsPrefix+"probe") {
					return answer(req, http.StatusOK, "", http.Header{"Content-Length": {"0"}}), nil
				}
				return server.RoundTrip(req)
			})
		}, "hierarchical namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			test.change(&cfg)
			_, err := Open(t.Context(), cfg)
			if err == nil || claims(err) || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Open with %s = %v, want a line with %q", name, err, test.text)
			}
		})
	}
	b := open(t, good)
	for o, err := range b.List(t.Context(), "", "", 0) {
		t.Errorf("Open left %+v, %v", o, err)
	}
}

// TestSASExpired has the service's answers to requests with an expired SAS: that
// the SAS is refused, which Azurite reports as AuthorizationFailure, and that a
// permission is missing.
func TestSASExpired(t *testing.T) {
	for code, text := range map[string]string{
		"AuthenticationFailed":            "azure.Config.SAS: it expired at 2026-01-02T03:04:00Z",
		"AuthorizationPermissionMismatch": "racwdl of azure.Config.SAS",
	} {
		cfg := fakeConfig(func(req *http.Request) (*http.Response, error) {
			return answer(req, http.StatusForbidden, code, nil), nil
		})
		cfg.SAS = "sv=1&se=2026-01-02T03%3A04Z&sig=SIGNATURE"
		b, err := newBucket(cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.Stat(t.Context(), "k")
		wantError(t, code, err, drivers.ErrRefused, text)
	}
}

// testSASExpires has a SAS that expires while the bucket is open. Only one request
// comes before that, so that a slow machine has time for it.
func testSASExpires(t *testing.T, cfg Config) {
	expires := time.Now().Add(11 * time.Second).Truncate(time.Second)
	cfg.SAS, cfg.SharedKey = expiringSAS(t, cfg, expires), ""
	b, err := newBucket(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	body := drivers.NewBody([]byte("text"))
	if _, err := b.Create(t.Context(), "k", body); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(expires) + time.Second)
	_, _, opened := b.Open(t.Context(), "k", 0, -1)
	_, stat := b.Stat(t.Context(), "k")
	_, created := b.Create(t.Context(), "l", body)
	for call, err := range map[string]error{"Open": opened, "Stat": stat, "Create": created, "Delete": b.Delete(t.Context(), "k")} {
		wantError(t, call+" with a SAS that has expired", err, drivers.ErrRefused, "azure.Config.SAS: it expired at "+expires.UTC().Format(time.RFC3339))
	}
	for _, err := range b.List(t.Context(), "", "", 0) {
		wantError(t, "List with a SAS that has expired", err, drivers.ErrRefused, "azure.Config.SAS")
	}
}

// without returns a transport to a server that ignores a condition.
func without(header, method string, server http.RoundTripper) wire {
	return func(req *http.Request) (*http.Response, error) {
		if req.Method == method {
			req.Header.Del(header)
		}
		return server.RoundTrip(req)
	}
}

// TestDown opens a store that is down.
func TestDown(t *testing.T) {
	cfg := fakeConfig(nil)
	cfg.Transport, cfg.Endpoint = nil, "http://127.0.0.1:1/account"
	_, err := Open(t.Context(), cfg)
	wantError(t, "Open", err, drivers.ErrBusy, "azure.Config.Endpoint: store is busy: 127.0.0.1:1")
}

// TestReadBreaksOff has a connection that breaks in the middle of a blob.
func TestReadBreaksOff(t *testing.T) {
	b := fake(t, func(req *http.Request) (*http.Response, error) {
		resp := answer(req, http.StatusOK, "", http.Header{"Content-Length": {"13"}, "Etag": {`"0x1"`}})
		resp.Body = io.NopCloser(io.MultiReader(strings.NewReader("a long"), iotest.ErrReader(io.ErrUnexpectedEOF)))
		return resp, nil
	})
	r, _, err := b.Open(t.Context(), "k", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = io.ReadAll(r)
	wantError(t, "read", err, drivers.ErrBusy, "broke off")
}
