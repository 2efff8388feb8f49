package blobstore

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/filesystem"
	"github.com/berthhq/berth/drivers/memory"
)

// onEveryDriver runs f on an empty bucket of each kind, and at its end sees to
// it that the invariants hold. Parts are of a few bytes.
func onEveryDriver(t *testing.T, f func(t *testing.T, w *stage)) {
	t.Helper()
	for name, h := range map[string]memory.Habits{
		"S3":     tinyS3(),
		"GCS":    memory.GCS(),
		"Azure":  memory.Azure(),
		"memory": {},
	} {
		t.Run(name, func(t *testing.T) { onBucket(t, openMemory(t, h), f) })
	}
	t.Run("filesystem", func(t *testing.T) {
		b, err := filesystem.Open(t.Context(), filesystem.Config{Root: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		onBucket(t, b, f)
	})
}

func onBucket(t *testing.T, b drivers.Bucket, f func(t *testing.T, w *stage)) {
	t.Helper()
	w := &stage{ctx: t.Context(), bucket: b, ledger: &ledger{}, lost: map[string]bool{}}
	f(t, w)
	w.mustHold(t)
}

// mustHold fails the test if anything is wrong with the bucket, or with what
// clients were told.
func (w *stage) mustHold(t *testing.T) {
	t.Helper()
	c := &checker{bucket: w.bucket, lost: w.lost}
	if err := errors.Join(c.check(w.ctx), w.ledger.check(w.ctx, w.bucket)); err != nil {
		t.Errorf("an invariant does not hold:\n%v", err)
	}
}

// replica is a client of a process that has just started. The Intercepts stand
// before its bucket, the first one outermost.
func (w *stage) replica(t *testing.T, f ...drivertest.Intercept) *client {
	t.Helper()
	b := w.bucket
	for i := range f {
		b = drivertest.Wrap(b, f[len(f)-1-i])
	}
	return &client{w: w, s: openStore(t, b, tiny())}
}

// on picks the calls of a method to keys that contain part.
func on(method, part string) func(drivertest.Call) bool {
	return func(c drivertest.Call) bool { return c.Method == method && strings.Contains(c.Key, part) }
}

// dies is a process that is killed before the first of these calls, or right
// after it if that took effect.
func dies(m drivertest.Mode, match func(drivertest.Call) bool) drivertest.Intercept {
	return (&drivertest.Faulty{Mode: m, Nth: 1, Match: match, Dead: true}).Intercept
}

// stall holds the first call that match picks, until it is told to go on.
type stall struct {
	match   func(drivertest.Call) bool
	reached chan struct{}
	resume  chan struct{}
}

func stallAt(match func(drivertest.Call) bool) *stall {
	return &stall{match, make(chan struct{}, 1), make(chan struct{})}
}

func (s *stall) intercept(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
	if s.match(c) {
		select {
		case s.reached <- struct{}{}:
			<-s.resume
		default: // it was not the first
		}
	}
	return do(ctx)
}

// meanwhile begins request, runs f once that stalls, and gives what the request
// then answers.
func (s *stall) meanwhile(t *testing.T, request func() error, f func()) error {
	t.Helper()
	answer := make(chan error, 1)
	go func() { answer <- request() }()
	select {
	case <-s.reached:
	case err := <-answer:
		t.Fatalf("the request never came to where it should stall: %v", err)
	}
	f()
	close(s.resume)
	return <-answer
}

// must fails the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
