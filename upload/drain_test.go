package upload

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// TestInterruptOnlyWhileReading checks that Interrupt is called only while its
// reader is read, however often and whenever the Writer is cut off.
func TestInterruptOnlyWhileReading(t *testing.T) {
	eachKind(t, func(t *testing.T, habits membucket.Habits) {
		m := replica(t, &membucket.Store{Habits: habits}, nil)
		for i := range 100 {
			var reading atomic.Bool
			stop := make(chan struct{})
			var wg sync.WaitGroup
			opts := Options{Length: -1, Interrupt: func() {
				if !reading.Load() {
					t.Error("Interrupt was called outside of ReadFrom")
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

// TestDrain checks that a process that shuts down keeps what PATCHes have sent, and
// nothing of a PUT.
func TestDrain(t *testing.T) {
	eachKind(t, func(t *testing.T, habits membucket.Habits) {
		synctest.Test(t, func(t *testing.T) {
			m := replica(t, &membucket.Store{Habits: habits}, nil)
			data := randomBytes(8, 400*kiB)
			const sent = 300_000
			s := receive(t.Context(), m, newSlowBody(data[:sent], 1000, time.Millisecond))
			idle := resume(t, m, m.Start("r", digest.SHA256), Options{Length: -1}) // no method is running
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
				t.Error("PUT that is cut off succeeds, want an error")
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
				t.Errorf("Status of the PUT's upload = %d, %v, want 0", size, err)
			}
		})
	})
}

// TestDrainWakesWaiters checks that a PATCH that waits for memory ends when the
// process shuts down, and that what it has sent is kept.
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
			t.Fatalf("%d clients wait, done %v, want the PATCH to wait", n, isDone(s))
		}
		m.Drain()
		synctest.Wait()
		if !isDone(s) || !errors.Is(s.err, ErrCut) || s.kept != nil || s.size == 0 {
			t.Fatalf("done %v, ReadFrom = %v, Suspend = %v at %d, want %v and bytes that are kept", isDone(s), s.err, s.kept, s.size, ErrCut)
		}
		runner.giveBack()
		all.giveBack()
		wantIdle(t, m)
		other := replica(t, &membucket.Store{Habits: smallS3()}, nil)
		other.cfg.Bucket, other.key = m.cfg.Bucket, m.key
		wantCommit(t, other, s.next, data[s.size:], data)
	})
}

// TestCutOffAndNotKept cuts off a Writer while no method runs, and lets the record
// fail. The bytes are lost then, and no later record claims them.
func TestCutOffAndNotKept(t *testing.T) {
	eachKind(t, func(t *testing.T, habits membucket.Habits) {
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
				t.Errorf("Suspend after the record failed = %v, want %v", err, drivertest.ErrInjected)
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

func createsRecord(c drivertest.Call) bool {
	return c.Method == "Create" && bytes.HasPrefix([]byte(c.Key), []byte("uploads/"))
}
