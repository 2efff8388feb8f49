package upload

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// reversed stores the parts of a batch in the reverse order, and makes some of
// them fail. It must be used in a bubble.
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
			time.Sleep(time.Second) // until the batch is complete
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

// failedParts is a scenario in which parts of an upload cannot be stored.
type failedParts struct {
	alg        digest.Algorithm
	before     int64 // bytes of an earlier request
	part, also int   // numbers of the parts that fail; also may be 0
}

// TestFailedParts makes some parts of an upload fail while the other ones finish
// in the reverse order. Then the stored bytes up to the first gap are recorded,
// and an upload that continues from there has the right digest.
func TestFailedParts(t *testing.T) {
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		for _, before := range []int64{0, 100, 5000, 64 * kiB, 64*kiB + 5000} {
			for part := 1; part <= 6; part++ {
				for _, also := range []int{0, part + 2} {
					synctest.Test(t, func(t *testing.T) { failedParts{alg, before, part, also}.run(t) })
				}
			}
		}
	}
}

func (s failedParts) run(t *testing.T) {
	const part, parts = 64 << 10, 6
	smaller := func(c *Config) { c.PartSize = part }
	store := &membucket.Store{Habits: smallS3()}
	good := replica(t, store, nil, smaller)
	data := randomBytes(38, parts*part+200)
	tok := good.Start("r", s.alg)
	if s.before > 0 {
		tok = patch(t, good, tok, data[:s.before])
	}
	r := &reversed{wait: map[int]chan struct{}{}, fail: map[int]bool{s.part: true, s.also: true}}
	bad := replica(t, store, r.intercept, smaller)
	w := resume(t, bad, tok, Options{Length: -1})
	_, readErr := w.ReadFrom(bytes.NewReader(data[s.before:]))
	next, err := w.Suspend(t.Context())
	w.Close()
	wantIdle(t, bad)

	if int64(s.part)*part <= s.before { // the earlier request has stored that part
		if s.also == 0 && err != nil {
			t.Fatalf("%+v: Suspend = %v, want success", s, err)
		}
		return
	}
	if !errors.Is(err, drivertest.ErrInjected) || readErr != nil && !errors.Is(readErr, drivertest.ErrInjected) {
		t.Fatalf("%+v: ReadFrom = %v, Suspend = %v, want %v", s, readErr, err, drivertest.ErrInjected)
	}
	stored := max(int64(s.part-1)*part, s.before)
	now, size, err := good.Status(t.Context(), next)
	if err != nil || size != stored || now != next {
		t.Fatalf("%+v: Status = %d, %v, want %d", s, size, err, stored)
	}
	wantCommit(t, good, now, data[size:], data)
}

// TestFailedStart checks that the bytes of the first part are kept if the upload
// cannot be started.
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
			t.Errorf("Status = %d, %v, want the bytes of the first part", size, err)
		}
		wantCommit(t, m, tok, data[size:], data)
		wantIdle(t, m)
	})
}
