package gcs

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/drivers"
)

// readAll returns the body of a request.
func readAll(r *http.Request) string {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// TestBusy has a store that refuses each request, the first two times or always.
func TestBusy(t *testing.T) {
	for _, c := range []struct {
		status, times int
		want          error
	}{
		{http.StatusTooManyRequests, 2, nil},
		{http.StatusTooManyRequests, 1000, drivers.ErrBusy},
		{http.StatusServiceUnavailable, 2, nil},
		{http.StatusServiceUnavailable, 1000, drivers.ErrBusy},
		{http.StatusInsufficientStorage, 1000, drivers.ErrFull},
		{0, 1000, drivers.ErrBusy}, // no listener
		{-1, 2, nil},               // the connection ends before the answer
		{-1, 1000, drivers.ErrBusy},
		{-2, 2, nil}, // no answer in time
		{-2, 1000, drivers.ErrBusy},
		{-3, 2, nil}, // the name server is down
		{-3, 1000, drivers.ErrBusy},
	} {
		synctest.Test(t, func(t *testing.T) {
			requests := 0
			b := openUnprobed(t, Config{Endpoint: "http://gcs.example", Transport: transport(func(r *http.Request) (*http.Response, error) {
				if r.Body != nil {
					readAll(r)
				}
				requests++
				switch {
				case requests > c.times:
					return answer(r, http.StatusOK, map[string]string{"generation": "7", "size": "1", "updated": "2026-01-02T03:04:05Z"})
				case c.status == 0:
					return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
				case c.status == -1:
					return nil, io.EOF
				case c.status == -2:
					return nil, tooLate{}
				case c.status == -3:
					return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "server misbehaving", IsTemporary: true}}
				}
				return answer(r, c.status, "no")
			})})
			for name, call := range map[string]func() error{
				"Replace": func() error { _, err := b.Replace(t.Context(), "k", "5", drivers.NewBody([]byte("x"))); return err },
				"Stat":    func() error { _, err := b.Stat(t.Context(), "k"); return err },
				"Delete":  func() error { return b.Delete(t.Context(), "k") },
			} {
				requests = 0
				start := time.Now()
				err := call()
				if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("%s while the store answers %d %d times = %v, want %v", name, c.status, c.times, err, c.want)
				}
				if want := min(c.times+1, attempts); requests != want {
					t.Errorf("%s while the store answers %d %d times sent %d requests, want %d", name, c.status, c.times, requests, want)
				}
				if d := time.Since(start); d > time.Minute {
					t.Errorf("%s took %v, want at most a minute", name, d)
				}
			}
		})
	}
}

// TestRefused has a store that refuses this process. There is one request, and the
// error names the field to change.
func TestRefused(t *testing.T) {
	for field, refuse := range map[string]func(*http.Request) (*http.Response, error){
		"gcs.Config.CredentialsFile: the Application Default Credentials are not accepted": func(r *http.Request) (*http.Response, error) {
			return answer(r, http.StatusUnauthorized, "no")
		},
		"gcs.Config.CredentialsFile: the Application Default Credentials are denied": func(r *http.Request) (*http.Response, error) {
			return answer(r, http.StatusForbidden, "no")
		},
		"gcs.Config.Bucket: bucket": func(*http.Request) (*http.Response, error) { return nil, errNoBucket },
		"gcs.Config.Endpoint: the host": func(*http.Request) (*http.Response, error) {
			return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
		},
	} {
		requests := 0
		b := openUnprobed(t, Config{Endpoint: "http://gcs.example", Transport: transport(func(r *http.Request) (*http.Response, error) {
			if r.Body != nil {
				readAll(r)
			}
			requests++
			return refuse(r)
		})})
		if _, err := b.Stat(t.Context(), "k"); !errors.Is(err, drivers.ErrRefused) || !strings.Contains(err.Error(), field) || requests != 1 {
			t.Errorf("Stat = %v after %d requests, want %v after 1, with %q", err, requests, drivers.ErrRefused, field)
		}
	}
}

// tooLate is the error of an http.Transport after a timeout.
type tooLate struct{}

func (tooLate) Error() string   { return "timeout awaiting response headers" }
func (tooLate) Timeout() bool   { return true }
func (tooLate) Temporary() bool { return true }

// TestTransport checks that a request that hangs ends even without a deadline.
func TestTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer server.Close()
		go io.Copy(io.Discard, server) //nolint:errcheck // the server never responds
		tr, ok := newTransport().(*http.Transport)
		if !ok {
			t.Fatal("newTransport does not return an *http.Transport")
		}
		defer tr.CloseIdleConnections()
		tr.DialContext = func(context.Context, string, string) (net.Conn, error) { return client, nil }
		start := time.Now()
		_, err := (&http.Client{Transport: tr}).Get("http://gcs.example/")
		if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() || !errors.Is(claim(err, nil), drivers.ErrBusy) {
			t.Errorf("GET from a store that never responds = %v, want a timeout that is %v", err, drivers.ErrBusy)
		}
		if d := time.Since(start); d > 5*time.Minute {
			t.Errorf("GET took %v, want at most 5 minutes", d)
		}
	})
}

// TestHalfHeader has a connection that breaks in the middle of a response's header.
func TestHalfHeader(t *testing.T) {
	for _, half := range []string{"HTTP/1.1", "HTTP/1.1 200 OK\r\nContent-Le"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if _, err := io.WriteString(c, half); err != nil {
				t.Error(err)
			}
		}))
		_, err := http.Get(server.URL)
		server.Close()
		if err == nil {
			t.Fatalf("GET of %q succeeds", half)
		}
		b := openUnprobed(t, Config{Endpoint: "http://gcs.example", Transport: transport(func(*http.Request) (*http.Response, error) {
			return nil, errors.Unwrap(err) // the error as a transport returns it
		})})
		if _, err := b.Stat(t.Context(), "k"); !errors.Is(err, drivers.ErrBusy) {
			t.Errorf("Stat after %q = %v, want %v", half, err, drivers.ErrBusy)
		}
		r, _, err := b.Open(t.Context(), "k", 0, -1)
		if err == nil {
			r.Close()
		}
		if !errors.Is(err, drivers.ErrBusy) {
			t.Errorf("Open after %q = %v, want %v", half, err, drivers.ErrBusy)
		}
	}
}

// TestRetriedWriteIsRefused has a store that refuses the second attempt of a write by
// its condition. If the first one may have taken effect, the error shows it.
func TestRetriedWriteIsRefused(t *testing.T) {
	for _, c := range []struct {
		first int // status, or 0 for no answer
		want  bool
	}{{http.StatusTooManyRequests, false}, {http.StatusServiceUnavailable, true}, {0, true}} {
		for _, second := range []int{http.StatusPreconditionFailed, http.StatusNotFound} {
			synctest.Test(t, func(t *testing.T) {
				requests := 0
				b := openUnprobed(t, Config{Endpoint: "http://gcs.example", Transport: transport(func(r *http.Request) (*http.Response, error) {
					if r.Body != nil {
						readAll(r)
					}
					requests++
					switch {
					case requests > 2: // what a deletion reads after a conflict
						return answer(r, http.StatusOK, map[string]string{"generation": "7", "size": "1", "updated": "2026-01-02T03:04:05Z"})
					case requests == 2:
						return answer(r, second, "no")
					case c.first == 0:
						return nil, io.EOF
					}
					return answer(r, c.first, "no")
				})})
				for name, call := range map[string]struct {
					do     func() error
					status int // the second answer that it may get
					want   error
				}{
					"Create":   {func() error { _, err := b.Create(t.Context(), "k", drivers.NewBody([]byte("x"))); return err }, http.StatusPreconditionFailed, drivers.ErrExists},
					"Replace":  {func() error { _, err := b.Replace(t.Context(), "k", "5", drivers.NewBody([]byte("x"))); return err }, second, drivers.ErrChanged},
					"DeleteIf": {func() error { return b.DeleteIf(t.Context(), "k", "5") }, http.StatusPreconditionFailed, drivers.ErrChanged},
				} {
					if call.status != second {
						continue
					}
					requests = 0
					if err := call.do(); !errors.Is(err, call.want) || errors.Is(err, drivers.ErrNotFound) || errors.Is(err, drivers.ErrUnanswered) != c.want {
						t.Errorf("%s, answered %d and then %d = %v, want %v, and ErrUnanswered: %v", name, c.first, second, err, call.want, c.want)
					}
				}
			})
		}
	}
}
