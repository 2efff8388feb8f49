package upload

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// send sends r as a request that may repeat an earlier one.
func send(t testing.TB, m *Manager, tok Token, r io.Reader) (*Writer, Token, error) {
	t.Helper()
	w := resume(t, m, tok, Options{Length: -1, Repeat: true})
	defer w.Close()
	if _, err := w.ReadFrom(r); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("ReadFrom = %v", err)
	}
	next, err := w.Suspend(t.Context())
	return w, next, err
}

// repeatScenario is a body that is sent twice.
type repeatScenario struct {
	alg    digest.Algorithm
	before int64 // bytes of an earlier request
	first  int64 // bytes of the first request that is recorded
	more   int64 // bytes after these in the second request
}

// TestRepeat sends a body again from the same record, to another replica, with
// more bytes after it or without. The recorded bytes are skipped, and the rest is
// appended, unless parts were stored past the recorded bytes. TestRepeatSHA512 does the
// same by sha512 with fewer earlier requests, and TestLongRepeat with the others.
func TestRepeat(t *testing.T) { repeatBodies(t, digest.SHA256, 0, 100, 200*kiB) }

func TestRepeatSHA512(t *testing.T) { repeatBodies(t, digest.SHA512, 100) }

func TestLongRepeat(t *testing.T) {
	if os.Getenv("BERTH_TEST_LONG") == "" {
		t.Skip("sends 160 bodies twice: set BERTH_TEST_LONG=1 (or run make test-long)")
	}
	repeatBodies(t, digest.SHA512, 0, 200*kiB)
}

// repeatBodies sends bodies twice, after no earlier request or one of some bytes.
func repeatBodies(t *testing.T, alg digest.Algorithm, befores ...int64) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		for _, before := range befores {
			for _, first := range []int64{1, 300, 20 * kiB, 130 * kiB, 3 * 128 * kiB} {
				for _, more := range []int64{0, 1, 10 * kiB, 2 * 128 * kiB} {
					repeatBody(t, store, repeatScenario{alg, before, first, more})
				}
			}
		}
	})
}

func repeatBody(t *testing.T, store *membucket.Store, s repeatScenario) {
	t.Helper()
	one, two := replica(t, store, nil), replica(t, store, nil)
	data := randomBytes(90, s.before+s.first+s.more)
	tok := one.Start("r", s.alg)
	if s.before > 0 {
		tok = patch(t, one, tok, data[:s.before])
	}
	first := patchFrom(t, one, tok, "first", bytes.NewReader(data[s.before:s.before+s.first]), s.first)
	w, next, err := send(t, two, tok, bytes.NewReader(data[s.before:]))
	wantIdle(t, two)
	switch {
	case s.more == 0 && (err != nil || next != first):
		t.Fatalf("%+v: second request = record %d, %v, want record %d", s, next.Seq, err, first.Seq)
	case s.more == 2*128*kiB && !errors.Is(err, ErrOutOfOrder):
		t.Fatalf("%+v: second request = %v, want %v", s, err, ErrOutOfOrder)
	case s.more == 1 && s.first < 300 && err != nil:
		t.Fatalf("%+v: second request = %v, want success", s, err)
	case err != nil && !errors.Is(err, ErrOutOfOrder):
		t.Fatalf("%+v: second request = %v, want success or %v", s, err, ErrOutOfOrder)
	case err != nil:
		next = first
	case w.Recorded() != int64(len(data)):
		t.Fatalf("%+v: %d bytes are recorded, want %d", s, w.Recorded(), len(data))
	}
	_, size, err := two.Status(t.Context(), next)
	if err != nil {
		t.Fatal(err)
	}
	wantCommit(t, one, next, data[size:], data)
}

// TestRepeatOfOtherBytes checks that a request is no repeat if one byte differs, and
// leaves the upload as it was.
func TestRepeatOfOtherBytes(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		for _, n := range []int64{1, 1000, 300 * kiB} {
			for _, at := range []int64{0, n / 2, n - 1} {
				m := replica(t, store, nil)
				data := randomBytes(91, n+10)
				tok := m.Start("r", digest.SHA256)
				first := patch(t, m, tok, data[:n])
				other := bytes.Clone(data)
				other[at] ^= 1
				for _, p := range [][]byte{other[:n], other, data[:n-1]} {
					if len(p) == 0 {
						continue
					}
					if _, _, err := send(t, m, tok, bytes.NewReader(p)); !errors.Is(err, ErrOutOfOrder) {
						t.Errorf("%d other bytes than the %d recorded = %v, want %v", len(p), n, err, ErrOutOfOrder)
					}
				}
				w := resume(t, m, tok, Options{Length: n}) // such a client sends its offset
				if _, err := w.Write(data[:n]); err != nil {
					t.Fatal(err)
				}
				if _, err := w.Suspend(t.Context()); !errors.Is(err, ErrOutOfOrder) {
					t.Errorf("a repeat without Options.Repeat = %v, want %v", err, ErrOutOfOrder)
				}
				w.Close()
				wantCommit(t, m, first, data[n:], data)
				wantIdle(t, m)
			}
		}
	})
}

// TestRepeatAfterCut cuts the first request off, and sends all of its bytes again.
// Then it sends the next piece twice.
func TestRepeatAfterCut(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		for _, cut := range []int64{1, 5 * kiB, 129 * kiB, 150 * kiB} {
			m := replica(t, store, nil)
			data := randomBytes(92, 170*kiB)
			tok := m.Start("r", digest.SHA256)
			body := io.MultiReader(bytes.NewReader(data[:cut]), iotest.ErrReader(io.ErrUnexpectedEOF))
			if _, _, err := send(t, m, tok, body); err != nil {
				t.Fatal(err)
			}
			_, next, err := send(t, replica(t, store, nil), tok, bytes.NewReader(data[:160*kiB]))
			if err != nil {
				// The part before is stored as a whole, or a stream holds nothing.
				if passed := cut < 128*kiB || m.limits.Stream; !passed || !errors.Is(err, ErrOutOfOrder) {
					t.Fatalf("160 KiB again after a cut at %d = %v, want success", cut, err)
				}
				continue
			}
			if again := patchFrom(t, m, next, "next", bytes.NewReader(data[160*kiB:]), 10*kiB); again.Seq != next.Seq+1 {
				t.Fatalf("the next piece is record %d, want %d", again.Seq, next.Seq+1)
			}
			_, last, err := send(t, m, next, bytes.NewReader(data[160*kiB:]))
			if err != nil {
				t.Fatalf("the next piece again = %v, want success", err)
			}
			wantCommit(t, m, last, nil, data)
			wantIdle(t, m)
		}
	})
}

// TestRepeatsRace sends the same body several times concurrently. All requests get the
// same response.
func TestRepeatsRace(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		for _, n := range []int64{1000, 300 * kiB} {
			m := replica(t, store, nil)
			data := randomBytes(93, 50*kiB+n)
			tok := patch(t, m, m.Start("r", digest.SHA256), data[:50*kiB])
			var wg sync.WaitGroup
			for range 6 {
				wg.Go(func() {
					_, next, err := send(t, replica(t, store, nil), tok, bytes.NewReader(data[50*kiB:]))
					if err != nil || next.Seq != 2 {
						t.Errorf("one of several equal requests = record %d, %v, want record 2", next.Seq, err)
					}
				})
			}
			wg.Wait()
			wantCommit(t, m, tok.next(2), nil, data)
			if n := staged(t, m); n != 0 && !store.Sessionless {
				t.Errorf("%d uploads in progress, want 0", n)
			}
		}
	})
}

// TestRepeatAtCheckpoint has a long request that is a repeat meet, at its
// checkpoint, a record without an upload, because the first request could not
// start one.
func TestRepeatAtCheckpoint(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		one := replica(t, store, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			if c.Method == "StartUpload" {
				return drivers.ErrBusy
			}
			return do(ctx)
		})
		two := replica(t, store, nil)
		data := randomBytes(93, 300*kiB)
		tok := one.Start("r", digest.SHA256)
		w := resume(t, one, tok, Options{Length: -1})
		_, _ = w.ReadFrom(bytes.NewReader(data[:128*kiB]))
		first, err := w.Suspend(t.Context())
		if err != nil || first.Seq != 1 {
			t.Fatalf("Suspend = record %d, %v, want record 1", first.Seq, err)
		}
		w.Close()

		w = resume(t, two, tok, Options{Length: -1, Repeat: true})
		w.p.recorded = time.Now().Add(-2 * recordEvery)
		if _, err := w.ReadFrom(bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		next, err := w.Suspend(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		wantIdle(t, two)
		wantCommit(t, two, next, nil, data)
	})
}
