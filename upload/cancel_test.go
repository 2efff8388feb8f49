package upload

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// TestCancelIsSure: a client that was told that its upload is cancelled, or no
// longer known, can't commit it any more, also where a record has all its bytes
// and the store failed when that was to be spent. Until then it is told to try
// again.
func TestCancelIsSure(t *testing.T) {
	for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Unanswered} {
		t.Run(mode.String(), func(t *testing.T) {
			faulty := &drivertest.Faulty{Mode: mode, Nth: 1, Match: onlyMethod("Replace")}
			m := replica(t, &membucket.Store{Habits: smallS3()}, faulty.Intercept)
			p := []byte("all of it")
			tok := patch(t, m, m.Start("r", digest.SHA256), p)
			err := m.Cancel(t.Context(), tok)
			if lost := mode == drivertest.Lost; errors.Is(err, drivertest.ErrInjected) != lost || !lost && err != nil {
				t.Errorf("Cancel = %v", err)
			}
			if err := m.Cancel(t.Context(), tok); !errors.Is(err, ErrUnknown) {
				t.Errorf("Cancel again = %v, want %v", err, ErrUnknown)
			}
			if _, err := commit(t.Context(), m, tok, nil, p); !errors.Is(err, ErrUnknown) {
				t.Errorf("commit = %v, want %v", err, ErrUnknown)
			}
		})
	}
}
