package upload

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// TestEndlessBodyIsKept checks that an endless body is cut off near the deadline,
// while what came can still be recorded.
func TestEndlessBodyIsKept(t *testing.T) {
	eachKind(t, func(t *testing.T, habits membucket.Habits) {
		synctest.Test(t, func(t *testing.T) {
			m := replica(t, &membucket.Store{Habits: habits}, nil)
			data := randomBytes(20, 200*kiB)
			start := time.Now()
			s := receive(t.Context(), m, newSlowBody(data, 500, time.Minute))
			<-s.done
			if d := time.Since(start); d >= requestLimit {
				t.Errorf("the PATCH lasted %v, want less than %v", d, requestLimit)
			}
			if !errors.Is(s.err, ErrCut) || s.kept != nil || s.size == 0 {
				t.Fatalf("ReadFrom = %v, Suspend = %v at %d, want %v and bytes that are kept", s.err, s.kept, s.size, ErrCut)
			}
			wantCommit(t, m, s.next, data[s.size:], data)
			wantIdle(t, m)
		})
	})
}

// TestNothingIsCompletedTooLate lets the last part take longer than the deadline.
// The request completes nothing then. The same request sent again does.
func TestNothingIsCompletedTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counter := &drivertest.Counter{}
		slow := false
		m := replica(t, &membucket.Store{Habits: smallS3()}, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			if slow && c.Method == "PutPart" {
				time.Sleep(6 * time.Minute)
			}
			return counter.Intercept(ctx, c, do)
		})
		data := randomBytes(21, 300*kiB)
		tok := patch(t, m, m.Start("r", digest.SHA256), data)
		counter.Reset()
		slow = true
		if _, err := commitBy(t.Context(), m, deadline.New(5*time.Minute), tok, nil, data); !errors.Is(err, drivers.ErrBusy) {
			t.Errorf("commit with a late last part = %v, want %v", err, drivers.ErrBusy)
		}
		if calls := counter.ByMethod(); calls["PutPart"] != 1 || calls["Complete"] != 0 {
			t.Errorf("commit makes the calls %v, want one PutPart and no Complete", calls)
		}
		slow = false
		wantCommit(t, m, tok, nil, data)
		wantIdle(t, m)
	})
}

// TestNothingIsRecordedTooLate checks that a request writes nothing after its
// deadline.
func TestNothingIsRecordedTooLate(t *testing.T) {
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
			t.Errorf("Suspend after the deadline = %v, want %v", err, drivers.ErrBusy)
		}
		w.Close()
		for _, c := range counter.Calls() {
			if c.Writes() {
				t.Errorf("the Writer calls %v after the deadline", c)
			}
		}
	})
}
