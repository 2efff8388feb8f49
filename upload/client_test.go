package upload

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// slowBody gives its bytes at a pace, and then stalls until it is interrupted
// or ended. It is for bubbles.
type slowBody struct {
	data  []byte
	piece int           // bytes in a Read
	every time.Duration // between two

	end         chan struct{} // closed for io.EOF
	interrupted chan struct{}
	once        sync.Once
}

var errInterrupted = errors.New("interrupted")

func newSlowBody(data []byte, piece int, every time.Duration) *slowBody {
	return &slowBody{data: data, piece: piece, every: every, end: make(chan struct{}), interrupted: make(chan struct{})}
}

func (s *slowBody) interrupt() { s.once.Do(func() { close(s.interrupted) }) }

func (s *slowBody) Read(p []byte) (int, error) {
	var next <-chan time.Time // nil, for never, when all is sent
	if len(s.data) > 0 {
		next = time.After(s.every)
	}
	select {
	case <-next:
		n := copy(p[:min(len(p), s.piece)], s.data)
		s.data = s.data[n:]
		return n, nil
	case <-s.end:
		return 0, io.EOF
	case <-s.interrupted:
		return 0, errInterrupted
	}
}

// session is an upload under way.
type session struct {
	tok  Token
	body *slowBody
	done chan struct{}

	next Token // after it is done
	size int64
	err  error // of ReadFrom
	kept error // of Suspend
}

// receive takes body in, as a PATCH.
func receive(ctx context.Context, m *Manager, body *slowBody) *session {
	s := &session{tok: m.Start("r", digest.SHA256), body: body, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		var w *Writer
		if w, s.err = m.Resume(ctx, s.tok, Options{Deadline: newDeadline(), Length: -1, Interrupt: body.interrupt}); s.err != nil {
			return
		}
		defer w.Close()
		_, s.err = w.ReadFrom(body)
		s.next, s.kept = w.Suspend(ctx)
		s.size = w.Size()
	}()
	return s
}

func isDone(s *session) bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// TestSlowClientsKeepTheirMemory: as long as nobody waits, a client may take all
// the time it likes.
func TestSlowClientsKeepTheirMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
		data := randomBytes(1, 100)
		s := receive(t.Context(), m, newSlowBody(data, 1, 90*time.Second))
		time.Sleep(2 * time.Hour)
		if isDone(s) {
			t.Fatalf("it was cut off: %v", s.err)
		}
		close(s.body.end)
		time.Sleep(time.Hour)
		<-s.done
		if s.err != nil || s.kept != nil || s.size == 0 {
			t.Errorf("after %d bytes: %v, %v", s.size, s.err, s.kept)
		}
		wantIdle(t, m)
	})
}

// TestSlowClientsAreCutOff: once an upload waits for memory, those below 64
// KiB/s go, the idlest first, and no others; what they have sent is kept.
func TestSlowClientsAreCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// A part takes longer than the 10 s over which clients are watched.
		m := replica(t, &membucket.Store{Habits: smallS3()}, nil, func(c *Config) { c.Memory, c.PartSize = 16*miB, miB })
		fast := receive(t.Context(), m, newSlowBody(randomBytes(3, 20*miB), int(64*kiB), 800*time.Millisecond))
		slow := receive(t.Context(), m, newSlowBody(randomBytes(4, miB), int(2*kiB), time.Second))
		time.Sleep(15 * time.Second)
		stalled := receive(t.Context(), m, newSlowBody(randomBytes(5, 1), 1, time.Second))
		time.Sleep(25 * time.Second)
		synctest.Wait()

		all := takeAll(t, m)
		runner, waiting := want(t, m, 1), want(t, m, m.Memory().Reserve)
		time.Sleep(12 * time.Second) // one that just began a part has 10 s
		synctest.Wait()
		if !isDone(stalled) || !isDone(slow) {
			t.Errorf("cut off are the stalled client: %v, the slow one: %v; want both", isDone(stalled), isDone(slow))
		}
		if isDone(fast) {
			t.Errorf("the fast client was cut off: %v", fast.err)
		}
		for _, s := range []*session{stalled, slow} {
			if !isDone(s) {
				continue
			}
			_, size, err := m.Status(t.Context(), s.next)
			if !errors.Is(s.err, ErrCut) || s.kept != nil || err != nil || size != s.size || size == 0 {
				t.Errorf("cut off with %v, Suspend %v; of %d bytes %d are kept, %v", s.err, s.kept, s.size, size, err)
			}
		}
		runner.giveBack()
		all.giveBack()
		synctest.Wait()
		if !waiting.done {
			t.Error("the one that waited does so still")
		}
		waiting.giveBack()
		time.Sleep(time.Minute)
		if isDone(fast) {
			t.Errorf("the fast client was cut off when nobody waited: %v", fast.err)
		}
		close(fast.body.end)
		<-fast.done
		wantIdle(t, m)
	})
}

// TestStallingClients: 500 clients that stall share 64 MiB. A fast one gets
// through, and every byte that the others have sent is kept.
func TestStallingClients(t *testing.T) {
	for name, habits := range map[string]membucket.Habits{"S3": membucket.S3(), "directory": streaming()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := replica(t, &membucket.Store{Habits: habits}, nil, func(c *Config) { c.Memory, c.PartSize = 64*miB, 6*miB })
				data := randomBytes(6, 130*kiB)
				var stalling []*session
				for range 500 {
					stalling = append(stalling, receive(t.Context(), m, newSlowBody(data, 100_000, time.Millisecond)))
				}
				time.Sleep(time.Second)
				synctest.Wait()

				all := randomBytes(7, 13*miB)
				start := time.Now()
				wantCommit(t, m, patch(t, m, m.Start("r", digest.SHA256), all), nil, all)
				// In the bubble's time. All that wait before it get a turn, and
				// few at a time hold it up.
				if took := time.Since(start); took > 8*time.Minute {
					t.Errorf("the fast client took %v", took)
				}
				for _, s := range stalling {
					close(s.body.end)
				}
				cut := 0
				for i, s := range stalling {
					<-s.done
					if s.err != nil && !errors.Is(s.err, ErrCut) {
						t.Fatalf("client %d: %v, want success or %v", i, s.err, ErrCut)
					}
					if s.err != nil {
						cut++
					}
					tok, size, err := m.Status(t.Context(), s.tok)
					if err != nil || s.kept != nil || size != s.size {
						t.Fatalf("client %d: %d bytes of %d are kept, %v, %v", i, size, s.size, s.kept, err)
					}
					if i%50 == 0 { // they can go on
						wantCommit(t, m, tok, data[size:], data)
					}
				}
				t.Logf("%d of 500 were cut off", cut)
				wantIdle(t, m)
			})
		})
	}
}

// TestStreamsGetThrough: more clients stream at a modest pace than there is
// memory for at a time. None holds what another one needs in order to go on.
func TestStreamsGetThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := replica(t, &membucket.Store{Habits: streaming(), Discard: true}, nil, func(c *Config) { c.Memory = 4 * miB })
		data := randomBytes(9, miB)
		start := time.Now()
		var wg sync.WaitGroup
		for range 80 {
			wg.Go(func() {
				body := newSlowBody(data, 32<<10, 100*time.Millisecond) // 4 s
				close(body.end)
				w, err := m.Resume(t.Context(), m.Start("r", digest.SHA256), Options{Deadline: newDeadline(), Length: int64(len(data)), Commit: true, Digest: digest.FromBytes(data), Interrupt: body.interrupt})
				if err != nil {
					t.Error(err)
					return
				}
				defer w.Close()
				if _, err := w.ReadFrom(&untilEmpty{body}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took > time.Minute {
			t.Errorf("80 clients that need 4 s each took %v", took)
		}
		wantIdle(t, m)
	})
}

// untilEmpty ends when all its bytes are sent.
type untilEmpty struct{ *slowBody }

func (u *untilEmpty) Read(p []byte) (int, error) {
	if len(u.data) == 0 {
		return 0, io.EOF
	}
	time.Sleep(u.every)
	n := copy(p[:min(len(p), u.piece)], u.data)
	u.data = u.data[n:]
	return n, nil
}

// TestSlowStoreCutsNobody: while the store takes its time over a part that the
// runner's client has sent, that client may be silent, or has no choice.
func TestSlowStoreCutsNobody(t *testing.T) {
	data := randomBytes(8, 4*miB)
	for name, tt := range map[string]struct {
		habits membucket.Habits
		body   func(part int64) io.Reader
	}{
		// It is silent after the first byte of the second part.
		"S3": {smallS3(), func(part int64) io.Reader {
			return io.MultiReader(bytes.NewReader(data[:part+1]), &pausing{5 * time.Second}, bytes.NewReader(data[part+1:]))
		}},
		// It is kept waiting at the end of the first part, after 30 s.
		"directory": {streaming(), func(int64) io.Reader {
			return &untilEmpty{newSlowBody(data, 64<<10, 600*time.Millisecond)}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := replica(t, &membucket.Store{Habits: tt.habits}, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
					err := do(ctx)
					if c.Number > 0 {
						time.Sleep(9 * time.Second)
					}
					return err
				}, func(c *Config) { c.ParallelParts = 1 })
				total := m.Memory().Free
				all := takeAll(t, m)
				done := make(chan error, 1)
				go func() {
					w := resume(t, m, m.Start("r", digest.SHA256), Options{Length: -1, Interrupt: func() {}})
					defer w.Close()
					_, err := w.ReadFrom(tt.body(m.cfg.PartSize))
					done <- err
				}()
				time.Sleep(time.Second) // it is the runner
				all.giveBack()
				synctest.Wait()
				behind := newHeld(m)
				granted := make(chan error)
				go func() { granted <- behind.Reserve(t.Context(), total) }()
				time.Sleep(8 * time.Second)
				select {
				case err := <-done:
					t.Fatalf("ReadFrom = %v", err)
				default:
				}
				if name == "S3" { // the parts that follow need what the one behind waits for
					m.Drain()
				}
				if err := <-granted; err != nil {
					t.Error(err)
				}
				behind.giveBack()
				if err := <-done; err != nil && name != "S3" {
					t.Errorf("ReadFrom = %v", err)
				}
				synctest.Wait()
				wantIdle(t, m)
			})
		})
	}
}

// pausing has nothing to give, after a time.
type pausing struct{ time time.Duration }

func (p *pausing) Read([]byte) (int, error) {
	time.Sleep(p.time)
	return 0, io.EOF
}

// TestInterruptOnlyWhileReading: Interrupt belongs to a reader, and is called
// only while that is read, however often and whenever the writer is cut off.
func TestInterruptOnlyWhileReading(t *testing.T) {
	for name, habits := range map[string]membucket.Habits{"S3": smallS3(), "directory": streaming()} {
		t.Run(name, func(t *testing.T) {
			m := replica(t, &membucket.Store{Habits: habits}, nil)
			for i := range 100 {
				var reading atomic.Bool
				stop := make(chan struct{})
				var wg sync.WaitGroup
				opts := Options{Length: -1, Interrupt: func() {
					if !reading.Load() {
						t.Error("Interrupt was called when nobody reads")
					}
				}}
				w := resume(t, m, m.Start("r", digest.SHA256), opts)
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
							m.Drain()
						}
					}
				})
				reading.Store(true)
				_, err := w.ReadFrom(bytes.NewReader(randomBytes(uint64(i), 300*kiB)))
				reading.Store(false)
				if err != nil && !errors.Is(err, ErrCut) {
					t.Error(err)
				}
				if _, err := w.Suspend(t.Context()); err != nil {
					t.Error(err)
				}
				w.Close()
				close(stop)
				wg.Wait()
			}
			wantIdle(t, m)
		})
	}
}

// TestDrain: a process that shuts down keeps what PATCHes have sent, and
// nothing of what came to be committed at once.
func TestDrain(t *testing.T) {
	for name, habits := range map[string]membucket.Habits{"S3": smallS3(), "directory": streaming()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := replica(t, &membucket.Store{Habits: habits}, nil)
				data := randomBytes(8, 400*kiB)
				const sent = 300_000
				s := receive(t.Context(), m, newSlowBody(data[:sent], 1000, time.Millisecond))
				idle := resume(t, m, m.Start("r", digest.SHA256), Options{Length: -1}) // nobody reads for it
				if _, err := idle.Write(data[:sent]); err != nil {
					t.Fatal(err)
				}
				final := m.Start("r", digest.SHA256)
				body := newSlowBody(data[:sent], 1000, time.Millisecond)
				fw := resume(t, m, final, Options{Length: int64(len(data)), Commit: true, Digest: digest.FromBytes(data), Interrupt: body.interrupt})
				finished := make(chan error, 1)
				go func() {
					_, err := fw.ReadFrom(body)
					finished <- err
				}()
				time.Sleep(time.Minute)
				synctest.Wait()

				m.Drain()
				<-s.done
				if !errors.Is(s.err, ErrCut) || s.kept != nil || s.size != sent {
					t.Errorf("PATCH = %v, %v at %d, want %v at %d", s.err, s.kept, s.size, ErrCut, sent)
				}
				if err := <-finished; err == nil {
					t.Error("PUT that is cut off = nil, want an error")
				}
				if err := seal(t.Context(), fw, digest.FromBytes(data)); !errors.Is(err, ErrCut) && !errors.Is(err, errInterrupted) {
					t.Errorf("Seal of a PUT that was cut off = %v, want %v", err, ErrCut)
				}
				fw.Close()
				synctest.Wait()
				if _, err := idle.Write(data[sent:]); !errors.Is(err, ErrCut) {
					t.Errorf("Write to a writer that was cut off = %v, want %v", err, ErrCut)
				}
				idle.Close()
				wantIdle(t, m)

				other := replica(t, &membucket.Store{Habits: habits}, nil)
				other.cfg.Bucket, other.key = m.cfg.Bucket, m.key
				for _, tok := range []Token{s.next, idle.Token()} {
					wantCommit(t, other, tok, data[sent:], data)
				}
				if _, size, err := m.Status(t.Context(), final); size != 0 || err != nil {
					t.Errorf("of the PUT %d bytes are kept, %v, want none", size, err)
				}
			})
		})
	}
}

// TestDrainWakesWaiters: a PATCH that waits for memory when the process shuts
// down does not wait until others are done, and what it has sent is kept.
func TestDrainWakesWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
		data := randomBytes(11, 100*kiB)
		body := newSlowBody(data, int(10*kiB), time.Second)
		s := receive(t.Context(), m, body)
		time.Sleep(2500 * time.Millisecond)
		all := takeAll(t, m)
		runner := want(t, m, m.Memory().Reserve)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := m.Memory().Waiting; n != 1 || isDone(s) {
			t.Fatalf("%d wait, done %v; want the PATCH to wait", n, isDone(s))
		}
		m.Drain()
		synctest.Wait()
		if !isDone(s) || !errors.Is(s.err, ErrCut) || s.kept != nil || s.size == 0 {
			t.Fatalf("done %v, ReadFrom = %v, Suspend = %v at %d; want %v and bytes that are kept", isDone(s), s.err, s.kept, s.size, ErrCut)
		}
		runner.giveBack()
		all.giveBack()
		wantIdle(t, m)
		other := replica(t, &membucket.Store{Habits: smallS3()}, nil)
		other.cfg.Bucket, other.key = m.cfg.Bucket, m.key
		wantCommit(t, other, s.next, data[s.size:], data)
	})
}

// TestCutOffAndNotKept: a writer that nobody works with is cut off, and its
// bytes cannot be recorded. Then they are lost: no later record says that they
// are there.
func TestCutOffAndNotKept(t *testing.T) {
	for name, habits := range map[string]membucket.Habits{"S3": smallS3(), "directory": streaming()} {
		t.Run(name, func(t *testing.T) {
			store := &membucket.Store{Habits: habits}
			faulty := &drivertest.Faulty{Mode: drivertest.Lost, Nth: 1, Match: createsRecord}
			m := replica(t, store, faulty.Intercept)
			first, rest := randomBytes(9, 5000), randomBytes(10, 5000)
			tok := patch(t, replica(t, store, nil), m.Start("r", digest.SHA256), first)
			w := resume(t, m, tok, Options{Length: -1})
			if _, err := w.Write(rest); err != nil {
				t.Fatal(err)
			}
			m.Drain()
			var next Token
			for range 2 {
				var err error
				if next, err = w.Suspend(t.Context()); !errors.Is(err, drivertest.ErrInjected) {
					t.Errorf("Suspend when the record was lost = %v, want %v", err, drivertest.ErrInjected)
				}
			}
			w.Close()
			now, size, err := m.Status(t.Context(), next)
			if err != nil || size != int64(len(first)) {
				t.Fatalf("Status = %d, %v, want %d", size, err, len(first))
			}
			wantCommit(t, replica(t, store, nil), now, rest, append(bytes.Clone(first), rest...))
			wantIdle(t, m)
		})
	}
}

func createsRecord(c drivertest.Call) bool {
	return c.Method == "Create" && bytes.HasPrefix([]byte(c.Key), []byte("uploads/"))
}
