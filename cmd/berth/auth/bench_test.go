package auth

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/cmd/berth/policy"
)

// BenchmarkAuthenticatedHead measures HEAD of a blob, and GET that is redirected, without
// authentication, and by callers with a token or a password under rules. cpu-us/op is the
// processor time of net/http, the handler and a client that does very little.
func BenchmarkAuthenticatedHead(b *testing.B) {
	cfg := Config{Kind: HTPasswd, Service: signs, HTPasswd: HTPasswdConfig{htpasswd(b, "alice")}}
	for i := range 10 {
		cfg.Policy.Rules = append(cfg.Policy.Rules, policy.Rule{Users: []string{fmt.Sprint("user", i)}, Repositories: []string{"team/**"}, Actions: []string{"pull", "push"}})
	}
	cfg.Policy.Rules = append(cfg.Policy.Rules, policy.Rule{Users: []string{"*"}, Repositories: []string{"library/*"}, Actions: []string{"pull"}})
	g := newRig(b, cfg)
	content := strings.Repeat("long enough not to be inline ", 1000)
	target := "/v2/library/x/blobs/"
	d := digest.FromString(content).String()
	w := httptest.NewRecorder()
	g.open.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), "POST", target+"uploads/?digest="+d, strings.NewReader(content)))
	if w.Code != http.StatusCreated {
		b.Fatalf("POST = %d, want 201", w.Code)
	}
	alice := password("alice", "alice-pw")
	for _, c := range []struct {
		name    string
		handler http.Handler
		with    credentials
	}{
		{"anonymous", g.open, nobody},
		{"token", g.handler, g.login(alice, "repository:library/x:pull,push")},
		{"password", g.handler, alice},
	} {
		b.Run("HEAD/"+c.name, func(b *testing.B) { benchmark(b, c.handler, "HEAD", target+d, c.with, http.StatusOK) })
		b.Run("GET/"+c.name, func(b *testing.B) {
			benchmark(b, c.handler, "GET", target+d, c.with, http.StatusTemporaryRedirect)
		})
	}
}

func benchmark(b *testing.B, h http.Handler, method, target string, with credentials, status int) {
	s := httptest.NewServer(h)
	defer s.Close()
	conn, err := new(net.Dialer).DialContext(b.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	r := httptest.NewRequestWithContext(b.Context(), method, target, nil)
	with(r)
	var request strings.Builder
	if err := r.Write(&request); err != nil {
		b.Fatal(err)
	}
	want := fmt.Sprintf("HTTP/1.1 %d ", status)
	response := bufio.NewReader(conn)
	start := processorTime(b)
	for b.Loop() {
		if _, err := conn.Write([]byte(request.String())); err != nil {
			b.Fatal(err)
		}
		line, err := response.ReadSlice('\n')
		if err != nil || !strings.HasPrefix(string(line), want) {
			b.Fatalf("status line %q, %v, want %q", line, err, want)
		}
		length := 0
		for len(line) > len("\r\n") {
			if line, err = response.ReadSlice('\n'); err != nil {
				b.Fatal(err)
			}
			if method == http.MethodGet {
				_, _ = fmt.Sscanf(string(line), "Content-Length: %d", &length)
			}
		}
		if _, err := response.Discard(length); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((processorTime(b)-start).Microseconds())/float64(b.N), "cpu-us/op")
}

// processorTime returns the processor time that this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
