package s3

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers/drivertest/s3double"
)

// TestProbeAtomic opens stores that check a condition in one step and write in
// another. Sequential writes do not show it.
func TestProbeAtomic(t *testing.T) {
	t.Parallel()
	const gap = 200 * time.Millisecond
	for name, test := range map[string]struct {
		knobs s3double.Knobs
		want  string // in the error, or empty if Open succeeds
	}{
		"slow, with one lock":  {s3double.Knobs{Delay: 2 * time.Millisecond}, ""},
		"no lock":              {s3double.Knobs{Locks: s3double.None, Delay: gap}, "does not keep to If-None-Match: *"},
		"no lock for replaces": {s3double.Knobs{Locks: s3double.NoneForReplaces, Delay: gap}, "does not keep to If-Match"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := s3double.New(t, test.knobs)
			cfg := newBucketOfDouble(s)
			b, err := Open(t.Context(), cfg)
			switch {
			case test.want != "":
				wantText(t, err, test.want, "Open")
				wantNoClaim(t, err, "Open")
			case err != nil:
				t.Errorf("Open() = %v", err)
			default:
				b.Close()
			}
			wantNothingLeft(t, s, cfg.Bucket, "Open")
		})
	}
}

// TestProbeBusyRaces opens a store that is busy for the first writers of each
// race, like Cloudflare R2, and a store that loses responses.
func TestProbeBusyRaces(t *testing.T) {
	t.Parallel()
	t.Run("busy", func(t *testing.T) {
		t.Parallel()
		proxy, cfg := newProxy(t)
		var mu sync.Mutex
		writes := make(map[string]int)
		proxy.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if operation(r) != "PutObject" || !strings.Contains(r.URL.Path, "race-") {
				return false
			}
			mu.Lock()
			defer mu.Unlock()
			writes[r.URL.Path]++
			return writes[r.URL.Path] <= raceWriters && refuse(w, http.StatusTooManyRequests, "TooManyRequests")
		})
		openBucket(t, cfg)
	})
	t.Run("lost responses", func(t *testing.T) {
		t.Parallel()
		proxy, cfg := newProxy(t)
		proxy.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			return operation(r) == "PutObject" && strings.HasSuffix(r.URL.Path, "race-0") && proxy.dropResponse(w, r)
		})
		openBucket(t, cfg)
	})
}
