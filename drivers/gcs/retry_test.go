package gcs

import (
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/drivers"
)

func readAll(r *http.Request) string {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// TestBusy has a store refuse, for a time and for ever.
func TestBusy(t *testing.T) {
	for _, c := range []struct {
		status, times int
		want          error
	}{
		{http.StatusTooManyRequests, 2, nil},
		{http.StatusTooManyRequests, 1000, drivers.ErrBusy},
		{http.StatusServiceUnavailable, 2, nil},
		{http.StatusServiceUnavailable, 1000, drivers.ErrBusy},
		{0, 1000, drivers.ErrBusy}, // nobody listens
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			b := openUnprobed(t, Config{Endpoint: "http://gcs.example", Transport: transport(func(r *http.Request) (*http.Response, error) {
				if r.Body != nil {
					readAll(r)
				}
				asked++
				switch {
				case asked > c.times:
					return answer(r, http.StatusOK, map[string]string{"generation": "7", "size": "1", "updated": "2026-01-02T03:04:05Z"})
				case c.status == 0:
					return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
				}
				return answer(r, c.status, "no")
			})})
			for name, call := range map[string]func() error{
				"Replace": func() error { _, err := b.Replace(t.Context(), "k", "5", drivers.NewBody([]byte("x"))); return err },
				"Stat":    func() error { _, err := b.Stat(t.Context(), "k"); return err },
				"Delete":  func() error { return b.Delete(t.Context(), "k") },
			} {
				asked = 0
				began := time.Now()
				err := call()
				if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
					t.Errorf("%s while the store answers %d %d times = %v, want %v", name, c.status, c.times, err, c.want)
				}
				if want := min(c.times+1, attempts); asked != want {
					t.Errorf("%s while the store answers %d %d times made %d requests, want %d", name, c.status, c.times, asked, want)
				}
				if d := time.Since(began); d > time.Minute {
					t.Errorf("%s took %v", name, d)
				}
			}
		})
	}
}
