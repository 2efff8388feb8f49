package upload

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// eachHabit runs a test on the stores that differ most: parts that are
// overwritten, parts that are objects, and streams.
func eachHabit(t *testing.T, do func(t *testing.T, store *membucket.Store)) {
	t.Helper()
	for name, habits := range map[string]membucket.Habits{"S3": smallS3(), "GCS": membucket.GCS(), "Azure": membucket.Azure(), "directory": streaming()} {
		t.Run(name, func(t *testing.T) { do(t, &membucket.Store{Habits: habits}) })
	}
}

// eachKind runs do for a store of parts with a minimum size, and for one that takes parts
// of any length as they arrive.
func eachKind(t *testing.T, do func(t *testing.T, habits membucket.Habits)) {
	t.Helper()
	for name, habits := range map[string]membucket.Habits{"S3": smallS3(), "directory": streaming()} {
		t.Run(name, func(t *testing.T) { do(t, habits) })
	}
}

// staged returns the number of uploads in progress.
func staged(t testing.TB, m *Manager) int {
	t.Helper()
	n := 0
	for _, err := range m.cfg.Bucket.Uploads(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// kinds returns the kinds of a session's records.
func kinds(t testing.TB, m *Manager, tok Token) (kinds []Kind) {
	t.Helper()
	for o, err := range m.cfg.Bucket.List(t.Context(), m.cfg.Layout.Session(tok.ID), "", 0) {
		if err != nil {
			t.Fatal(err)
		}
		s, err := envelope.Read[sessionRecord](t.Context(), m.cfg.Bucket, o.Key)
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, s.Value.Kind)
	}
	return kinds
}

// TestEveryPieceToAnotherReplica sends an upload in pieces of many sizes, each to
// another replica, and commits it.
func TestEveryPieceToAnotherReplica(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			data := randomBytes(20, 900_000)
			tok := replica(t, store, nil).Start("r", alg)
			at := 0
			for i, n := range []int{1, 15_000, 16_384, 64 << 10, 128 << 10, 128<<10 + 1, 5, 300_000} {
				m := replica(t, store, nil)
				tok = patch(t, m, tok, data[at:at+n])
				at += n
				got, size, err := m.Status(t.Context(), tok)
				if diff := cmp.Diff(tok, got); diff != "" || size != int64(at) || err != nil || tok.Seq != i+1 {
					t.Fatalf("Status after %d bytes = %d, %v, record %d; -want +got:\n%s", at, size, err, tok.Seq, diff)
				}
				found, size, err := m.Find(t.Context(), "r", tok.ID)
				if found != tok || size != int64(at) || err != nil {
					t.Fatalf("Find after %d bytes = %+v, %d, %v, want %+v", at, found, size, err, tok)
				}
				wantIdle(t, m)
			}
			m := replica(t, store, nil)
			wantCommit(t, m, tok, data[at:], data)
			want := append(slices.Repeat([]Kind{KindOpen}, 8), KindCommitted)
			if diff := cmp.Diff(want, kinds(t, m, tok)); diff != "" {
				t.Errorf("records, -want +got:\n%s", diff)
			}
		}
	})
}

// TestLostRaces continues from one record with several concurrent requests. One of
// them is recorded, and the other ones fail with ErrOutOfOrder.
func TestLostRaces(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		for _, size := range []int64{100, 400 * kiB} { // with parts, and without
			m := replica(t, store, nil)
			tok := patch(t, m, m.Start("r", digest.SHA256), randomBytes(21, size))
			for range 2 { // from record 1, and then from no record
				var wg sync.WaitGroup
				var mu sync.Mutex
				var won []Token
				for i := range 6 {
					wg.Go(func() {
						w := resume(t, replica(t, store, nil), tok, Options{Length: -1})
						defer w.Close()
						if _, err := w.ReadFrom(bytes.NewReader(randomBytes(uint64(i), size))); err != nil && !errors.Is(err, ErrOutOfOrder) {
							t.Errorf("ReadFrom = %v", err)
						}
						next, err := w.Suspend(t.Context())
						switch {
						case err == nil:
							mu.Lock()
							won = append(won, next)
							mu.Unlock()
						case !errors.Is(err, ErrOutOfOrder):
							t.Errorf("Suspend of a request that lost = %v, want %v", err, ErrOutOfOrder)
						}
					})
				}
				wg.Wait()
				if len(won) != 1 || won[0].Seq != tok.Seq+1 {
					t.Fatalf("requests that are recorded: %+v, want one", won)
				}
				tok = m.Start("r", digest.SHA256)
			}
			wantIdle(t, m)
		}
	})
}

// TestLosersLeaveNothing checks that the request that loses the race for record 1
// aborts its upload, which no record names.
func TestLosersLeaveNothing(t *testing.T) {
	store := &membucket.Store{Habits: smallS3()}
	m := replica(t, store, nil)
	tok, data := m.Start("r", digest.SHA256), randomBytes(22, 400*kiB)
	a, b := resume(t, m, tok, Options{Length: -1}), resume(t, m, tok, Options{Length: -1})
	for _, w := range []*Writer{a, b} {
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if n := staged(t, m); n != 2 {
		t.Fatalf("%d uploads in progress, want 2", n)
	}
	next, err := a.Suspend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Suspend(t.Context()); !errors.Is(err, ErrOutOfOrder) {
		t.Fatalf("Suspend of the loser = %v, want %v", err, ErrOutOfOrder)
	}
	a.Close()
	b.Close()
	if n := staged(t, m); n != 1 {
		t.Errorf("%d uploads in progress after one lost, want 1", n)
	}
	wantCommit(t, m, next, nil, data)
	if n := staged(t, m); n != 0 {
		t.Errorf("%d uploads in progress after the commit, want 0", n)
	}
}

// TestUnknownOutcomeKeepsParts lets creating a record fail and take effect late.
// The upload that it names must stay.
func TestUnknownOutcomeKeepsParts(t *testing.T) {
	store := &membucket.Store{Habits: smallS3()}
	faulty := &drivertest.Faulty{Mode: drivertest.Late, Nth: 1, Match: createsRecord}
	m := replica(t, store, faulty.Intercept)
	data := randomBytes(23, 400*kiB)
	tok := m.Start("r", digest.SHA256)
	w := resume(t, m, tok, Options{Length: -1})
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Suspend(t.Context()); !errors.Is(err, drivertest.ErrInjected) {
		t.Fatalf("Suspend = %v, want %v", err, drivertest.ErrInjected)
	}
	w.Close()
	if err := faulty.Land(t.Context()); err != nil {
		t.Fatal(err)
	}
	tok, size, err := m.Status(t.Context(), tok)
	if err != nil || size != int64(len(data)) {
		t.Fatalf("Status = %d, %v, want %d", size, err, len(data))
	}
	wantCommit(t, m, tok, nil, data)
}

// TestEndedSessions checks that no request continues a session that has ended,
// from any of its records.
func TestEndedSessions(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		m := replica(t, store, nil)
		data := randomBytes(24, 500*kiB)
		for _, cancel := range []bool{true, false} {
			toks := []Token{m.Start("r", digest.SHA256)}
			for i := range int64(3) {
				toks = append(toks, patch(t, m, toks[i], data[i*150*kiB:(i+1)*150*kiB]))
			}
			committed := digest.Digest("")
			if cancel {
				if err := m.Cancel(t.Context(), toks[3], newDeadline()); err != nil {
					t.Fatal(err)
				}
			} else {
				committed = digest.FromBytes(data)
				wantCommit(t, m, toks[3], data[450*kiB:], data)
			}
			for _, tok := range toks {
				wantEnded(t, m, tok, data)
			}
			_, err := m.Resume(t.Context(), toks[3].next(4), Options{Deadline: newDeadline(), Length: -1})
			if end, ok := errors.AsType[*EndedError](err); !ok || end.Gone || end.Digest != committed {
				t.Errorf("Resume from the end = %+v, want the end, with digest %q", err, committed)
			}
			// Where parts are objects, the collector deletes those that came after
			// the end.
			if n := staged(t, m); n != 0 && !store.Sessionless {
				t.Errorf("cancelled %v: %d uploads in progress, want 0", cancel, n)
			}
		}
	})
}

// wantEnded checks that every request with tok is refused.
func wantEnded(t *testing.T, m *Manager, tok Token, data []byte) {
	t.Helper()
	if err := tryPatch(t.Context(), m, tok, data); !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrOutOfOrder) {
		t.Errorf("PATCH from record %d of a session that has ended = %v, want %v", tok.Seq, err, ErrUnknown)
	}
	if _, _, err := m.Status(t.Context(), tok); !errors.Is(err, ErrUnknown) {
		t.Errorf("Status from record %d = %v, want %v", tok.Seq, err, ErrUnknown)
	}
	if err := m.Cancel(t.Context(), tok, newDeadline()); !errors.Is(err, ErrUnknown) {
		t.Errorf("Cancel from record %d = %v, want %v", tok.Seq, err, ErrUnknown)
	}
	if _, _, err := m.Find(t.Context(), "r", tok.ID); !errors.Is(err, ErrUnknown) {
		t.Errorf("Find = %v, want %v", err, ErrUnknown)
	}
}

// tryPatch is patch for a request that may fail.
func tryPatch(ctx context.Context, m *Manager, tok Token, p []byte) error {
	w, err := m.Resume(ctx, tok, Options{Deadline: newDeadline(), Length: -1})
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.ReadFrom(bytes.NewReader(p)); err != nil {
		return err
	}
	_, err = w.Suspend(ctx)
	return err
}

// TestOtherRepositories checks that a valid token of one repository does not reach
// the upload of another one.
func TestOtherRepositories(t *testing.T) {
	m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
	theirs := patch(t, m, m.Start("theirs", digest.SHA256), []byte("secret"))
	for seq := range 3 {
		mine := theirs.next(seq)
		mine.Repository = "mine"
		if err := tryPatch(t.Context(), m, mine, []byte("x")); !errors.Is(err, ErrUnknown) {
			t.Errorf("PATCH from record %d of another's upload = %v, want %v", seq, err, ErrUnknown)
		}
		if err := m.Cancel(t.Context(), mine, newDeadline()); !errors.Is(err, ErrUnknown) {
			t.Errorf("Cancel from record %d of another's upload = %v, want %v", seq, err, ErrUnknown)
		}
		if _, _, err := m.Status(t.Context(), mine); !errors.Is(err, ErrUnknown) {
			t.Errorf("Status from record %d of another's upload = %v, want %v", seq, err, ErrUnknown)
		}
	}
	if _, _, err := m.Find(t.Context(), "mine", theirs.ID); !errors.Is(err, ErrUnknown) {
		t.Errorf("Find of another's upload = %v, want %v", err, ErrUnknown)
	}
	if _, _, err := m.Find(t.Context(), "mine", "nothing"); !errors.Is(err, ErrUnknown) {
		t.Errorf("Find of no upload = %v, want %v", err, ErrUnknown)
	}
	wantCommit(t, m, theirs, []byte(" too"), []byte("secret too"))
}

// TestSpend checks that a spent record leads to the end of its session, and has the
// same digests.
func TestSpend(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		m := replica(t, store, nil)
		for _, sizes := range [][2]int64{{100, 100}, {100, 300 * kiB}, {228 * kiB, 10}, {130 * kiB, 10}} {
			data := randomBytes(29, sizes[0]+sizes[1])
			tok := patch(t, m, m.Start("r", digest.SHA512), data[:sizes[0]])
			requested := digest.SHA512.FromBytes(data)
			w := resume(t, m, tok, Options{Length: sizes[1], Commit: true, Digest: requested})
			if _, err := w.ReadFrom(bytes.NewReader(data[sizes[0]:])); err != nil {
				t.Fatal(err)
			}
			if err := seal(t.Context(), w, requested); err != nil {
				t.Fatal(err)
			}
			c, err := w.Store(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wantContent(t, m, c, data)
			w.Spend(t.Context(), requested)
			w.Close()

			_, err = m.Resume(t.Context(), tok, Options{Deadline: newDeadline(), Length: -1})
			end, ok := errors.AsType[*EndedError](err)
			if !ok { // the tail was small, so the record is not spent, and the next one is the end
				_, err = m.Resume(t.Context(), tok.next(2), Options{Deadline: newDeadline(), Length: -1})
				end, ok = errors.AsType[*EndedError](err)
			}
			if !ok || end.Gone {
				t.Fatalf("%v: Resume from the end = %v, want how it ended", sizes, err)
			}
			if end.end > 0 { // spent
				_, err = m.Resume(t.Context(), tok.next(end.end), Options{Deadline: newDeadline(), Length: -1})
				end, _ = errors.AsType[*EndedError](err)
			}
			if end.Digest != digest.FromBytes(data) || end.RequestedDigest != requested {
				t.Errorf("%v: the session ended as %s, requested as %s, want %s and %s", sizes, end.Digest, end.RequestedDigest, digest.FromBytes(data), requested)
			}
		}
	})
}
