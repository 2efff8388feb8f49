package upload

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// send sends what r has as one request that may repeat another one.
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

// TestRepeat sends a body again from the same record, at another replica, with
// more bytes after it or without. What was recorded is skipped, and the rest is
// appended, unless parts were stored past it.
func TestRepeat(t *testing.T) {
	const part = 128 * kiB
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			for _, before := range []int64{0, 100, 200 * kiB} {
				for _, n := range []int64{1, 300, 20 * kiB, 130 * kiB, 3 * part} {
					for _, more := range []int64{0, 1, 10 * kiB, 2 * part} {
						one, two := replica(t, store, nil), replica(t, store, nil)
						data := randomBytes(90, before+n+more)
						tok := one.Start("r", alg)
						if before > 0 {
							tok = patch(t, one, tok, data[:before])
						}
						first := patchFrom(t, one, tok, "first", bytes.NewReader(data[before:before+n]), n)
						w, next, err := send(t, two, tok, bytes.NewReader(data[before:]))
						wantIdle(t, two)
						switch {
						case more == 0 && (err != nil || next != first):
							t.Fatalf("%d after %d again = record %d, %v, want record %d", n, before, next.Seq, err, first.Seq)
						case more == 2*part && !errors.Is(err, ErrOutOfOrder):
							t.Fatalf("%d after %d again and %d more = %v, want %v", n, before, more, err, ErrOutOfOrder)
						case more == 1 && n < 300 && err != nil:
							t.Fatalf("%d after %d again and %d more = %v, want success", n, before, more, err)
						case err != nil && !errors.Is(err, ErrOutOfOrder):
							t.Fatal(err)
						case err != nil:
							next = first
						case w.Recorded() != int64(len(data)):
							t.Fatalf("%d after %d again and %d more: %d are recorded, want all", n, before, more, w.Recorded())
						}
						_, size, err := two.Status(t.Context(), next)
						if err != nil {
							t.Fatal(err)
						}
						wantCommit(t, one, next, data[size:], data)
					}
				}
			}
		}
	})
}

// TestRepeatOfOtherBytes: a request is no repeat if one byte differs, and leaves
// the upload as it was.
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
						t.Errorf("%d other bytes after %d = %v, want %v", len(p), n, err, ErrOutOfOrder)
					}
				}
				w := resume(t, m, tok, Options{Length: n}) // which names its offset
				if _, err := w.Write(data[:n]); err != nil {
					t.Fatal(err)
				}
				if _, err := w.Suspend(t.Context()); !errors.Is(err, ErrOutOfOrder) {
					t.Errorf("a repeat that is not allowed to be one = %v, want %v", err, ErrOutOfOrder)
				}
				w.Close()
				wantCommit(t, m, first, data[n:], data)
				wantIdle(t, m)
			}
		}
	})
}

// TestRepeatAfterCut: the first request broke off, and the second one has all of
// its bytes; in pieces, the last of which are sent again as well.
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
				// The part before was stored as a whole, or nothing is held of a stream.
				if passed := cut < 128*kiB || m.limits.Stream; !passed || !errors.Is(err, ErrOutOfOrder) {
					t.Fatalf("%d again after %d = %v", 160*kiB, cut, err)
				}
				continue
			}
			if again := patchFrom(t, m, next, "next", bytes.NewReader(data[160*kiB:]), 10*kiB); again.Seq != next.Seq+1 {
				t.Fatalf("the next piece is record %d, want %d", again.Seq, next.Seq+1)
			}
			_, last, err := send(t, m, next, bytes.NewReader(data[160*kiB:]))
			if err != nil {
				t.Fatalf("the next piece again = %v", err)
			}
			wantCommit(t, m, last, nil, data)
			wantIdle(t, m)
		}
	})
}

// TestRepeatsRace sends the same body several times at once: all requests have
// the same answer.
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
						t.Errorf("one of several = record %d, %v, want 2", next.Seq, err)
					}
				})
			}
			wg.Wait()
			wantCommit(t, m, tok.next(2), nil, data)
			if n := staged(t, m); n != 0 && !store.Sessionless {
				t.Errorf("%d uploads in progress, want none", n)
			}
		}
	})
}

// TestRepeatAtCheckpoint: a long request that is a repeat meets, where it is
// recorded, a record of another one that could not start a multipart upload.
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
			t.Fatalf("Suspend = record %d, %v", first.Seq, err)
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
