package blobstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/filesystem"
	"github.com/berthhq/berth/drivers/memory"
)

// fate is what becomes of one call to the store, and of the process that makes
// it.
type fate struct {
	mode drivertest.Mode
	soon bool // a late write lands before the client asks again, else when all is over
	dead bool // the process dies
}

func (f fate) String() string {
	s := f.mode.String()
	if f.soon {
		s += ", soon"
	}
	if f.dead {
		s += ", dead"
	}
	return s
}

var fates = []fate{
	{mode: drivertest.Lost},
	{mode: drivertest.Unanswered},
	{mode: drivertest.Late},
	{mode: drivertest.Late, soon: true},
	{mode: drivertest.Lost, dead: true},
	{mode: drivertest.Unanswered, dead: true},
	{mode: drivertest.Late, dead: true},
}

// scene is something that clients do, in a bucket that was made ready for it.
type scene struct {
	name   string
	part   int64                                     // size of parts, in bytes
	before func(ctx context.Context, w *world) error // without faults
	do     func(ctx context.Context, w *world) error // retries until it ends well
	after  func(ctx context.Context, w *world) error // what must be so then
}

// opener opens a bucket.
type opener func(context.Context) (drivers.Bucket, error)

// world is a bucket with two replicas.
type world struct {
	fate   fate
	faulty *drivertest.Faulty
	armed  atomic.Bool

	bucket drivers.Bucket // as it is, without faults
	first  *Store         // whose calls to the bucket fail
	second *Store         // whose calls don't
	ledger ledger
	lost   map[string]bool // data keys that were spoiled on purpose
	forgot bool            // a record was taken away on purpose
	free   string          // what the first one's memory is like when nobody uses it

	asked int
	held  error // an invariant that didn't hold between two requests

	session session // that the scene is about
}

// maxRequests is how many requests a client makes in a scene before it gives
// up. Without faults no scene takes half as many.
const maxRequests = 24

func newWorld(ctx context.Context, open opener, cfg Config, f fate, nth int) (*world, error) {
	w := &world{fate: f, lost: map[string]bool{}}
	w.faulty = &drivertest.Faulty{
		Mode:  f.mode,
		Nth:   nth,
		Dead:  f.dead,
		Match: func(drivertest.Call) bool { return w.armed.Load() },
	}
	var err error
	if w.bucket, err = open(ctx); err != nil {
		return nil, err
	}
	if w.first, err = Open(ctx, drivertest.Wrap(w.bucket, w.faulty.Intercept), cfg); err != nil {
		return nil, err
	}
	if w.second, err = Open(ctx, w.bucket, cfg); err != nil {
		return nil, err
	}
	w.free = memoryOf(w.first)
	return w, nil
}

// memoryOf returns how much of the memory for uploads is in use.
func memoryOf(s *Store) string { return fmt.Sprintf("%+v", s.uploads.Memory()) }

// client is one that retries. Its requests go to the first replica as long as
// that lives.
func (w *world) client(ctx context.Context) retrying {
	return retrying{ledger: &w.ledger, ask: func(request func(*Store) error) error {
		if w.asked++; w.asked > maxRequests {
			return errGaveUp
		}
		s := w.first
		_, hit := w.faulty.Hit()
		if hit && w.fate.dead {
			s = w.second
		}
		err := request(s)
		if _, now := w.faulty.Hit(); now && !hit {
			if w.fate.soon {
				_ = w.faulty.Land(ctx) // nobody hears of it
			}
			if w.fate.mode != drivertest.Late { // or it is as after a lost one
				w.held = w.check(ctx)
			}
		}
		return err
	}}
}

// check says which invariants don't hold.
func (w *world) check(ctx context.Context) error {
	return (&checker{bucket: hidden{w.bucket}, lost: w.lost, collected: w.forgot}).check(ctx)
}

// hidden is a bucket without what was there before berth.
type hidden struct{ drivers.Bucket }

const foreignPrefix = "docker/"

func (h hidden) List(ctx context.Context, prefix, after string) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		for o, err := range h.Bucket.List(ctx, prefix, after) {
			if err == nil && strings.HasPrefix(o.Key, foreignPrefix) {
				continue
			}
			if !yield(o, err) {
				return
			}
		}
	}
}

// run plays a scene in which the nth call fails, and says what is wrong
// afterwards. There is no call if fewer than nth were made.
func (s scene) run(ctx context.Context, open opener, parallel int, f fate, nth int) (call drivertest.Call, hit bool, err error) {
	cfg := Config{InlineMax: inlineMax, Upload: UploadConfig{Memory: 8 << 20, PartSize: s.part, ParallelParts: parallel}}
	w, err := newWorld(ctx, open, cfg, f, nth)
	if err != nil {
		return call, false, err
	}
	defer w.bucket.Close()
	if s.before != nil {
		if err := s.before(ctx, w); err != nil {
			return call, false, fmt.Errorf("before: %w", err)
		}
	}
	w.asked = 0
	w.armed.Store(true)
	err = s.do(ctx, w)
	w.armed.Store(false)
	call, hit = w.faulty.Hit()
	_ = w.faulty.Land(ctx) // nobody hears of it
	if w.held != nil {
		err = errors.Join(err, fmt.Errorf("right after the fault: %w", w.held))
	}
	err = errors.Join(err, w.check(ctx), w.ledger.check(ctx, w.bucket))
	if s.after != nil && err == nil {
		if err = s.after(ctx, w); err != nil {
			err = fmt.Errorf("after: %w", err)
		}
	}
	synctest.Wait()
	if got := memoryOf(w.first); got != w.free {
		err = errors.Join(err, fmt.Errorf("memory for uploads: %s, want %s", got, w.free))
	}
	return call, hit, err
}

// play plays a scene once for every call that it makes and every fate of that
// call. That no goroutine is left is seen to by the bubble that it runs in.
func play(t *testing.T, open opener, parallel int, fates []fate, s scene) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var writes []bool // of the calls, whether they change anything
		for _, f := range fates {
			for nth := 1; ; nth++ {
				if f.mode == drivertest.Late && parallel == 1 && nth <= len(writes) && !writes[nth-1] {
					continue // it would be lost, no more
				}
				call, hit, err := s.run(t.Context(), open, parallel, f, nth)
				if err != nil {
					t.Fatalf("call %d, %s, is %s: %v", nth, call, f, err)
				}
				if !hit {
					break
				}
				if f == fates[0] {
					writes = append(writes, call.Writes())
				}
			}
		}
	})
}

// inMemory opens a fresh bucket each time.
func inMemory(h memory.Habits) opener {
	return func(ctx context.Context) (drivers.Bucket, error) {
		return memory.Open(ctx, memory.Config{Store: &memory.Store{Habits: h}})
	}
}

// TestFaults plays every scene with every call failing in every way.
func TestFaults(t *testing.T) {
	for _, s := range scenes() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			play(t, inMemory(tinyS3()), 1, fates, s)
		})
	}
}

// TestFaultsElsewhere plays those scenes that make a difference on stores with
// other habits, and with several parts under way at once.
func TestFaultsElsewhere(t *testing.T) {
	for name, on := range map[string]struct {
		open     func(t *testing.T) opener
		parallel int
		fates    []fate
	}{
		"directory":       {func(*testing.T) opener { return inMemory(memory.Habits{}) }, 1, fates},
		"GCS":             {func(*testing.T) opener { return inMemory(memory.GCS()) }, 1, fates[:2]},
		"Azure":           {func(*testing.T) opener { return inMemory(memory.Azure()) }, 1, fates[:2]},
		"S3, in parallel": {func(*testing.T) opener { return inMemory(tinyS3()) }, 4, fates},
		"filesystem":      {inFiles, 1, []fate{fates[1], fates[4]}},
	} {
		for _, s := range fewScenes() {
			t.Run(name+"/"+s.name, func(t *testing.T) {
				t.Parallel()
				play(t, on.open(t), on.parallel, on.fates, s)
			})
		}
	}
}

// inFiles opens a fresh directory each time.
func inFiles(t *testing.T) opener {
	t.Helper()
	root, n := t.TempDir(), 0
	return func(ctx context.Context) (drivers.Bucket, error) {
		n++
		return filesystem.Open(ctx, filesystem.Config{Root: filepath.Join(root, strconv.Itoa(n))})
	}
}
