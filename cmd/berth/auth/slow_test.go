package auth

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/blobstore/ocihttp/ocihttptest"
)

// A client that does not send its form gets an answer, and does not hold a connection for
// hours.
func TestSlowForm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, ownConfig(t))
		l := ocihttptest.NewPipes()
		s := &http.Server{Handler: g.handler}
		go func() { _ = s.Serve(l) }()
		defer func() { _ = s.Close() }()
		conn := l.Dial()
		defer conn.Close()
		start := time.Now()
		head := "POST " + TokenPath + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ngrant"
		if _, err := conn.Write([]byte(head)); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 400") || time.Since(start) > formTimeout+time.Second {
			t.Errorf("after %v: %q, %v, want 400 after %v", time.Since(start), line, err, formTimeout)
		}
	})
}

// Requests that are too large or malformed are refused before anything is compared.
func TestLargeCredentials(t *testing.T) {
	g := newRig(t, ownConfig(t))
	long := strings.Repeat("x", maxCredential+1)
	for range 2 * failureBurst { // none of them counts as a failure
		for _, c := range []credentials{password(long, "x"), password("alice", long), token(strings.Repeat("x", maxToken+1))} {
			if w := g.send("GET", "/v2/", "", c); w.Code != http.StatusUnauthorized {
				t.Fatalf("large credentials = %d, want 401", w.Code)
			}
		}
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/v2/", nil)
	r.Header.Set("Authorization", "")
	g.handler.ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("an empty header = %d, want 401", w.Code)
	}
}
