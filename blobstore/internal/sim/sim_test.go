package sim_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

const library = "library/x"

// small is an inline blob, and large one of several parts.
var (
	small = []byte("a small blob")
	large = []byte(strings.Repeat("a large blob ", 50))
)

func open(ctx context.Context) (drivers.Bucket, error) {
	h := memory.S3()
	h.Limits.MinPart = 256
	return memory.Open(ctx, memory.Config{Store: &memory.Store{Habits: h}})
}

// process opens a process on a bucket, and a repository there.
func process(ctx context.Context, b drivers.Bucket, name string) (*blobstore.Repository, error) {
	s, err := blobstore.Open(ctx, b, blobstore.Config{
		InlineMax: 64,
		Upload:    blobstore.UploadConfig{Memory: 1 << 20, PartSize: 256},
		Cache:     blobstore.CacheConfig{Entries: -1},
	})
	if err != nil {
		return nil, err
	}
	named, err := reference.WithName(name)
	if err != nil {
		return nil, err
	}
	return s.Repository(named), nil
}

func read(_ context.Context, b drivers.Bucket) (sim.ReadFunc, error) {
	return func(ctx context.Context, repository string, d digest.Digest) ([]byte, error) {
		r, err := process(ctx, b, repository)
		if err != nil {
			return nil, err
		}
		return r.Get(ctx, d)
	}, nil
}

// push pushes p until the store does not fail the push.
func push(r *sim.Run, repo *blobstore.Repository, p []byte) error {
	for {
		answered := r.Ledger.Pushing(library, digest.FromBytes(p), p)
		_, err := repo.Put(r.Ctx, "", p)
		answered(err)
		if !errors.Is(err, drivertest.ErrInjected) {
			return err
		}
	}
}

// twoPushes is the example of the package's documentation: two clients push the
// same bytes.
func twoPushes(p []byte) sim.Scenario {
	return sim.Scenario{
		Open: open,
		Read: read,
		Start: func(r *sim.Run) (actors []sim.Actor, err error) {
			for i, name := range []string{"A", "B"} {
				repo, err := process(r.Ctx, r.Process(i), library)
				if err != nil {
					return nil, err
				}
				actors = append(actors, sim.Actor{Name: name, Run: func() error { return push(r, repo, p) }})
			}
			return actors, nil
		},
	}
}

// TestExplore counts the schedules of two pushes. Their first calls, the creation
// of one record each, depend on each other, and so do the creations of the link.
func TestExplore(t *testing.T) {
	done := sim.Explore(t, twoPushes(small), 0)
	if done.Violation != nil {
		t.Error(done.Violation)
	}
	if done.Schedules < 4 {
		t.Errorf("Explore ran %d schedules, want at least 4", done.Schedules)
	}
	t.Logf("%d schedules", done.Schedules)
	if done := sim.Explore(t, twoPushes(small), 3); done.Schedules != 3 {
		t.Errorf("Explore of at most 3 ran %d schedules", done.Schedules)
	}
}

// TestLateWrites explores each late write. The search for them ends.
func TestLateWrites(t *testing.T) {
	s := twoPushes(small)
	for n := 1; ; n++ {
		s.Fault = sim.Fault{Nth: n, Mode: drivertest.Late}
		done := sim.Explore(t, s, 0)
		if done.Violation != nil {
			t.Fatalf("write %d late: %v", n, done.Violation)
		}
		if !done.Hit {
			if n <= 2 {
				t.Errorf("write %d of a push was not reached, want at least 2 writes", n)
			}
			return
		}
	}
}

func TestDraw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(20) {
			if err := twoPushes(large).Draw(t.Context(), rand.New(rand.NewPCG(seed, 0))); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		}
	})
}

// TestEveryFault counts the plays of a push with one call that is lost. It makes
// three calls for a small blob: the record, the link, and no third.
func TestEveryFault(t *testing.T) {
	s := sim.Scenario{
		Open: open,
		Read: read,
		Start: func(r *sim.Run) ([]sim.Actor, error) {
			repo, err := process(r.Ctx, r.Process(0), library)
			return []sim.Actor{{Name: "A", Run: func() error {
				return r.Request(func() error { return push(r, repo, small) })
			}}}, err
		},
	}
	if plays := sim.EveryFault(t, s, sim.Fault{}, sim.Fault{Mode: drivertest.Late, Soon: true}); plays != 6 {
		t.Errorf("EveryFault played %d times, want 3 times for each of 2 faults", plays)
	}
}

// brokenBucket is a bucket that answers calls of a method without making them.
func brokenBucket(method, part string) func(int, drivers.Bucket) drivers.Bucket {
	return func(_ int, b drivers.Bucket) drivers.Bucket {
		return drivertest.Wrap(b, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			if sim.On(method, part)(c) {
				return nil
			}
			return do(ctx)
		})
	}
}

// TestExploreFinds plants violations: writes that are acknowledged and lost.
func TestExploreFinds(t *testing.T) {
	for _, part := range []string{"/record", "/links/"} {
		s := twoPushes(small)
		s.Tamper = brokenBucket("Create", part)
		done := sim.Explore(t, s, 0)
		if done.Violation == nil {
			t.Fatalf("Explore found nothing without %s", part)
		}
		if text := done.Violation.Error(); !strings.Contains(text, "after:\n\tA: ") {
			t.Errorf("the violation does not show its schedule:\n%s", text)
		}
	}
}

// TestPlayReportsActors checks that the errors of actors, and of After, are
// reported.
func TestPlayReportsActors(t *testing.T) {
	failed := errors.New("failed")
	s := twoPushes(small)
	s.After = func(*sim.Run) error { return failed }
	if _, _, err := s.Play(t.Context()); !errors.Is(err, failed) {
		t.Errorf("Play = %v, want the error of After", err)
	}
	s.Start = func(*sim.Run) ([]sim.Actor, error) {
		return []sim.Actor{{Name: "A", Run: func() error { return failed }}}, nil
	}
	s.After = nil
	if _, _, err := s.Play(t.Context()); !errors.Is(err, failed) {
		t.Errorf("Play = %v, want the error of the actor", err)
	}
}
