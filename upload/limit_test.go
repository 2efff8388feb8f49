package upload

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// TestLimitByEitherClock: a request is as old as that clock says by which it is
// older.
func TestLimitByEitherClock(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct {
		what            string
		monotonic, wall time.Duration // since it began
		near, over      bool
	}{
		{"just begun", 0, 0, false, false},
		{"near its end", 358 * time.Minute, 358 * time.Minute, true, false},
		{"over", 7 * time.Hour, 7 * time.Hour, true, true},
		{"suspended until it is near its end", time.Minute, 358 * time.Minute, true, false},
		{"suspended until it is over", time.Minute, 7 * time.Hour, true, true},
		{"near its end, and the clock was set back", 358 * time.Minute, -time.Hour, true, false},
		{"over, and the clock was set back", 7 * time.Hour, -time.Hour, true, true},
	} {
		l := Limit{start: now.Add(-tc.monotonic), wall: now.Add(-tc.wall).Round(0), max: 6 * time.Hour}
		if got := l.IsNear(); got != tc.near {
			t.Errorf("%s: IsNear() = %v, want %v", tc.what, got, tc.near)
		}
		if err := l.Check(); errors.Is(err, drivers.ErrBusy) != tc.over || !tc.over && err != nil {
			t.Errorf("%s: Check() = %v, want an error: %v", tc.what, err, tc.over)
		}
	}
	if l := NewLimit(6 * time.Hour); !strings.Contains(l.start.String(), " m=") || strings.Contains(l.wall.String(), " m=") || !l.wall.Equal(l.start) {
		t.Errorf("NewLimit() begins at %v and %v, want one moment by both clocks", l.start, l.wall)
	}
}

// TestEndlessBodyIsKept: a body that still comes near the end of the request's
// time is ended while what came can be recorded.
func TestEndlessBodyIsKept(t *testing.T) {
	for name, habits := range map[string]membucket.Habits{"S3": smallS3(), "directory": streaming()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := replica(t, &membucket.Store{Habits: habits}, nil)
				data := randomBytes(20, 200*kiB)
				began := time.Now()
				s := receive(t.Context(), m, newSlowBody(data, 500, time.Minute))
				<-s.done
				if d := time.Since(began); d >= m.cfg.RequestLimit {
					t.Errorf("it was ended after %v, want less than %v", d, m.cfg.RequestLimit)
				}
				if !errors.Is(s.err, ErrCut) || s.kept != nil || s.size == 0 {
					t.Fatalf("ReadFrom = %v, Suspend = %v at %d, want %v and bytes that are kept", s.err, s.kept, s.size, ErrCut)
				}
				wantCommit(t, m, s.next, data[s.size:], data)
				wantIdle(t, m)
			})
		})
	}
}

// TestNothingIsCompletedTooLate: the last part takes so long that the request's
// time is over. It completes nothing then; the same request sent again does.
func TestNothingIsCompletedTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counter := &drivertest.Counter{}
		slow := false
		m := replica(t, &membucket.Store{Habits: smallS3()}, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			if slow && c.Method == "PutPart" {
				time.Sleep(6 * time.Minute)
			}
			return counter.Intercept(ctx, c, do)
		}, func(c *Config) { c.RequestLimit = 5 * time.Minute })
		data := randomBytes(21, 300*kiB)
		tok := patch(t, m, m.Start("r", digest.SHA256), data)
		counter.Reset()
		slow = true
		if _, err := commit(t.Context(), m, tok, nil, data); !errors.Is(err, drivers.ErrBusy) {
			t.Errorf("commit whose last part came too late = %v, want %v", err, drivers.ErrBusy)
		}
		if calls := counter.ByMethod(); calls["PutPart"] != 1 || calls["Complete"] != 0 {
			t.Errorf("it made the calls %v, want one PutPart and no Complete", calls)
		}
		slow = false
		wantCommit(t, m, tok, nil, data)
		wantIdle(t, m)
	})
}
