package upload

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// slowBody returns its bytes at a steady pace, and then stalls until it is
// interrupted or ended. It must be used in a bubble.
type slowBody struct {
	data  []byte
	piece int           // bytes in one Read
	every time.Duration // between two Reads

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

// actor is a client that sends a PATCH.
type actor struct {
	tok  Token
	body *slowBody
	done chan struct{}

	next Token // once done is closed
	size int64
	err  error // of ReadFrom
	kept error // of Suspend
}

// receive starts a PATCH of body.
func receive(ctx context.Context, m *Manager, body *slowBody) *actor {
	s := &actor{tok: m.Start("r", digest.SHA256), body: body, done: make(chan struct{})}
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

func isDone(s *actor) bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// TestSlowClientsKeepTheirMemory checks that a client may be as slow as it likes
// while no client waits for memory.
func TestSlowClientsKeepTheirMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
		data := randomBytes(1, 100)
		s := receive(t.Context(), m, newSlowBody(data, 1, 90*time.Second))
		time.Sleep(2 * time.Hour)
		if isDone(s) {
			t.Fatalf("a slow client was cut off: %v", s.err)
		}
		close(s.body.end)
		time.Sleep(time.Hour)
		<-s.done
		if s.err != nil || s.kept != nil || s.size == 0 {
			t.Errorf("ReadFrom = %v, Suspend = %v at %d, want success", s.err, s.kept, s.size)
		}
		wantIdle(t, m)
	})
}

// TestSlowClientsAreCutOff checks that clients below 64 KiB/s are cut off once an
// upload waits for memory, and no other clients. What they have sent is kept.
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
		time.Sleep(12 * time.Second) // a client with a new part has 10 s
		synctest.Wait()
		if !isDone(stalled) || !isDone(slow) {
			t.Errorf("cut off: the stalled client %v, the slow one %v, want both", isDone(stalled), isDone(slow))
		}
		if isDone(fast) {
			t.Errorf("the fast client was cut off: %v", fast.err)
		}
		for _, s := range []*actor{stalled, slow} {
			if !isDone(s) {
				continue
			}
			_, size, err := m.Status(t.Context(), s.next)
			if !errors.Is(s.err, ErrCut) || s.kept != nil || err != nil || size != s.size || size == 0 {
				t.Errorf("ReadFrom = %v, Suspend = %v at %d, Status = %d, %v, want %v and bytes that are kept", s.err, s.kept, s.size, size, err, ErrCut)
			}
		}
		runner.giveBack()
		all.giveBack()
		synctest.Wait()
		if !waiting.done {
			t.Error("the waiting upload has no memory, want it granted")
		}
		waiting.giveBack()
		time.Sleep(time.Minute)
		if isDone(fast) {
			t.Errorf("the fast client was cut off while no client waited: %v", fast.err)
		}
		close(fast.body.end)
		<-fast.done
		wantIdle(t, m)
	})
}

// TestStallingClients has 500 clients that stall share 64 MiB. A fast client
// completes its upload, and every byte that the stalling ones have sent is kept.
func TestStallingClients(t *testing.T) {
	for name, habits := range map[string]membucket.Habits{"S3": membucket.S3(), "directory": streaming()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := replica(t, &membucket.Store{Habits: habits}, nil, func(c *Config) { c.Memory, c.PartSize = 64*miB, 6*miB })
				data := randomBytes(6, 130*kiB)
				var stalling []*actor
				for range 500 {
					stalling = append(stalling, receive(t.Context(), m, newSlowBody(data, 100_000, time.Millisecond)))
				}
				time.Sleep(time.Second)
				synctest.Wait()

				all := randomBytes(7, 13*miB)
				start := time.Now()
				wantCommit(t, m, patch(t, m, m.Start("r", digest.SHA256), all), nil, all)
				// In the bubble's time. Each client that waited before gets a turn, and
				// few at a time delay the fast one.
				if took := time.Since(start); took > 8*time.Minute {
					t.Errorf("the fast client took %v, want at most 8m", took)
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
						t.Fatalf("client %d: Suspend = %v at %d, Status = %d, %v, want all bytes kept", i, s.kept, s.size, size, err)
					}
					if i%50 == 0 { // they can continue
						wantCommit(t, m, tok, data[size:], data)
					}
				}
				t.Logf("%d of 500 were cut off", cut)
				wantIdle(t, m)
			})
		})
	}
}

// TestManyStreams has more clients stream at a modest pace than fit into the
// memory at a time. No client holds what another one needs in order to continue.
func TestManyStreams(t *testing.T) {
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
			t.Errorf("80 clients that need 4 s each took %v, want at most 1m", took)
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

// TestSlowStoreDoesNotCutOffClient checks that the runner's client is not cut off while
// the store is slow to store the part that the client has sent.
func TestSlowStoreDoesNotCutOffClient(t *testing.T) {
	data := randomBytes(8, 4*miB)
	for name, tt := range map[string]struct {
		habits membucket.Habits
		body   func(part int64) io.Reader
	}{
		// The client is silent after the first byte of the second part.
		"S3": {smallS3(), func(part int64) io.Reader {
			return io.MultiReader(bytes.NewReader(data[:part+1]), &pausing{5 * time.Second}, bytes.NewReader(data[part+1:]))
		}},
		// The client has to wait at the end of the first part, after 30 s.
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
				time.Sleep(time.Second) // the client is the runner
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
				if name == "S3" { // the next parts need the memory for which behind waits
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

// pausing is empty, and takes some time to return that.
type pausing struct{ time time.Duration }

func (p *pausing) Read([]byte) (int, error) {
	time.Sleep(p.time)
	return 0, io.EOF
}
