package upload

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// readers are bodies of all manners: what they give is the same.
var readers = map[string]func(io.Reader) io.Reader{
	"plain":              func(r io.Reader) io.Reader { return r },
	"halves":             iotest.HalfReader,
	"EOF with the last":  iotest.DataErrReader,
	"nothing in between": func(r io.Reader) io.Reader { return &pauses{from: r} },
}

// pauses gives nothing and no error at every other Read.
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

// partSizes returns the sizes of all parts that the newest record knows of, and
// of the tail, in whatever records they are.
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

// patchFrom sends what r gives, n bytes, as a request of unknown length.
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

// TestPartBoundaries: they depend on the upload alone, not on how its bytes
// come, and what is left over is in the record.
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

// TestFirstBodySetsPartSize: a client that sends chunks of a good size has each
// of them as a part.
func TestFirstBodySetsPartSize(t *testing.T) {
	m := replica(t, &membucket.Store{Habits: smallS3()}, nil, func(c *Config) { c.Memory, c.PartSize = 64*miB, 8*miB })
	const chunk = 5<<20 + 17
	tok, data := m.Start("r", digest.SHA256), randomBytes(33, 3*chunk)
	for i := range int64(3) {
		tok = patch(t, m, tok, data[i*chunk:(i+1)*chunk])
		if parts, tail := partSizes(t, m, tok); int64(len(parts)) != i+1 || parts[i] != chunk || tail != 0 {
			t.Errorf("after chunk %d: parts of %v and a tail of %d, want one for each", i+1, parts, tail)
		}
	}
	wantCommit(t, m, tok, nil, data)
}

// TestRepeatsStoreTheSame: an honest repeat of a PATCH stores the same bytes
// under the same numbers, however it is cut up on the way.
func TestRepeatsStoreTheSame(t *testing.T) {
	store := &membucket.Store{Habits: smallS3()}
	m := replica(t, store, nil)
	data := randomBytes(34, 700*kiB)
	tok := patch(t, m, m.Start("r", digest.SHA256), data[:200*kiB])
	stalled := resume(t, m, tok, Options{Length: -1}) // its client is gone, and it goes on
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

// TestNothingAfterSuspend: a writer that was suspended takes nothing, and says
// so, since its tail is gone.
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

// TestTooLarge: past Config.MaxSize at once where the length is known,
// and else when it gets there; past what the store can hold likewise.
func TestTooLarge(t *testing.T) {
	few := smallS3()
	few.Limits.MaxParts = 3
	for name, habits := range map[string]membucket.Habits{"S3": smallS3(), "directory": streaming(), "three parts": few} {
		t.Run(name, func(t *testing.T) {
			const most = 300 << 10
			m := replica(t, &membucket.Store{Habits: habits}, nil, func(c *Config) {
				if name != "three parts" {
					c.MaxBlobSize = most
				}
				c.Memory = miB // the largest part is 128 KiB: three of them are more than most
			})
			over := int64(400) * kiB
			if name != "three parts" {
				over = most + 1
				if w, err := m.Resume(t.Context(), m.Start("r", digest.SHA256), Options{Deadline: newDeadline(), Length: over}); !errors.Is(err, ErrTooLarge) {
					t.Errorf("Resume with %d bytes to come = %v, %v, want %v", over, w, err, ErrTooLarge)
				}
				w := resume(t, m, m.Start("r", digest.SHA256), Options{Length: most})
				if n, err := w.ReadFrom(bytes.NewReader(randomBytes(35, most))); n != most || err != nil {
					t.Errorf("ReadFrom of the most = %d, %v", n, err)
				}
				w.Close()
			}
			w := resume(t, m, m.Start("r", digest.SHA256), Options{Length: over - 1}) // it says less than it has
			if _, err := w.ReadFrom(bytes.NewReader(randomBytes(35, over))); !errors.Is(err, ErrTooLarge) {
				t.Errorf("ReadFrom of %d bytes = %v, want %v", over, err, ErrTooLarge)
			}
			w.Close()
			w = resume(t, m, m.Start("r", digest.SHA256), Options{Length: -1})
			if _, err := w.ReadFrom(bytes.NewReader(randomBytes(35, over))); !errors.Is(err, ErrTooLarge) {
				t.Errorf("ReadFrom of %d bytes, nobody knew = %v, want %v", over, err, ErrTooLarge)
			}
			w.Close()
			wantIdle(t, m)
		})
	}
}

// TestTooLargeAtOnce: a length that no parts can hold is refused before
// anything is stored.
func TestTooLargeAtOnce(t *testing.T) {
	counter := &drivertest.Counter{}
	habits := smallS3()
	habits.Limits.MaxParts = 10
	m := replica(t, &membucket.Store{Habits: habits}, counter.Intercept)
	counter.Reset()
	w := resume(t, m, m.Start("r", digest.SHA256), Options{Length: 10*m.largest + 1})
	n, err := w.ReadFrom(bytes.NewReader(randomBytes(36, 10*m.largest+1)))
	if n != 0 || !errors.Is(err, ErrTooLarge) || counter.Total() != 0 {
		t.Errorf("ReadFrom = %d, %v, after %v; want %v at once", n, err, counter.Calls(), ErrTooLarge)
	}
	w.Close()

	// Nor are they later, when the parts have their sizes.
	tok := patch(t, m, m.Start("r", digest.SHA256), randomBytes(36, 200*kiB))
	w, err = m.Resume(t.Context(), tok, Options{Deadline: newDeadline(), Length: 10 * m.largest})
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("Resume with %d bytes to come after 200 KiB = %v, want %v", 10*m.largest, err, ErrTooLarge)
	}
	if err == nil {
		w.Close()
	}
}

// TestStoreHangs: a store that never answers holds up a request for storeTimeout
// only, and then its memory is free again.
func TestStoreHangs(t *testing.T) {
	for _, method := range []string{"StartUpload", "PutPart", "Create", "Complete"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var m *Manager
				m = replica(t, &membucket.Store{Habits: smallS3()}, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
					if c.Method == method && m != nil {
						<-ctx.Done()
						return ctx.Err()
					}
					return do(ctx)
				})
				data := randomBytes(38, 200*kiB)
				start := time.Now()
				w := resume(t, m, m.Start("r", digest.SHA256), Options{Length: int64(len(data))})
				_, err := w.ReadFrom(bytes.NewReader(data))
				if err == nil {
					err = seal(t.Context(), w, digest.FromBytes(data))
				}
				if err == nil {
					_, err = w.Store(t.Context())
				}
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("it ended with %v, want %v", err, context.DeadlineExceeded)
				}
				w.Close()
				if took := time.Since(start); took != storeTimeout {
					t.Errorf("it took %v, want %v", took, storeTimeout)
				}
				wantIdle(t, m)
			})
		})
	}
}

// TestLooksHang: nor is anybody who only asks held up for long.
func TestLooksHang(t *testing.T) {
	status := func(ctx context.Context, m *Manager, tok Token) error { _, _, err := m.Status(ctx, tok); return err }
	for method, ask := range map[string]func(ctx context.Context, m *Manager, tok Token) error{
		"List": status,
		"Open": status,
		"Stat": func(ctx context.Context, m *Manager, _ Token) error {
			_, err := m.completed(ctx, drivers.Upload{Key: "data/new/x"}, Content{})
			return err
		},
	} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hang := false
				m := replica(t, &membucket.Store{Habits: smallS3()}, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
					if c.Method == method && hang {
						<-ctx.Done()
						return ctx.Err()
					}
					return do(ctx)
				})
				tok := patch(t, m, m.Start("r", digest.SHA256), []byte("some"))
				hang = true
				start := time.Now()
				if err := ask(t.Context(), m, tok); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, drivers.ErrBusy) {
					t.Errorf("it ended with %v, want a store that is busy", err)
				}
				if took := time.Since(start); took != envelope.SmallCallTimeout {
					t.Errorf("it took %v, want %v", took, envelope.SmallCallTimeout)
				}
			})
		})
	}
}

// TestLongLists: what is known of many parts has a share of the memory. Where
// there is no room for it, the client is told to come again, unless it is alone.
func TestLongLists(t *testing.T) {
	m := replica(t, &membucket.Store{Habits: streaming()}, nil)
	const parts = 500 // some 25 kB of JSON; there is room for 128 KiB
	w := resume(t, m, m.Start("r", digest.SHA256), Options{Length: -1})
	if err := w.receiver.stream(strings.NewReader(strings.Repeat("x", 17<<10))); err != io.EOF {
		t.Fatal(err)
	}
	for len(w.p.parts.done) < parts { // as if as many requests had come
		w.p.parts.done = append(w.p.parts.done, w.p.parts.done[0])
		w.p.parts.done[len(w.p.parts.done)-1].Number = len(w.p.parts.done)
		w.p.size += w.p.parts.done[0].Size
	}
	tok, err := w.Suspend(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	wantIdle(t, m)

	var open []*Writer
	share := m.Memory().Lists
	list := share
	for {
		w, err := m.Resume(t.Context(), tok, Options{Deadline: newDeadline(), Length: -1})
		if err != nil {
			if !errors.Is(err, drivers.ErrBusy) {
				t.Errorf("Resume of one too many = %v, want %v", err, drivers.ErrBusy)
			}
			break
		}
		if open = append(open, w); len(open) == 1 {
			list -= m.Memory().Lists
		}
		if len(open) > 100 {
			t.Error("100 of them are in memory")
			break
		}
	}
	if n := len(open); n == 0 || int64(n) != share/list {
		t.Errorf("%d of them fit, want as many as there is room for", n)
	}
	for _, w := range open {
		w.Close()
	}
	wantIdle(t, m)
}

// TestLessMemory: a session whose parts are too large for this replica is
// another one's.
func TestLessMemory(t *testing.T) {
	store := &membucket.Store{Habits: smallS3()}
	large := replica(t, store, nil, func(c *Config) { c.Memory, c.PartSize = 16*miB, 2*miB })
	small := replica(t, store, nil)
	data := randomBytes(37, 5*miB)
	for _, n := range []int64{miB, 2 * miB, 3 * miB} {
		tok := patch(t, large, large.Start("r", digest.SHA256), data[:n])
		w, err := small.Resume(t.Context(), tok, Options{Deadline: newDeadline(), Length: -1})
		if !errors.Is(err, drivers.ErrBusy) {
			t.Errorf("Resume at %d by a replica with less memory = %v, want %v", n, err, drivers.ErrBusy)
		}
		if err == nil {
			w.Close()
		}
		wantIdle(t, small)
		wantCommit(t, large, tok, data[n:], data)
	}
}

// reversed lets parts be stored only once all of a batch have come, and then in
// the reverse order, and fails some of them. It is for bubbles.
type reversed struct {
	mu   sync.Mutex
	wait map[int]chan struct{}
	fail map[int]bool // by number
}

func (r *reversed) intercept(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
	if c.Method != "PutPart" {
		return do(ctx)
	}
	r.mu.Lock()
	turn := make(chan struct{})
	r.wait[c.Number] = turn
	first := len(r.wait) == 1
	r.mu.Unlock()
	if first {
		go func() {
			time.Sleep(time.Second) // until all that can have come
			r.mu.Lock()
			defer r.mu.Unlock()
			var numbers []int
			for n := range r.wait {
				numbers = append(numbers, n)
			}
			slices.Sort(numbers)
			for i, n := range slices.Backward(numbers) {
				turn := r.wait[n]
				time.AfterFunc(time.Duration(len(numbers)-i)*time.Millisecond, func() { close(turn) })
			}
			clear(r.wait)
		}()
	}
	<-turn
	if r.fail[c.Number] {
		return drivertest.ErrInjected
	}
	return do(ctx)
}

// TestFailedParts: some of an upload's parts cannot be stored, while others are
// under way that finish in another order. What is recorded then is what is
// stored, without a gap; and an upload that goes on from there has the right
// digest.
func TestFailedParts(t *testing.T) {
	const part, parts = 64 << 10, 6
	smaller := func(c *Config) { c.PartSize = part }
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		for _, before := range []int64{0, 100, 5000, part, part + 5000} { // recorded by an earlier request
			for k := 1; k <= parts; k++ {
				for _, also := range []int{0, k + 2} {
					synctest.Test(t, func(t *testing.T) {
						store := &membucket.Store{Habits: smallS3()}
						good := replica(t, store, nil, smaller)
						data := randomBytes(38, parts*part+200)
						tok := good.Start("r", alg)
						if before > 0 {
							tok = patch(t, good, tok, data[:before])
						}
						r := &reversed{wait: map[int]chan struct{}{}, fail: map[int]bool{k: true, also: true}}
						bad := replica(t, store, r.intercept, smaller)
						w := resume(t, bad, tok, Options{Length: -1})
						_, readErr := w.ReadFrom(bytes.NewReader(data[before:]))
						next, err := w.Suspend(t.Context())
						w.Close()
						wantIdle(t, bad)

						stored := max(int64(k-1)*part, before)
						if int64(k)*part <= before { // that part was there before
							if also == 0 && err != nil {
								t.Fatalf("Suspend with nothing failed = %v", err)
							}
							return
						}
						if !errors.Is(err, drivertest.ErrInjected) || readErr != nil && !errors.Is(readErr, drivertest.ErrInjected) {
							t.Fatalf("part %d failed: ReadFrom = %v, Suspend = %v, want %v", k, readErr, err, drivertest.ErrInjected)
						}
						now, size, err := good.Status(t.Context(), next)
						if err != nil || size != stored || now != next {
							t.Fatalf("%d before, parts %d and %d failed: Status = %d, %v, want %d", before, k, also, size, err, stored)
						}
						wantCommit(t, good, now, data[size:], data)
					})
					if t.Failed() {
						return
					}
				}
			}
		}
	}
}

// TestFailedStart: where the upload can't be started, what came within the
// first part is kept.
func TestFailedStart(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		faulty := &drivertest.Faulty{Nth: 1, Match: func(c drivertest.Call) bool { return c.Method == "StartUpload" }}
		m := replica(t, store, faulty.Intercept)
		data := randomBytes(39, 200*kiB)
		w := resume(t, m, m.Start("r", digest.SHA256), Options{Length: -1})
		if _, err := w.ReadFrom(bytes.NewReader(data)); !errors.Is(err, drivertest.ErrInjected) {
			t.Fatalf("ReadFrom = %v, want %v", err, drivertest.ErrInjected)
		}
		tok, err := w.Suspend(t.Context())
		if err != nil && !errors.Is(err, drivertest.ErrInjected) {
			t.Fatal(err)
		}
		w.Close()
		_, size, err := m.Status(t.Context(), tok)
		if err != nil || size == 0 {
			t.Errorf("Status = %d, %v, want what came", size, err)
		}
		wantCommit(t, m, tok, data[size:], data)
		wantIdle(t, m)
	})
}

// TestFinalKeepsNothing: a request that was to commit and is cut off leaves the
// upload as it was, so that the same one can be sent again.
func TestFinalKeepsNothing(t *testing.T) {
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

// TestKnown: bytes that the store has are hashed and dropped, and those of a
// small body are not even asked for.
func TestKnown(t *testing.T) {
	eachHabit(t, func(t *testing.T, store *membucket.Store) {
		counter := &drivertest.Counter{}
		m := replica(t, store, counter.Intercept)
		for _, size := range []int64{100, 3 * miB} {
			data := randomBytes(41, size)
			asked := 0
			known := func(context.Context) (bool, error) {
				asked++
				return true, nil
			}
			counter.Reset()
			w := resume(t, m, m.Start("r", digest.SHA256), Options{Length: size, Commit: true, Digest: digest.FromBytes(data), AlreadyStored: known})
			if _, err := w.ReadFrom(bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
			if err := seal(t.Context(), w, digest.FromString("other")); !errors.Is(err, ErrDigest) {
				t.Errorf("Seal with another digest = %v, want %v", err, ErrDigest)
			}
			if err := seal(t.Context(), w, digest.FromBytes(data)); err != nil {
				t.Errorf("Seal = %v", err)
			}
			c, err := w.Store(t.Context())
			if err != nil || c.Dropped != (size > 128*kiB) || c.Size != size {
				t.Errorf("Store of %d bytes that are known = %+v, %v", size, c, err)
			}
			w.Close()
			for _, call := range counter.Calls() {
				if call.Writes() {
					t.Errorf("%d bytes that are known: %v", size, call)
				}
			}
			if want := map[bool]int{true: 1, false: 0}[c.Dropped]; asked != want {
				t.Errorf("%d bytes: asked %d times, want %d", size, asked, want)
			}
			wantIdle(t, m)
		}
	})
}

// TestPartsInParallel: as many as are allowed are under way at once, and no
// more.
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
			t.Errorf("parts at once, and time for nine of them, -want +got:\n%s", diff)
		}
		wantCommit(t, m, tok, nil, data)
	})
}
