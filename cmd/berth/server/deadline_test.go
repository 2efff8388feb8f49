package server

import (
	"net/http"
	"testing"
	"time"
)

// TestResponseDeadlineOfHandler checks that all writes of a response end by the deadline
// that its handler has set, which does not extend the time of the request.
func TestResponseDeadlineOfHandler(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ set, want time.Duration }{{time.Minute, time.Minute}, {24 * time.Hour, stretchTimeout}} {
		start := time.Now()
		c := serveOn(t, time.Hour, func(w http.ResponseWriter, _ *http.Request) {
			if err := http.NewResponseController(w).SetWriteDeadline(start.Add(tt.set)); err != nil {
				t.Errorf("SetWriteDeadline: %v", err)
			}
			_, _ = w.Write(make([]byte, 3*stretch))
		})
		c.deadlines = c.deadlines[1:]
		if len(c.deadlines) != 3 {
			t.Errorf("%d deadlines of writes, want 3", len(c.deadlines))
		}
		checkDeadlines(t, c, start, tt.want)
	}
}
