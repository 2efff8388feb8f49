package upload

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// readers return the same bytes in different ways.
var readers = map[string]func(io.Reader) io.Reader{
	"plain":              func(r io.Reader) io.Reader { return r },
	"halves":             iotest.HalfReader,
	"EOF with the last":  iotest.DataErrReader,
	"nothing in between": func(r io.Reader) io.Reader { return &pauses{from: r} },
}

// pauses returns no byte and no error at every other Read.
type pauses struct {
	from io.Reader
	n    int
}

func (p *pauses) Read(b []byte) (int, error) {
	if p.n++; p.n%2 == 0 {
		return 0, nil
	}
	return p.from.Read(b)
}

// partSizes returns the sizes of the parts and of the tail at the record of tok,
// those in the records that it refers to included.
func partSizes(t testing.TB, m *Manager, tok Token) (parts []int64, tail int64) {
	t.Helper()
	newest := readRecord(t, m, tok)
	tail = newest.RawSize
	for _, f := range newest.Value.Refs {
		s := readRecord(t, m, tok.next(f.Seq))
		if f.Raw > 0 && f.Raw != s.RawSize || f.Parts != len(s.Value.Parts) {
			t.Fatalf("record %d refers to %+v, which has %d raw bytes and %d parts", tok.Seq, f, s.RawSize, len(s.Value.Parts))
		}
		tail += f.Raw
		for _, p := range s.Value.Parts {
			parts = append(parts, p.Size)
		}
	}
	for _, p := range newest.Value.Parts {
		parts = append(parts, p.Size)
	}
	return parts, tail
}

func readRecord(t testing.TB, m *Manager, tok Token) envelope.Stored[sessionRecord] {
	t.Helper()
	s, r, err := m.read(t.Context(), tok)
	if err != nil {
		t.Fatalf("record %d: %v", tok.Seq, err)
	}
	r.Close()
	return s
}

// patchFrom sends r, which has n bytes, as a PATCH of unknown length.
func patchFrom(t testing.TB, m *Manager, tok Token, name string, r io.Reader, n int64) Token {
	t.Helper()
	w := resume(t, m, tok, Options{Length: -1})
	defer w.Close()
	if got, err := w.ReadFrom(r); got != n || err != nil {
		t.Fatalf("%s: ReadFrom = %d, %v, want %d", name, got, err, n)
	}
	next, err := w.Suspend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// TestPartBoundaries checks that the boundaries of the parts depend on the upload
// alone, not on how its bytes arrive, and that the rest is in the record.
func TestPartBoundaries(t *testing.T) {
	const part = 128 << 10
	for name, reader := range readers {
		for _, tt := range []struct {
			patches []int64
			parts   []int64
			tail    int64
		}{
			{[]int64{1}, nil, 1},
			{[]int64{part - 1}, nil, part - 1},
			{[]int64{part}, []int64{part}, 0},
			{[]int64{part + 1}, []int64{part}, 1},
			{[]int64{3*part + 5}, []int64{part, part, part}, 5},
			{[]int64{part, part, part}, []int64{part, part, part}, 0},
			{[]int64{10, part, 10}, []int64{part}, 20},
			{[]int64{part + 10, part, part - 10}, []int64{part, part, part}, 0},
			{[]int64{100_000, 100_000, 100_000}, []int64{part, part}, 300_000 - 2*part},
		} {
			m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
			tok := m.Start("r", digest.SHA256)
			var all []byte
			for i, n := range tt.patches {
				data := randomBytes(uint64(30+i), n)
				all = append(all, data...)
				tok = patchFrom(t, m, tok, name, reader(bytes.NewReader(data)), n)
			}
			parts, tail := partSizes(t, m, tok)
			if !slices.Equal(parts, tt.parts) || tail != tt.tail {
				t.Errorf("%s: PATCHes of %v make parts of %v and a tail of %d, want %v and %d", name, tt.patches, parts, tail, tt.parts, tt.tail)
			}
			wantCommit(t, m, tok, nil, all)
			wantIdle(t, m)
		}
	}
}

// TestFirstBodySetsPartSize checks that each chunk of a client becomes a part, if
// the first chunk has a suitable size.
func TestFirstBodySetsPartSize(t *testing.T) {
	m := replica(t, &membucket.Store{Habits: smallS3()}, nil, func(c *Config) { c.Memory, c.PartSize = 64*miB, 8*miB })
	const chunk = 5<<20 + 17
	tok, data := m.Start("r", digest.SHA256), randomBytes(33, 3*chunk)
	for i := range int64(3) {
		tok = patch(t, m, tok, data[i*chunk:(i+1)*chunk])
		if parts, tail := partSizes(t, m, tok); int64(len(parts)) != i+1 || parts[i] != chunk || tail != 0 {
			t.Errorf("after chunk %d: parts of %v and a tail of %d, want a part for each chunk", i+1, parts, tail)
		}
	}
	wantCommit(t, m, tok, nil, data)
}

// TestRepeatsStoreTheSame checks that an honest repeat of a PATCH stores the same
// bytes under the same part numbers, while the first PATCH is still running.
func TestRepeatsStoreTheSame(t *testing.T) {
	store := &membucket.Store{Habits: smallS3()}
	m := replica(t, store, nil)
	data := randomBytes(34, 700*kiB)
	tok := patch(t, m, m.Start("r", digest.SHA256), data[:200*kiB])
	stalled := resume(t, m, tok, Options{Length: -1}) // its client is gone
	if _, err := stalled.Write(data[200*kiB : 600*kiB]); err != nil {
		t.Fatal(err)
	}
	again := patch(t, m, tok, data[200*kiB:])
	if _, err := stalled.Write(data[600*kiB:]); err != nil {
		t.Fatal(err)
	}
	if _, err := stalled.Suspend(t.Context()); !errors.Is(err, ErrOutOfOrder) {
		t.Errorf("Suspend of the first = %v, want %v", err, ErrOutOfOrder)
	}
	stalled.Close()
	wantCommit(t, m, again, nil, data)
}

// TestNothingAfterSuspend checks that a suspended Writer refuses bytes and Seal,
// because its tail is released.
func TestNothingAfterSuspend(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		m := replica(t, store, nil)
		w := resume(t, m, m.Start("r", digest.SHA256), Options{Length: -1})
		if _, err := w.Write([]byte("before")); err != nil {
			t.Fatal(err)
		}
		tok, err := w.Suspend(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("after")); err == nil {
			t.Error("Write after Suspend = nil, want an error")
		}
		if err := seal(t.Context(), w, digest.FromString("before")); err == nil {
			t.Error("Seal after Suspend = nil, want an error")
		}
		if again, err := w.Suspend(t.Context()); again != tok || err != nil {
			t.Errorf("Suspend again = %+v, %v, want %+v", again, err, tok)
		}
		w.Close()
		if again, err := w.Suspend(t.Context()); again != tok || err == nil {
			t.Errorf("Suspend after Close = %+v, %v, want %+v and an error", again, err, tok)
		}
		if _, err := w.Write([]byte("after")); err == nil {
			t.Error("Write after Close = nil, want an error")
		}
		w.Close()
		wantCommit(t, m, tok, []byte(" and after"), []byte("before and after"))
		wantIdle(t, m)
	})
}

// TestFailedCommitKeepsNothing checks that a PUT with a body that fails leaves the
// upload as it was, so that the same PUT can be sent again.
func TestFailedCommitKeepsNothing(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		for _, before := range []int64{0, 100, 200 * kiB} {
			m := replica(t, store, nil)
			data := randomBytes(40, 600*kiB)
			tok := m.Start("r", digest.SHA256)
			if before > 0 {
				tok = patch(t, m, tok, data[:before])
			}
			w := resume(t, m, tok, Options{Length: 600*kiB - before, Commit: true, Digest: digest.FromBytes(data)})
			cut := io.MultiReader(bytes.NewReader(data[before:500*kiB]), iotest.ErrReader(io.ErrUnexpectedEOF))
			if _, err := w.ReadFrom(cut); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("ReadFrom = %v, want %v", err, io.ErrUnexpectedEOF)
			}
			w.Close()
			now, size, err := m.Status(t.Context(), tok)
			if err != nil || size != before || now != tok {
				t.Errorf("Status = %d, %v, want %d as before", size, err, before)
			}
			wantCommit(t, m, tok, data[before:], data)
			wantIdle(t, m)
		}
	})
}

// TestAlreadyStored checks that bytes that the store has are hashed and dropped.
// For a small body AlreadyStored is not called.
func TestAlreadyStored(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		counter := &drivertest.Counter{}
		m := replica(t, store, counter.Intercept)
		for _, size := range []int64{100, 3 * miB} {
			data := randomBytes(41, size)
			calls := 0
			stored := func(context.Context) (bool, error) {
				calls++
				return true, nil
			}
			counter.Reset()
			w := resume(t, m, m.Start("r", digest.SHA256), Options{Length: size, Commit: true, Digest: digest.FromBytes(data), AlreadyStored: stored})
			if _, err := w.ReadFrom(bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
			if err := seal(t.Context(), w, digest.FromString("other")); !errors.Is(err, ErrDigest) {
				t.Errorf("Seal with another digest = %v, want %v", err, ErrDigest)
			}
			if err := seal(t.Context(), w, digest.FromBytes(data)); err != nil {
				t.Errorf("Seal = %v, want success", err)
			}
			c, err := w.Store(t.Context())
			if err != nil || c.Dropped != (size > 128*kiB) || c.Size != size {
				t.Errorf("Store of %d bytes that the store has = %+v, %v", size, c, err)
			}
			w.Close()
			for _, call := range counter.Calls() {
				if call.Writes() {
					t.Errorf("%d bytes that the store has: call %v, want none that writes", size, call)
				}
			}
			if want := map[bool]int{true: 1, false: 0}[c.Dropped]; calls != want {
				t.Errorf("%d bytes: AlreadyStored is called %d times, want %d", size, calls, want)
			}
			wantIdle(t, m)
		}
	})
}

// TestPartsInParallel checks that Config.ParallelParts parts are stored concurrently, and
// not more.
func TestPartsInParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		now, most := 0, 0
		counted := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			if c.Method == "PutPart" {
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				time.Sleep(time.Second)
				defer func() {
					mu.Lock()
					now--
					mu.Unlock()
				}()
			}
			return do(ctx)
		}
		m := replica(t, &membucket.Store{Habits: smallS3()}, counted)
		data := randomBytes(42, 1200*kiB)
		start := time.Now()
		tok := patch(t, m, m.Start("r", digest.SHA256), data)
		if diff := cmp.Diff([]any{3, 3 * time.Second}, []any{most, time.Since(start)}); diff != "" {
			t.Errorf("concurrent parts, and the time for nine parts (-want +got):\n%s", diff)
		}
		wantCommit(t, m, tok, nil, data)
	})
}
