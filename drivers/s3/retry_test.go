package s3

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
)

// TestRetries counts the requests to a store that is always busy.
func TestRetries(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ retries, want int }{{-1, 1}, {0, 1 + defaultRetries}, {1, 2}} {
		t.Run(fmt.Sprint(test.retries), func(t *testing.T) {
			t.Parallel()
			proxy, cfg := newProxy(t)
			cfg.Retries = test.retries
			b := openBucket(t, cfg)
			proxy.intercept(refuseAll("", http.StatusServiceUnavailable, "SlowDown"))
			_, err := b.Create(t.Context(), "k", textBody("text"))
			wantBusy(t, err, "Create")
			if got := len(proxy.operations()); got != test.want {
				t.Errorf("Create with Retries %d sends %d requests, want %d", test.retries, got, test.want)
			}
		})
	}
}

// TestRetriesOfMany checks that concurrent requests do not reduce how often one
// request is retried.
func TestRetriesOfMany(t *testing.T) {
	r := (&Config{}).retryer()
	for n := range 1000 {
		if _, err := r.GetRetryToken(t.Context(), errors.New("busy")); err != nil {
			t.Fatalf("GetRetryToken after %d retries = %v", n, err)
		}
	}
}

// TestRetriesOfKMS checks that a request is retried if the key management service
// throttles.
func TestRetriesOfKMS(t *testing.T) {
	r := (&Config{}).retryer()
	for code, want := range map[string]bool{"KMS.ThrottlingException": true, "KMS.DisabledException": false} {
		if got := r.IsErrorRetryable(answered(400, code, "")); got != want {
			t.Errorf("IsErrorRetryable(%s) = %t, want %t", code, got, want)
		}
	}
}
