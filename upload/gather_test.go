package upload

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// tails sends data in n PATCHes. Each must be too large to be repeated by the next
// record, and data must be smaller than a part.
func tails(t testing.TB, m *Manager, tok Token, data []byte, n int) Token {
	t.Helper()
	for i := range n {
		tok = patchFrom(t, m, tok, "tail", bytes.NewReader(data[i*len(data)/n:(i+1)*len(data)/n]), int64((i+1)*len(data)/n-i*len(data)/n))
	}
	return tok
}

// TestAppendHoldsItsOwnBytes checks that a request that only appends takes no
// memory for the bytes of earlier requests.
func TestAppendHoldsItsOwnBytes(t *testing.T) {
	m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
	data := randomBytes(100, 120*kiB)
	tok := patch(t, m, m.Start("r", digest.SHA256), data[:118*kiB])
	for _, opts := range []Options{{Length: kiB}, {Length: -1}} {
		w := resume(t, m, tok, opts)
		if _, err := w.Write(data[118*kiB : 119*kiB]); err != nil {
			t.Fatal(err)
		}
		if held := w.p.client.Held(); held != 1 {
			t.Errorf("a PATCH of length %d holds %d segments, want 1", opts.Length, held)
		}
		w.Close()
	}
	wantIdle(t, m)
}

// TestManyTails continues sessions in which records were taken over: through full
// parts, through checkpoints, and to their end.
func TestManyTails(t *testing.T) {
	for name, habits := range map[string]membucket.Habits{"S3": smallS3(), "directory": streaming()} {
		for _, pieces := range []int{63, 64, 65, 66, 130} {
			synctest.Test(t, func(t *testing.T) {
				store := &membucket.Store{Habits: habits}
				m := replica(t, store, nil)
				data := randomBytes(101, 10*miB)
				n := pieces * 400
				tok := tails(t, m, m.Start("r", digest.SHA512), data[:n], pieces)
				wantCommit(t, replica(t, store, nil), tok, data[n:n+100], data[:n+100])

				tok = tails(t, m, m.Start("r", digest.SHA512), data[:n], pieces)

				w := resume(t, m, tok, Options{Length: -1})
				body := newSlowBody(data[n:], int(64*kiB), time.Second)
				time.AfterFunc(100*time.Second, func() { close(body.end) })
				if _, err := w.ReadFrom(body); err != nil {
					t.Fatal(err)
				}
				if made := w.Token().Seq - tok.Seq; made < 2 {
					t.Errorf("%s, %d pieces: %d records in 100 s, want one every 30 s", name, pieces, made)
				}
				next, err := w.Suspend(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				w.Close()
				for seq := range next.Seq {
					if refs := readRecord(t, m, next.next(seq+1)).Value.Refs; len(refs) > maxRefs {
						t.Errorf("%s: record %d has %d references, want at most %d", name, seq+1, len(refs), maxRefs)
					}
				}
				_, size, err := m.Status(t.Context(), next)
				if err != nil {
					t.Fatal(err)
				}
				wantCommit(t, m, next, data[size:size+100], data[:size+100])
				wantIdle(t, m)
			})
		}
	}
}

// TestDamagedReference damages the bytes or the parts in an earlier record. They
// are not committed, and the session does not end.
func TestDamagedReference(t *testing.T) {
	for name, damage := range map[string]func(r *sessionRecord, raw []byte) []byte{
		"byte":     func(_ *sessionRecord, raw []byte) []byte { raw[7] ^= 1; return raw },
		"too few":  func(_ *sessionRecord, raw []byte) []byte { return raw[1:] },
		"part":     func(r *sessionRecord, raw []byte) []byte { r.Parts[0].Size++; return raw },
		"part CRC": func(r *sessionRecord, raw []byte) []byte { r.Parts[0].CRC32C++; return raw },
		"no parts": func(r *sessionRecord, raw []byte) []byte { r.Parts = nil; return raw },
	} {
		m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
		data := randomBytes(102, 150*kiB)
		first := patch(t, m, m.Start("r", digest.SHA256), data[:140*kiB])
		tok := tails(t, m, first, data[140*kiB:149*kiB], 3)
		s, err := envelope.Read[sessionRecord](t.Context(), m.cfg.Bucket, m.cfg.Layout.SessionRecord(first.ID, 1))
		if err != nil {
			t.Fatal(err)
		}
		raw := damage(&s.Value, s.Raw)
		if _, err := envelope.Replace(t.Context(), m.cfg.Bucket, s.Object.Key, s.Object.Tag, s.Value, drivers.NewBody(raw)); err != nil {
			t.Fatal(err)
		}
		if c, err := commit(t.Context(), m, tok, data[149*kiB:], data); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: commit = %+v, %v, want %v", name, c, err, ErrUnknown)
		}
		if _, size, err := m.Status(t.Context(), tok); size != 149*kiB || err != nil {
			t.Errorf("%s: Status = %d, %v, want 149 KiB and an open session", name, size, err)
		}
		wantIdle(t, m)
	}
}

// TestReferenceHangs checks that a store that does not answer for an earlier record
// delays a request by SmallCallTimeout only, and that its memory is free then.
func TestReferenceHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := false
		m := replica(t, &membucket.Store{Habits: smallS3()}, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			if hang && c.Method == "Open" && strings.HasSuffix(c.Key, "2") {
				<-ctx.Done()
				return ctx.Err()
			}
			return do(ctx)
		})
		data := randomBytes(103, 200*kiB)
		tok := tails(t, m, m.Start("r", digest.SHA256), data[:100*kiB], 4)
		hang = true
		start := time.Now()
		if _, err := commit(t.Context(), m, tok, data[100*kiB:], data); !errors.Is(err, drivers.ErrBusy) {
			t.Errorf("commit = %v, want %v", err, drivers.ErrBusy)
		}
		w := resume(t, m, tok, Options{Length: -1})
		if n, err := w.ReadFrom(bytes.NewReader(data[100*kiB:])); n == 0 || !errors.Is(err, drivers.ErrBusy) {
			t.Errorf("PATCH = %d, %v, want %v", n, err, drivers.ErrBusy)
		}
		next, err := w.Suspend(t.Context())
		w.Close()
		if took := time.Since(start); took > 4*envelope.SmallCallTimeout {
			t.Errorf("commit and PATCH took %v, want %v each", took, envelope.SmallCallTimeout)
		}
		wantIdle(t, m)
		hang = false
		_, size, statusErr := m.Status(t.Context(), next)
		if err != nil || statusErr != nil || size != 128*kiB {
			t.Fatalf("Suspend = %v, Status = %d, %v, want the full part in the record", err, size, statusErr)
		}
		wantCommit(t, m, next, data[size:], data)
	})
}

// TestSpendsLargeReferences checks that the end of a session in which records were
// taken over spends the large ones, and that they name the end.
func TestSpendsLargeReferences(t *testing.T) {
	for _, before := range []int64{0, 128 * kiB} { // without a part the newest record becomes the end, with one the end is a record
		m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
		data := randomBytes(104, before+127*kiB)
		tok := m.Start("r", digest.SHA256)
		if before > 0 {
			tok = patch(t, m, tok, data[:before])
		}
		tok = tails(t, m, tok, data[before:before+120*kiB], 70)
		d := digest.FromBytes(data)
		w := resume(t, m, tok, Options{Length: 7 * kiB, Commit: true, Digest: d})
		if _, err := w.ReadFrom(bytes.NewReader(data[before+120*kiB:])); err != nil {
			t.Fatal(err)
		}
		if err := seal(t.Context(), w, d); err != nil {
			t.Fatal(err)
		}
		c, err := w.Store(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantContent(t, m, c, data)
		w.Spend(t.Context(), d)
		w.Close()
		spent := 0
		for seq := 1; seq <= tok.Seq; seq++ {
			s, err := envelope.Read[sessionRecord](t.Context(), m.cfg.Bucket, m.cfg.Layout.SessionRecord(tok.ID, seq))
			if err != nil {
				t.Fatal(err)
			}
			if s.RawSize > largeTail {
				t.Errorf("record %d still has %d raw bytes, want it spent", seq, s.RawSize)
			}
			if s.Value.Kind != KindOpen {
				spent++
			}
		}
		if want := map[bool]int{true: 2, false: 1}[before == 0]; spent != want {
			t.Errorf("%d records are spent, want %d", spent, want)
		}
		// The newest record, and the one before, lead to the end.
		for _, seq := range []int{tok.Seq, tok.Seq - 1} {
			_, err := commit(t.Context(), m, tok.next(seq), data[before+120*kiB:], data)
			end, ok := errors.AsType[*EndedError](err)
			if seq == tok.Seq && (!ok || end.Digest != d) {
				t.Errorf("commit again from record %d = %v, want the end", seq, err)
			}
		}
	}
}

// TestReferenceFails checks that a request that cannot read an earlier record when
// its part is full records what came, with the content of the newest record, and
// takes memory for the tail once.
func TestReferenceFails(t *testing.T) {
	fail := false
	m := replica(t, &membucket.Store{Habits: smallS3()}, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if fail && c.Method == "Open" && strings.HasPrefix(c.Key, "uploads/") {
			return drivers.ErrBusy
		}
		return do(ctx)
	})
	data := randomBytes(105, 300*kiB)
	tok := patch(t, m, m.Start("r", digest.SHA256), data[:128*kiB+50])
	w := resume(t, m, tok, Options{Length: -1})
	fail = true
	if n, err := w.ReadFrom(bytes.NewReader(data[128*kiB+50:])); n == 0 || !errors.Is(err, drivers.ErrBusy) {
		t.Errorf("PATCH = %d, %v, want %v", n, err, drivers.ErrBusy)
	}
	held := w.p.client.Held()
	if err := w.receiver.loader.gather(t.Context(), false, nil); !errors.Is(err, drivers.ErrBusy) {
		t.Errorf("gather = %v, want %v", err, drivers.ErrBusy)
	}
	if w.p.client.Held() != held {
		t.Errorf("the Writer holds %d segments after a second failure, want %d", w.p.client.Held(), held)
	}
	next, err := w.Suspend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	wantIdle(t, m)
	fail = false
	_, size, err := m.Status(t.Context(), next)
	if err != nil || size != 256*kiB {
		t.Fatalf("Status = %d, %v, want the full part in the record", size, err)
	}
	wantCommit(t, m, next, data[size:], data)
}

// TestReferenceFailsAtTheEnd checks that a Seal that cannot read earlier records
// changes nothing, and succeeds when it is called again.
func TestReferenceFailsAtTheEnd(t *testing.T) {
	fail := false
	m := replica(t, &membucket.Store{Habits: smallS3()}, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if fail && c.Method == "Open" && strings.HasPrefix(c.Key, "uploads/") {
			return drivers.ErrBusy
		}
		return do(ctx)
	})
	data := randomBytes(106, 22*128*kiB)
	tok := patch(t, m, m.Start("r", digest.SHA256), data[:21*128*kiB])
	tok = patch(t, m, tok, data[21*128*kiB:])
	r := readRecord(t, m, tok).Value
	if len(r.Refs) == 0 || len(r.Parts) == 0 {
		t.Fatalf("record %d has %d references and %d parts, want some of both", tok.Seq, len(r.Refs), len(r.Parts))
	}
	d := digest.FromBytes(data)
	w := resume(t, m, tok, Options{Length: -1})
	fail = true
	lists := m.Memory().Lists
	if err := seal(t.Context(), w, d); !errors.Is(err, drivers.ErrBusy) {
		t.Errorf("Seal = %v, want %v", err, drivers.ErrBusy)
	}
	if got := m.Memory().Lists; got != lists {
		t.Errorf("%d bytes are left for lists, want %d as before", got, lists)
	}
	fail = false
	if err := seal(t.Context(), w, d); err != nil {
		t.Fatalf("Seal again = %v", err)
	}
	c, err := w.Store(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, m, c, data)
	w.Close()
	wantIdle(t, m)
}
