package upload

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
	"github.com/berthhq/berth/upload/budget"
)

func onlyMethod(name string) func(drivertest.Call) bool {
	return func(c drivertest.Call) bool { return c.Method == name }
}

// TestStreamedParts checks that a PATCH to a store that takes streams is one part
// and leaves no tail, unless the PATCH is short.
func TestStreamedParts(t *testing.T) {
	for name, reader := range readers {
		m := replica(t, &membucket.Store{Habits: streaming()}, nil)
		tok := m.Start("r", digest.SHA512)
		var all []byte
		for i, n := range []int64{10, 3 * miB, 16 * kiB, 2 * miB, 100} {
			data := randomBytes(uint64(50+i), n)
			all = append(all, data...)
			tok = patchFrom(t, m, tok, name, reader(bytes.NewReader(data)), n)
		}
		parts, tail := partSizes(t, m, tok)
		if len(parts) != 2 || parts[0] != 10+3*miB || parts[1] != 16*kiB+2*miB || tail != 100 {
			t.Errorf("%s: parts of %v and a tail of %d, want parts of 3 and 2 MiB, each with the tail before, and 100", name, parts, tail)
		}
		wantCommit(t, m, tok, nil, all)
		wantIdle(t, m)
	}
}

// TestStreamAfterLongTail continues after a tail that is large enough for a part,
// which is streamed before any byte arrives. The sizes of the parts must be
// fixed then too. Otherwise the next request would take the whole upload for one
// part.
func TestStreamAfterLongTail(t *testing.T) {
	store := &membucket.Store{Habits: streaming()}
	m := replica(t, store, nil)
	data := randomBytes(61, 3*miB)
	faulty := &drivertest.Faulty{Match: onlyMethod("StartUpload")}
	w := resume(t, replica(t, store, faulty.Intercept), m.Start("r", digest.SHA256), Options{Length: -1})
	if _, err := w.ReadFrom(bytes.NewReader(data[:miB])); !errors.Is(err, drivertest.ErrInjected) {
		t.Fatalf("ReadFrom = %v, want %v", err, drivertest.ErrInjected)
	}
	tok, err := w.Suspend(t.Context())
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	_, at := partSizes(t, m, tok)
	if at <= m.cfg.InlineMax {
		t.Fatalf("the tail has %d bytes, want more than %d", at, m.cfg.InlineMax)
	}
	tok = patch(t, m, tok, data[at:2*miB])
	tok = patch(t, m, tok, data[2*miB:])
	wantCommit(t, m, tok, nil, data)
}

// TestStreamHoldsLittle checks that a stream holds two segments, however large its
// part is.
func TestStreamHoldsLittle(t *testing.T) {
	m := replica(t, &membucket.Store{Habits: streaming()}, nil)
	most := 0
	watched := readerFunc(func(p []byte) (int, error) {
		most = max(most, m.Memory().Held)
		return len(p), nil
	})
	w := resume(t, m, m.Start("r", digest.SHA256), Options{Length: -1})
	if _, err := w.ReadFrom(io.LimitReader(watched, 8*miB)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if most != 2 {
		t.Errorf("a stream held %d segments, want 2", most)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestStreamClientFails checks that all bytes are kept that came before the client
// disconnected, at any offset, and that the error is the reader's.
func TestStreamClientFails(t *testing.T) {
	data := randomBytes(56, 1200*kiB)
	for name, reader := range readers {
		for _, n := range []int64{0, 1, 16 * kiB, 16*kiB + 1, 64 * kiB, 64*kiB + 1, miB + 7} {
			m := replica(t, &membucket.Store{Habits: streaming()}, nil)
			w := resume(t, m, m.Start("r", digest.SHA256), Options{Length: int64(len(data))})
			cause := errors.New("connection reset")
			got, err := w.ReadFrom(reader(io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(cause))))
			if got != n || !errors.Is(err, cause) {
				t.Fatalf("%s: ReadFrom of %d bytes and a failure = %d, %v, want %v", name, n, got, err, cause)
			}
			tok, err := w.Suspend(t.Context())
			if err != nil {
				t.Fatalf("Suspend after %d bytes: %v", n, err)
			}
			w.Close()
			_, size, err := m.Status(t.Context(), tok)
			if err != nil || size != n {
				t.Fatalf("%s: Status after %d bytes = %d, %v", name, n, size, err)
			}
			wantCommit(t, m, tok, data[n:], data)
			wantIdle(t, m)
		}
	}
}

// TestStreamStoreFails checks that the bytes of a part that the store failed to
// take are lost, but not the tail before them, and that the upload continues
// from there.
func TestStreamStoreFails(t *testing.T) {
	for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Unanswered} {
		for _, before := range []int64{0, 100, 100 * kiB} {
			for nth := 1; nth <= 2; nth++ {
				synctest.Test(t, func(t *testing.T) {
					store := &membucket.Store{Habits: streaming()}
					good := replica(t, store, nil)
					data := randomBytes(57, before+2*miB)
					tok := good.Start("r", digest.SHA512)
					if before > 0 {
						tok = patch(t, good, tok, data[:before])
					}
					faulty := &drivertest.Faulty{Mode: mode, Nth: nth, Match: onlyMethod("StreamPart")}
					bad := replica(t, store, faulty.Intercept)
					w := resume(t, bad, tok, Options{Length: -1})
					first := before + miB // then a record is due, and the second part follows
					body := io.MultiReader(bytes.NewReader(data[before:first]), &sleeper{40 * time.Second}, bytes.NewReader(data[first:]))
					if _, err := w.ReadFrom(body); !errors.Is(err, drivertest.ErrInjected) {
						t.Fatalf("ReadFrom = %v, want %v", err, drivertest.ErrInjected)
					}
					next, err := w.Suspend(t.Context())
					if !errors.Is(err, drivertest.ErrInjected) {
						t.Errorf("Suspend = %v, want %v", err, drivertest.ErrInjected)
					}
					w.Close()
					wantIdle(t, bad)
					now, size, err := good.Status(t.Context(), next)
					if err != nil || now != next {
						t.Fatalf("Status = %+v, %v, want %+v", now, err, next)
					}
					least := before
					if nth == 2 {
						least = first
					}
					if size < least || size > least+2*budget.SegmentSize || nth == 1 && before < 16*kiB && size == before {
						t.Errorf("%d bytes before, StreamPart %d %v: %d bytes are kept, want %d and the tail", before, nth, mode, size, least)
					}
					wantCommit(t, good, now, data[size:], data)
				})
			}
		}
	}
}

// sleeper is an empty reader that sleeps.
type sleeper struct{ d time.Duration }

func (s *sleeper) Read([]byte) (int, error) {
	time.Sleep(s.d)
	return 0, io.EOF
}

// TestCheckpoints checks that a long PATCH creates a record about every 30 s, so
// that a killed process costs its client little.
func TestCheckpoints(t *testing.T) {
	eachKind(t, func(t *testing.T, habits membucket.Habits) {
		synctest.Test(t, func(t *testing.T) {
			store := &membucket.Store{Habits: habits}
			m, other := replica(t, store, nil), replica(t, store, nil)
			data := randomBytes(58, 20*miB)
			s := receive(t.Context(), m, newSlowBody(data, int(64*kiB), time.Second))
			var last int64
			for i := range 8 {
				time.Sleep(36 * time.Second)
				now, size, err := other.Status(t.Context(), s.tok)
				if err != nil || size <= last {
					t.Fatalf("after %d s: Status = %d, %v, want more than %d", 36*(i+1), size, err, last)
				}
				last = size
				if i == 5 { // as if the process had been killed now
					w := resume(t, other, now, Options{Length: -1})
					if _, err := w.Write(data[size:]); err != nil {
						t.Fatal(err)
					}
					if got := w.Digest(); got != digest.FromBytes(data) {
						t.Errorf("Digest after continuing from %d = %s, want %s", size, got, digest.FromBytes(data))
					}
					w.Close()
				}
			}
			close(s.body.end)
			<-s.done
			if s.err != nil || s.kept != nil {
				t.Fatalf("ReadFrom = %v, Suspend = %v", s.err, s.kept)
			}
			wantCommit(t, m, s.next, data[s.size:], data)
			wantIdle(t, m)
		})
	})
}

// TestCommitIsNotRecorded checks that a request that commits creates no records,
// however long it takes.
func TestCommitIsNotRecorded(t *testing.T) {
	eachKind(t, func(t *testing.T, habits membucket.Habits) {
		synctest.Test(t, func(t *testing.T) {
			counter := &drivertest.Counter{}
			m := replica(t, &membucket.Store{Habits: habits}, counter.Intercept)
			data := randomBytes(59, 6*miB)
			body := newSlowBody(data, int(64*kiB), time.Second)
			time.AfterFunc(10*time.Minute, func() { close(body.end) })
			counter.Reset()
			w := resume(t, m, m.Start("r", digest.SHA256), Options{Length: int64(len(data)), Commit: true, Digest: digest.FromBytes(data)})
			defer w.Close()
			if _, err := w.ReadFrom(body); err != nil {
				t.Fatal(err)
			}
			if err := seal(t.Context(), w, digest.FromBytes(data)); err != nil {
				t.Fatal(err)
			}
			c, err := w.Store(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if n := counter.ByMethod()["Create"]; n != 0 {
				t.Errorf("%d records were created, want 0", n)
			}
			wantContent(t, m, c, data)
		})
	})
}

// TestStoreIsSlow checks that a client is not cut off while the store makes its
// part durable.
func TestStoreIsSlow(t *testing.T) {
	eachKind(t, func(t *testing.T, habits membucket.Habits) {
		synctest.Test(t, func(t *testing.T) {
			slow := func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
				err := do(ctx)
				if c.Method == "StreamPart" || c.Method == "PutPart" || c.Method == "StartUpload" {
					time.Sleep(time.Minute)
				}
				return err
			}
			m := replica(t, &membucket.Store{Habits: habits}, slow)
			interrupted := false
			data := randomBytes(60, 1200*kiB)
			done := make(chan error)
			go func() {
				w := resume(t, m, m.Start("r", digest.SHA256), Options{Length: -1, Interrupt: func() { interrupted = true }})
				defer w.Close()
				_, err := w.ReadFrom(bytes.NewReader(data))
				if err == nil {
					_, err = w.Suspend(t.Context())
				}
				done <- err
			}()
			synctest.Wait()
			all := takeAll(t, m)
			all.client.Pause()
			runner := want(t, m, m.Memory().Reserve)
			runner.client.Pause()
			behind := want(t, m, m.Memory().Reserve)
			time.Sleep(50 * time.Second)
			for _, b := range []*held{all, runner} {
				b.giveBack()
			}
			err := <-done
			synctest.Wait()
			behind.giveBack()
			if err != nil || interrupted {
				t.Errorf("PATCH to a slow store = %v, interrupted %v, want success", err, interrupted)
			}
			wantIdle(t, m)
		})
	})
}
