package deadline

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
)

// TestElapsedByEitherClock checks that the age of a request is the larger of its
// ages by the monotonic clock and by the wall clock.
func TestElapsedByEitherClock(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct {
		what            string
		monotonic, wall time.Duration // since it started
		near, over      bool
	}{
		{"just started", 0, 0, false, false},
		{"near its end", 358 * time.Minute, 358 * time.Minute, true, false},
		{"over", 7 * time.Hour, 7 * time.Hour, true, true},
		{"suspended until it is near its end", time.Minute, 358 * time.Minute, true, false},
		{"suspended until it is over", time.Minute, 7 * time.Hour, true, true},
		{"near its end, and the clock was set back", 358 * time.Minute, -time.Hour, true, false},
		{"over, and the clock was set back", 7 * time.Hour, -time.Hour, true, true},
	} {
		d := Deadline{start: now.Add(-tc.monotonic), wall: now.Add(-tc.wall).Round(0), max: 6 * time.Hour}
		if got := d.IsNear(); got != tc.near {
			t.Errorf("%s: IsNear() = %v, want %v", tc.what, got, tc.near)
		}
		if err := d.Check(); errors.Is(err, drivers.ErrBusy) != tc.over || !tc.over && err != nil {
			t.Errorf("%s: Check() = %v, want an error: %v", tc.what, err, tc.over)
		}
	}
	if d := New(6 * time.Hour); !strings.Contains(d.start.String(), " m=") || strings.Contains(d.wall.String(), " m=") || !d.wall.Equal(d.start) {
		t.Errorf("New() starts at %v and %v, want the same moment by both clocks", d.start, d.wall)
	}
}
