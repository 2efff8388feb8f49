package upload

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// TestTooLarge checks that an upload over Config.MaxBlobSize, or over what the
// store can hold, is refused: immediately if its length is known, and otherwise when
// the limit is reached.
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
					t.Errorf("ReadFrom of %d bytes = %d, %v, want success", most, n, err)
				}
				w.Close()
			}
			w := resume(t, m, m.Start("r", digest.SHA256), Options{Length: over - 1}) // more bytes arrive
			if _, err := w.ReadFrom(bytes.NewReader(randomBytes(35, over))); !errors.Is(err, ErrTooLarge) {
				t.Errorf("ReadFrom of %d bytes = %v, want %v", over, err, ErrTooLarge)
			}
			w.Close()
			w = resume(t, m, m.Start("r", digest.SHA256), Options{Length: -1})
			if _, err := w.ReadFrom(bytes.NewReader(randomBytes(35, over))); !errors.Is(err, ErrTooLarge) {
				t.Errorf("ReadFrom of %d bytes of unknown length = %v, want %v", over, err, ErrTooLarge)
			}
			w.Close()
			wantIdle(t, m)
		})
	}
}

// TestTooLargeAtOnce checks that a length that no parts can hold is refused before
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
		t.Errorf("ReadFrom = %d, %v, after the calls %v, want %v and no call", n, err, counter.Calls(), ErrTooLarge)
	}
	w.Close()

	// The same once the sizes of the parts are fixed.
	tok := patch(t, m, m.Start("r", digest.SHA256), randomBytes(36, 200*kiB))
	w, err = m.Resume(t.Context(), tok, Options{Deadline: newDeadline(), Length: 10 * m.largest})
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("Resume with %d bytes to come after 200 KiB = %v, want %v", 10*m.largest, err, ErrTooLarge)
	}
	if err == nil {
		w.Close()
	}
}

// TestLongLists checks that lists of parts have a share of the memory, and that a
// request without room for its list is refused with ErrBusy.
func TestLongLists(t *testing.T) {
	m := replica(t, &membucket.Store{Habits: streaming()}, nil)
	const parts = 500 // some 25 kB of JSON; the share is 128 KiB
	w := resume(t, m, m.Start("r", digest.SHA256), Options{Length: -1})
	if err := w.receiver.stream(strings.NewReader(strings.Repeat("x", 17<<10))); err != io.EOF {
		t.Fatal(err)
	}
	for len(w.p.parts.done) < parts { // as if as many requests had stored a part each
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
				t.Errorf("Resume without room for its list = %v, want %v", err, drivers.ErrBusy)
			}
			break
		}
		if open = append(open, w); len(open) == 1 {
			list -= m.Memory().Lists
		}
		if len(open) > 100 {
			t.Error("100 Writers have room for their lists, want fewer")
			break
		}
	}
	if n := len(open); n == 0 || int64(n) != share/list {
		t.Errorf("%d Writers have room for their lists, want %d", n, share/list)
	}
	for _, w := range open {
		w.Close()
	}
	wantIdle(t, m)
}

// TestLessMemory checks that a replica refuses, with ErrBusy, a session with parts
// that are too large for its memory. A replica with more memory continues it.
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
