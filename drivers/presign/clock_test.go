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

// store answers with its own time, after half of took, and is ahead of this
// machine by ahead.
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

// answers has a store answer n times, at times that are no whole seconds.
func answers(t *testing.T, c *Clock, s *store, n int) {
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

// TestClockSkew has stores whose clocks are apart from this machine's.
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
		{60 * minute, 2 * minute, 0}, // who knows when it looked at its clock
	} {
		synctest.Test(t, func(t *testing.T) {
			c := NewClock(nil)
			answers(t, c, &store{ahead: test.ahead, took: test.took}, 5)
			if got := c.Skew(); got != test.want {
				t.Errorf("of a store that is %v ahead and takes %v to answer: Skew() = %v, want %v", test.ahead, test.took, got, test.want)
			}
			if now := c.Now(); time.Until(now) != test.want || !c.Local(now).Equal(time.Now()) {
				t.Errorf("Now() is %v ahead, and Local(Now()) is %v from now, want %v, 0", time.Until(now), time.Until(c.Local(now)), test.want)
			}
		})
	}
}

// TestClockStays: what wanders about a minute's boundary, and answers that are
// not the store's, change nothing; a clock that is set does, and is logged once.
func TestClockStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := NewClock(slog.New(slog.NewTextHandler(&log, nil)))
		wants := func(want time.Duration, lines int) {
			t.Helper()
			if got, n := c.Skew(), strings.Count(log.String(), "\n"); got != want || n != lines {
				t.Errorf("Skew() = %v after %d lines of log, want %v, %d:\n%s", got, n, want, lines, log.String())
			}
		}
		answers(t, c, &store{ahead: time.Hour, header: http.Header{"Age": {"60"}}}, 5)
		for range 5 { // others on the way, now and then
			answers(t, c, &store{ahead: time.Hour}, skewAnswers-1)
			answers(t, c, &store{}, 1)
		}
		answers(t, c, &store{ahead: time.Hour}, 1)
		answers(t, c, &store{ahead: -time.Hour}, 1)
		answers(t, c, &store{ahead: time.Hour}, 1)
		answers(t, c, &store{}, 1)
		wants(0, 0)

		answers(t, c, &store{ahead: 30*time.Minute + 29*time.Second}, 10)
		wants(30*time.Minute, 1)
		for _, ahead := range []time.Duration{30*time.Minute + 31*time.Second, 29*time.Minute + 10*time.Second, 30*time.Minute + 58*time.Second} {
			answers(t, c, &store{ahead: ahead}, 10)
		}
		wants(30*time.Minute, 1)
		answers(t, c, &store{ahead: 31*time.Minute + 5*time.Second}, 10)
		wants(31*time.Minute, 2)
		answers(t, c, &store{ahead: 40 * time.Second}, 10)
		wants(0, 3)
	})
}

// TestClockNone: a driver without a store's clock has this machine's.
func TestClockNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *Clock
		if now := time.Now(); !c.Now().Equal(now) || !c.Local(now).Equal(now) || c.Skew() != 0 {
			t.Errorf("a nil Clock is %v ahead of this machine", c.Skew())
		}
	})
}
