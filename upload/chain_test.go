package upload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// eachHabit runs a test on what differs most: parts that are overwritten, parts
// that are objects, streams.
func eachHabit(t *testing.T, do func(t *testing.T, store *membucket.Store)) {
	t.Helper()
	for name, habits := range map[string]membucket.Habits{"S3": smallS3(), "GCS": membucket.GCS(), "Azure": membucket.Azure(), "directory": streaming()} {
		t.Run(name, func(t *testing.T) { do(t, &membucket.Store{Habits: habits}) })
	}
}

// staged is how many uploads are in progress.
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

func kinds(t testing.TB, m *Manager, tok Token) (kinds []Kind) {
	t.Helper()
	for o, err := range m.cfg.Bucket.List(t.Context(), m.cfg.Layout.Session(tok.ID), "") {
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

// TestChainIsHandedOn sends an upload in pieces of all sizes, each to another
// replica, and commits it.
func TestChainIsHandedOn(t *testing.T) {
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
					t.Fatalf("Find after %d bytes = %+v, %d, %v", at, found, size, err)
				}
				wantIdle(t, m)
			}
			m := replica(t, store, nil)
			wantCommit(t, m, tok, data[at:], data)
			want := append(slicesRepeat(KindOpen, 8), KindCommitted)
			if diff := cmp.Diff(want, kinds(t, m, tok)); diff != "" {
				t.Errorf("records, -want +got:\n%s", diff)
			}
		}
	})
}

func slicesRepeat(k Kind, n int) (all []Kind) {
	for range n {
		all = append(all, k)
	}
	return all
}

// TestLostRaces goes on from one record with several requests at once: one of
// them is recorded, and the others are told to look again.
func TestLostRaces(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		for _, size := range []int64{100, 400 * kiB} { // with parts, and without
			m := replica(t, store, nil)
			tok := patch(t, m, m.Start("r", digest.SHA256), randomBytes(21, size))
			for range 2 { // from record 1, and then from no record at all
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
					t.Fatalf("recorded are %+v, want one", won)
				}
				tok = m.Start("r", digest.SHA256)
			}
			wantIdle(t, m)
		}
	})
}

// TestLosersLeaveNothing: whoever loses record 1 knows that nobody knows of the
// parts that it stored.
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

// TestUnknownOutcomeKeepsParts: the record may yet come to be there, so what it
// may name stays.
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

// TestEndedSessions: nothing goes on after an end, from whatever record.
func TestEndedSessions(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		m := replica(t, store, nil)
		data := randomBytes(24, 500*kiB)
		for _, cancel := range []bool{true, false} {
			toks := []Token{m.Start("r", digest.SHA256)}
			for i := range int64(3) {
				toks = append(toks, patch(t, m, toks[i], data[i*150*kiB:(i+1)*150*kiB]))
			}
			if cancel {
				if err := m.Cancel(t.Context(), toks[3], newDeadline()); err != nil {
					t.Fatal(err)
				}
			} else {
				wantCommit(t, m, toks[3], data[450*kiB:], data)
			}
			for _, tok := range toks {
				w, err := m.Resume(t.Context(), tok, Options{Deadline: newDeadline(), Length: -1})
				if err == nil {
					if _, err = w.ReadFrom(bytes.NewReader(data)); err == nil {
						_, err = w.Suspend(t.Context())
					}
					w.Close()
				}
				if !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrOutOfOrder) {
					t.Errorf("PATCH from record %d of a session that ended = %v, want %v", tok.Seq, err, ErrUnknown)
				}
				if _, _, err := m.Status(t.Context(), tok); !errors.Is(err, ErrUnknown) {
					t.Errorf("Status = %v, want %v", err, ErrUnknown)
				}
				if err := m.Cancel(t.Context(), tok, newDeadline()); !errors.Is(err, ErrUnknown) {
					t.Errorf("Cancel = %v, want %v", err, ErrUnknown)
				}
				if _, _, err := m.Find(t.Context(), "r", tok.ID); !errors.Is(err, ErrUnknown) {
					t.Errorf("Find = %v, want %v", err, ErrUnknown)
				}
				if tok.Seq == 3 {
					_, err := m.Resume(t.Context(), tok.next(4), Options{Deadline: newDeadline(), Length: -1})
					end, ok := errors.AsType[*EndedError](err)
					if !ok || end.Gone || (end.Digest == "") != cancel || !cancel && end.Digest != digest.FromBytes(data) {
						t.Errorf("Resume after the end = %+v, want the end", err)
					}
				}
			}
			// Where parts are objects, those that came after the end are the
			// collector's.
			if n := staged(t, m); n != 0 && !store.Sessionless {
				t.Errorf("cancelled: %v: %d uploads in progress, want none", cancel, n)
			}
		}
	})
}

// TestCancelAnywhere cancels with the token of every record, of none, and of an
// upload that never began.
func TestCancelAnywhere(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		m := replica(t, store, nil)
		for from := range 4 {
			toks := []Token{m.Start("r", digest.SHA256)}
			for i := range 3 {
				toks = append(toks, patch(t, m, toks[i], randomBytes(25, 200*kiB)))
			}
			if err := m.Cancel(t.Context(), toks[from], newDeadline()); err != nil {
				t.Errorf("Cancel from record %d = %v", from, err)
			}
			want := []Kind{KindOpen, KindOpen, KindSpent, KindCancelled}
			if diff := cmp.Diff(want, kinds(t, m, toks[0])); diff != "" {
				t.Errorf("after Cancel from record %d, -want +got:\n%s", from, diff)
			}
		}
		fresh := m.Start("r", digest.SHA256)
		if err := m.Cancel(t.Context(), fresh, newDeadline()); err != nil {
			t.Errorf("Cancel of what never began = %v", err)
		}
		if _, _, err := m.Status(t.Context(), fresh); !errors.Is(err, ErrUnknown) {
			t.Errorf("Status after it = %v, want %v", err, ErrUnknown)
		}
		if n := staged(t, m); n != 0 {
			t.Errorf("%d uploads in progress, want none", n)
		}
	})
}

// TestCancelFencesOff: a PATCH that is in flight when its upload is cancelled
// leaves nothing.
func TestCancelFencesOff(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		m := replica(t, store, nil)
		for _, before := range []int64{0, 200 * kiB} {
			tok := m.Start("r", digest.SHA256)
			if before > 0 {
				tok = patch(t, m, tok, randomBytes(26, before))
			}
			w := resume(t, m, tok, Options{Length: -1})
			if _, err := w.Write(randomBytes(27, 300*kiB)); err != nil {
				t.Fatal(err)
			}
			if err := m.Cancel(t.Context(), tok, newDeadline()); err != nil {
				t.Fatal(err)
			}
			_, err := w.Write(randomBytes(28, 300*kiB))
			if err == nil {
				_, err = w.Suspend(t.Context())
			}
			if err == nil {
				t.Error("PATCH of a cancelled upload = nil, want an error")
			}
			w.Close()
			if _, _, err := m.Status(t.Context(), tok); !errors.Is(err, ErrUnknown) {
				t.Errorf("Status = %v, want %v", err, ErrUnknown)
			}
			// Where parts are objects, those that came after Abort are the
			// collector's.
			if n := staged(t, m); n != 0 && !store.Sessionless {
				t.Errorf("%d uploads in progress, want none", n)
			}
		}
	})
}

// TestOtherRepositories: a valid token of one's own is no way into the upload
// of another repository.
func TestOtherRepositories(t *testing.T) {
	m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
	theirs := patch(t, m, m.Start("theirs", digest.SHA256), []byte("secret"))
	for seq := range 3 {
		mine := theirs.next(seq)
		mine.Repository = "mine"
		w, err := m.Resume(t.Context(), mine, Options{Deadline: newDeadline(), Length: -1})
		if err == nil { // without a record to read, it shows when one is made
			if _, err := w.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			_, err = w.Suspend(t.Context())
			w.Close()
			if seq == 0 && !errors.Is(err, ErrUnknown) {
				t.Errorf("PATCH from record %d of another's upload = %v, want %v", seq, err, ErrUnknown)
			}
		} else if !errors.Is(err, ErrUnknown) {
			t.Errorf("Resume from record %d of another's upload = %v, want %v", seq, err, ErrUnknown)
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

// TestSpend: what is left of a record that is no longer needed points to the
// end, and says the same of it.
func TestSpend(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		m := replica(t, store, nil)
		for _, sizes := range [][2]int64{{100, 100}, {100, 300 * kiB}, {228 * kiB, 10}, {130 * kiB, 10}} {
			data := randomBytes(29, sizes[0]+sizes[1])
			tok := patch(t, m, m.Start("r", digest.SHA512), data[:sizes[0]])
			named := digest.SHA512.FromBytes(data)
			w := resume(t, m, tok, Options{Length: sizes[1], Commit: true, Digest: named})
			if _, err := w.ReadFrom(bytes.NewReader(data[sizes[0]:])); err != nil {
				t.Fatal(err)
			}
			if err := seal(t.Context(), w, named); err != nil {
				t.Fatal(err)
			}
			c, err := w.Store(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wantContent(t, m, c, data)
			w.Spend(t.Context(), named)
			w.Close()

			_, err = m.Resume(t.Context(), tok, Options{Deadline: newDeadline(), Length: -1})
			end, ok := errors.AsType[*EndedError](err)
			if !ok { // its tail was small, and the next record is the end
				_, err = m.Resume(t.Context(), tok.next(2), Options{Deadline: newDeadline(), Length: -1})
				end, ok = errors.AsType[*EndedError](err)
			}
			if !ok || end.Gone {
				t.Fatalf("%v: after the end = %v, want it", sizes, err)
			}
			if end.end > 0 { // spent
				_, err = m.Resume(t.Context(), tok.next(end.end), Options{Deadline: newDeadline(), Length: -1})
				end, _ = errors.AsType[*EndedError](err)
			}
			if end.Digest != digest.FromBytes(data) || end.RequestedDigest != named {
				t.Errorf("%v: it ended as %s, named %s; want %s, named %s", sizes, end.Digest, end.RequestedDigest, digest.FromBytes(data), named)
			}
		}
	})
}

// TestRequestLimit: a request that has lasted too long writes nothing.
func TestRequestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counter := &drivertest.Counter{}
		m := replica(t, &membucket.Store{Habits: smallS3()}, counter.Intercept)
		tok := patch(t, m, m.Start("r", digest.SHA256), []byte("x"))
		w := resume(t, m, tok, Options{Length: -1})
		if _, err := w.Write([]byte("y")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(requestLimit + time.Second)
		counter.Reset()
		if _, err := w.Suspend(t.Context()); !errors.Is(err, drivers.ErrBusy) {
			t.Errorf("Suspend after the limit = %v, want %v", err, drivers.ErrBusy)
		}
		w.Close()
		for _, c := range counter.Calls() {
			if c.Writes() {
				t.Errorf("after the limit: %v", c)
			}
		}
	})
}

// FuzzRecord decodes arbitrary bytes as a session record, and goes on from it:
// that may fail, and must not do so by a panic.
func FuzzRecord(f *testing.F) {
	store := &membucket.Store{Habits: smallS3()}
	m := replica(f, store, nil)
	tok := patch(f, m, m.Start("r", digest.SHA512), randomBytes(1, 300*kiB))
	s, tail, err := m.read(f.Context(), tok)
	if err != nil {
		f.Fatal(err)
	}
	tail.Close()
	seed, err := json.Marshal(s.Value)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, []byte("tail"))
	f.Add([]byte(`{"kind":"open","repository":"r","algorithm":"md5","sizes":{"first":-1},"offset":-5}`), []byte{})
	f.Add([]byte(`{"kind":"committed","repository":"r","digest":"x"}`), []byte{})
	f.Add([]byte(`{"kind":"spent","repository":"r","end":-1}`), []byte{})
	f.Add([]byte(strings.Replace(string(seed), `"n":1`, `"n":0`, 1)), []byte{0})
	f.Fuzz(func(t *testing.T, value, tail []byte) {
		var r sessionRecord
		if json.Unmarshal(value, &r) != nil {
			return
		}
		encoded, err := json.Marshal(r)
		if err != nil {
			return // a time that JSON can't have
		}
		var again sessionRecord
		if err := json.Unmarshal(encoded, &again); err != nil {
			t.Fatalf("%s was made of a record, and can't be read: %v", encoded, err)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(twice, encoded) {
			t.Fatalf("a record is %s, read and written again %s, %v", encoded, twice, err)
		}
		r.Repository = "r"
		m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
		tok := Token{ID: "fuzz", Repository: "r", Seq: 1}
		if _, err := envelope.Create(t.Context(), m.cfg.Bucket, m.cfg.Layout.SessionRecord("fuzz", 1), r, drivers.NewBody(tail)); err != nil {
			t.Fatal(err)
		}
		w, err := m.Resume(t.Context(), tok, Options{Deadline: newDeadline(), Length: -1})
		if err != nil {
			wantIdle(t, m)
			return
		}
		if _, err := w.Write([]byte("more")); err == nil {
			_, _ = w.Suspend(t.Context()) // whatever comes of it
		}
		w.Close()
		wantIdle(t, m)
		_ = m.Cancel(t.Context(), tok, newDeadline())
		if _, _, err := m.Status(t.Context(), tok); err == nil {
			t.Errorf("Status of a cancelled upload of %s = nil", fmt.Sprint(r))
		}
	})
}
