package upload

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// sealing returns a Writer that has received all of p and started an upload. Seal
// has to bind the key of that upload to the digest.
func sealing(t *testing.T, m *Manager, tok Token, p []byte) (*Writer, digest.Digest) {
	t.Helper()
	d := digest.SHA512.FromBytes(p) // the canonical digest needs no record
	w := resume(t, m, tok, Options{Length: int64(len(p)), Commit: true, Digest: d})
	t.Cleanup(func() { w.Close() })
	if _, err := w.ReadFrom(bytes.NewReader(p)); err != nil {
		t.Fatal(err)
	}
	return w, d
}

// contenders returns the requests that may create the next record before a Seal of
// p does.
func contenders(p []byte) map[string]func(t *testing.T, m *Manager, tok Token) {
	return map[string]func(*testing.T, *Manager, Token){
		"nothing":         func(*testing.T, *Manager, Token) {},
		"the same bytes":  func(t *testing.T, m *Manager, tok Token) { sealFirst(t, m, tok, p) },
		"other bytes":     func(t *testing.T, m *Manager, tok Token) { sealFirst(t, m, tok, p[1:]) },
		"another's bytes": func(t *testing.T, m *Manager, tok Token) { tok.Repository = "other"; sealFirst(t, m, tok, p) },
		"a PATCH":         func(t *testing.T, m *Manager, tok Token) { patch(t, m, tok, p) },
		"a Cancel": func(t *testing.T, m *Manager, tok Token) {
			if err := m.Cancel(t.Context(), tok, newDeadline()); err != nil {
				t.Fatal(err)
			}
		},
	}
}

func sealFirst(t *testing.T, m *Manager, tok Token, p []byte) {
	t.Helper()
	w, d := sealing(t, m, tok, p)
	if got, err := w.Seal(t.Context(), d); got != Sealed || err != nil {
		t.Fatalf("Seal = %v, %v, want %v", got, err, Sealed)
	}
}

// TestContestedSeal checks that Seal reads nothing of a taken record, and that
// ResolveSeal returns which request has created it.
func TestContestedSeal(t *testing.T) {
	p := randomBytes(70, 300*kiB)
	for _, tt := range []struct {
		first    string // of contenders
		retried  bool   // the driver sends each Create twice
		vanishes bool   // the record, before ResolveSeal
		want     SealResult
		wantErr  error
	}{
		{first: "nothing", retried: true, want: Sealed}, // its own record is in the way
		{first: "the same bytes", want: SealedBefore},
		{first: "other bytes", wantErr: ErrUnknown},
		{first: "another's bytes", wantErr: ErrUnknown},
		{first: "a PATCH", wantErr: ErrOutOfOrder},
		{first: "a PATCH", vanishes: true, wantErr: ErrUnknown},
		{first: "a Cancel", wantErr: ErrUnknown},
	} {
		var calls []string
		m := replica(t, &membucket.Store{Habits: smallS3()}, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			if c.Method == "PutPart" {
				return do(ctx)
			}
			calls = append(calls, c.Method)
			if err := do(ctx); err != nil || c.Method != "Create" || !tt.retried {
				return err
			}
			return do(ctx)
		})
		tok := m.Start("r", digest.SHA512)
		w, d := sealing(t, m, tok, p)
		contenders(p)[tt.first](t, m, tok)
		calls = nil
		if got, err := w.Seal(t.Context(), d); got != Contested || err != nil {
			t.Fatalf("after %s: Seal = %v, %v, want %v", tt.first, got, err, Contested)
		}
		if want := []string{"Create"}; !slices.Equal(calls, want) {
			t.Errorf("after %s: Seal calls %v, want %v", tt.first, calls, want)
		}
		if tt.vanishes {
			if err := m.cfg.Bucket.Delete(t.Context(), m.cfg.Layout.SessionRecord(tok.ID, 1)); err != nil {
				t.Fatal(err)
			}
		}
		got, err := w.ResolveSeal(t.Context())
		if got != tt.want || !errors.Is(err, tt.wantErr) {
			t.Errorf("after %s: ResolveSeal = %v, %v, want %v, %v", tt.first, got, err, tt.want, tt.wantErr)
		}
		if _, err := w.ResolveSeal(t.Context()); err == nil {
			t.Errorf("after %s: a second ResolveSeal succeeds, want an error", tt.first)
		}
	}
}

// TestDrainDuringContestedSeal checks that a Drain between Seal and ResolveSeal does
// not end a request that has received all its bytes.
func TestDrainDuringContestedSeal(t *testing.T) {
	p := randomBytes(73, 300*kiB)
	m := replica(t, &membucket.Store{Habits: smallS3()}, func(ctx context.Context, _ drivertest.Call, do func(context.Context) error) error {
		return do(ctx)
	})
	tok := m.Start("r", digest.SHA512)
	w, d := sealing(t, m, tok, p)
	sealFirst(t, m, tok, p)
	if got, err := w.Seal(t.Context(), d); got != Contested || err != nil {
		t.Fatalf("Seal = %v, %v, want %v", got, err, Contested)
	}
	m.Drain()
	if got, err := w.ResolveSeal(t.Context()); got != SealedBefore || err != nil {
		t.Fatalf("ResolveSeal after Drain = %v, %v, want %v", got, err, SealedBefore)
	}
	if c, err := w.Store(t.Context()); err != nil || c.Digest != digest.FromBytes(p) {
		t.Errorf("Store after Drain = %v, %v, want the content", c, err)
	}
}

// TestFailedSeal checks that Seal reads the next record itself if creating it has
// an unknown outcome.
func TestFailedSeal(t *testing.T) {
	p := randomBytes(71, 300*kiB)
	for _, tt := range []struct {
		mode   drivertest.Mode
		before bool // another request has sealed the same bytes
		want   SealResult
	}{{drivertest.Unanswered, false, Sealed}, {drivertest.Lost, true, SealedBefore}} {
		faulty := &drivertest.Faulty{Mode: tt.mode, Match: func(c drivertest.Call) bool { return c.Method == "Create" }}
		store := &membucket.Store{Habits: smallS3()}
		other, m := replica(t, store, nil), replica(t, store, faulty.Intercept)
		tok := m.Start("r", digest.SHA512)
		w, d := sealing(t, m, tok, p)
		if tt.before {
			first, _ := sealing(t, other, tok, p)
			if _, err := first.Seal(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := w.Seal(t.Context(), d); got != tt.want || err != nil {
			t.Errorf("Seal with an unknown outcome, sealed before %v: %v, %v, want %v", tt.before, got, err, tt.want)
		}
	}
}

// TestCommittedOfNoEnd checks that Committed returns an error if a spent record
// names a record that does not end the session.
func TestCommittedOfNoEnd(t *testing.T) {
	m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
	tok := patch(t, m, m.Start("r", digest.SHA256), []byte("some"))
	_, err := m.Committed(t.Context(), tok, &EndedError{end: 1})
	if err == nil || !strings.Contains(err.Error(), "record 1 does not end the session") {
		t.Errorf("Committed = %v, want an error that names record 1", err)
	}
}
