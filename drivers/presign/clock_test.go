package presign

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// store is a store with a clock that is ahead of this machine's. Its response takes
// some time, and has the time in the middle of that.
type store struct {
	ahead, took time.Duration
	header      http.Header
}

func (s *store) RoundTrip(*http.Request) (*http.Response, error) {
	time.Sleep(s.took / 2)
	header := s.header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	header.Set("Date", time.Now().Add(s.ahead).UTC().Format(http.TimeFormat))
	time.Sleep(s.took / 2)
	return &http.Response{StatusCode: http.StatusOK, Header: header, Body: http.NoBody}, nil
}

// respond has a store respond n times, not at whole seconds.
func respond(t *testing.T, c *Clock, s *store, n int) {
	t.Helper()
	rt := c.Watch(s)
	for range n {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://store", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		time.Sleep(373 * time.Millisecond)
	}
}

// TestClockSkew has stores with clocks that differ from this machine's.
func TestClockSkew(t *testing.T) {
	const minute = time.Minute
	for _, test := range []struct{ ahead, took, want time.Duration }{
		{0, 0, 0},
		{minute - 2*time.Second, time.Second, 0},
		{-minute + 2*time.Second, time.Second, 0},
		{60 * minute, 100 * time.Millisecond, 60 * minute},
		{-60 * minute, 100 * time.Millisecond, -60 * minute},
		{10*minute + 20*time.Second, 10 * time.Second, 10 * minute},
		{10*minute + 40*time.Second, 10 * time.Second, 11 * minute},
		{60 * minute, 2 * minute, 0}, // too slow to measure
	} {
		synctest.Test(t, func(t *testing.T) {
			c := NewClock(nil)
			respond(t, c, &store{ahead: test.ahead, took: test.took}, 5)
			if got := c.Skew(); got != test.want {
				t.Errorf("Skew() of a store that is %v ahead and responds in %v = %v, want %v", test.ahead, test.took, got, test.want)
			}
			if now := c.Now(); time.Until(now) != test.want || !c.Local(now).Equal(time.Now()) {
				t.Errorf("Now() is %v ahead, and Local(Now()) %v, want %v and 0", time.Until(now), time.Until(c.Local(now)), test.want)
			}
		})
	}
}

// TestClockChanges checks that a skew that varies around the middle of a minute, and
// responses of caches and proxies, do not change the clock. A larger change does,
// and is logged once.
func TestClockChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := NewClock(slog.New(slog.NewTextHandler(&log, nil)))
		check := func(want time.Duration, lines int) {
			t.Helper()
			if got, n := c.Skew(), strings.Count(log.String(), "\n"); got != want || n != lines {
				t.Errorf("Skew() = %v with %d lines of log, want %v with %d:\n%s", got, n, want, lines, log.String())
			}
		}
		respond(t, c, &store{ahead: time.Hour, header: http.Header{"Age": {"60"}}}, 5)
		for range 5 { // responses of proxies, now and then
			respond(t, c, &store{ahead: time.Hour}, skewResponses-1)
			respond(t, c, &store{}, 1)
		}
		respond(t, c, &store{ahead: time.Hour}, 1)
		respond(t, c, &store{ahead: -time.Hour}, 1)
		respond(t, c, &store{ahead: time.Hour}, 1)
		respond(t, c, &store{}, 1)
		check(0, 0)

		respond(t, c, &store{ahead: 30*time.Minute + 29*time.Second}, 10)
		check(30*time.Minute, 1)
		for _, ahead := range []time.Duration{30*time.Minute + 31*time.Second, 29*time.Minute + 10*time.Second, 30*time.Minute + 58*time.Second} {
			respond(t, c, &store{ahead: ahead}, 10)
		}
		check(30*time.Minute, 1)
		respond(t, c, &store{ahead: 31*time.Minute + 5*time.Second}, 10)
		check(31*time.Minute, 2)
		respond(t, c, &store{ahead: 40 * time.Second}, 10)
		check(0, 3)
	})
}

// TestNilClock checks that a nil Clock is this machine's.
func TestNilClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *Clock
		if now := time.Now(); !c.Now().Equal(now) || !c.Local(now).Equal(now) || c.Skew() != 0 {
			t.Errorf("Skew() of a nil Clock = %v, want 0", c.Skew())
		}
	})
}
