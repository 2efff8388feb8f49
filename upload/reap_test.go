package upload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// reapScenario is a session that a test reaps.
type reapScenario struct {
	name  string
	start func(t *testing.T, m *Manager, tok Token)

	undecided bool // it was committed, and an upload may have its bytes
	published bool // and a blob's record names them
}

// reaper returns the Reaper of the bucket of a Manager.
func reaper(m *Manager) *Reaper { return NewReaper(m.cfg.Bucket, m.cfg.Layout) }

var reapData = randomBytes(120, 300*kiB)

func reapScenarios() []reapScenario {
	sealed := func(t *testing.T, m *Manager, tok Token) *Writer {
		t.Helper()
		tok = patch(t, m, tok, reapData)
		d := digest.FromBytes(reapData)
		w := resume(t, m, tok, Options{Length: 0, Commit: true, Digest: d})
		t.Cleanup(func() { w.Close() })
		if err := seal(t.Context(), w, d); err != nil {
			t.Fatal(err)
		}
		return w
	}
	return []reapScenario{
		{name: "tail only", start: func(t *testing.T, m *Manager, tok Token) { patch(t, m, tok, []byte("some")) }},
		{name: "parts", start: func(t *testing.T, m *Manager, tok Token) { patch(t, m, tok, reapData) }},
		{name: "many records", start: func(t *testing.T, m *Manager, tok Token) {
			for off := 0; off < len(reapData); off += len(reapData) / 5 {
				tok = patch(t, m, tok, reapData[off:off+len(reapData)/5])
			}
		}},
		{name: "cancelled", start: func(t *testing.T, m *Manager, tok Token) {
			if err := m.Cancel(t.Context(), patch(t, m, tok, reapData), newDeadline()); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "spent by a commit from memory", start: func(t *testing.T, m *Manager, tok Token) {
			p := []byte("some")
			w := resume(t, m, patch(t, m, tok, p), Options{Length: 0, Commit: true, Digest: digest.FromBytes(p)})
			defer w.Close()
			if err := seal(t.Context(), w, digest.FromBytes(p)); err != nil {
				t.Fatal(err)
			}
			w.Spend(t.Context(), digest.FromBytes(p))
		}},
		{name: "committed, not completed", undecided: true, start: func(t *testing.T, m *Manager, tok Token) { sealed(t, m, tok) }},
		{name: "committed, not published", undecided: true, start: func(t *testing.T, m *Manager, tok Token) {
			if _, err := sealed(t, m, tok).Store(t.Context()); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "published", undecided: true, published: true, start: func(t *testing.T, m *Manager, tok Token) {
			w := sealed(t, m, tok)
			if _, err := w.Store(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.Spend(t.Context(), digest.FromBytes(reapData))
		}},
	}
}

// reap is what a collector does with one session. An old session is over.
func (s reapScenario) reap(ctx context.Context, m *Manager, id string) (ReapResult, error) {
	result, remains, err := reaper(m).Reap(ctx, id, time.Now().Add(time.Hour), newDeadline())
	if result != Undecided {
		return result, err
	}
	if want := digest.FromBytes(reapData); !s.undecided || remains.Digest != want || !strings.HasPrefix(remains.DataKey, "data/new/") {
		return result, fmt.Errorf("Reap returns %+v, want the remains of %s only if undecided (%v)", remains, want, s.undecided)
	}
	return Removed, reaper(m).Remove(ctx, remains, s.published)
}

// bucketKeys returns the keys of session records, uploads in progress and data.
func bucketKeys(t *testing.T, m *Manager) (records, uploads, data []string) {
	t.Helper()
	for o, err := range m.cfg.Bucket.List(t.Context(), "", "", 0) {
		switch {
		case err != nil:
			t.Fatal(err)
		case strings.HasPrefix(o.Key, "uploads/"):
			records = append(records, o.Key)
		case strings.HasPrefix(o.Key, "data/"):
			data = append(data, o.Key)
		}
	}
	for u, err := range m.cfg.Bucket.Uploads(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		uploads = append(uploads, u.Key)
	}
	return records, uploads, data
}

// wantReaped checks that nothing of the session is left, and that the data is.
func wantReaped(t *testing.T, m *Manager, data []string) {
	t.Helper()
	records, uploads, left := bucketKeys(t, m)
	if len(records) > 0 || len(uploads) > 0 || !slices.Equal(left, data) {
		t.Errorf("left are records %v, uploads %v, data %v; want only data %v", records, uploads, left, data)
	}
}

func TestReap(t *testing.T) {
	for _, s := range reapScenarios() {
		t.Run(s.name, func(t *testing.T) {
			counter := &drivertest.Counter{}
			m := replica(t, &membucket.Store{Habits: smallS3()}, counter.Intercept)
			tok := m.Start("r", digest.SHA256)
			s.start(t, m, tok)
			_, _, data := bucketKeys(t, m)
			counter.Reset()
			if got, _, err := reaper(m).Reap(t.Context(), tok.ID, time.Now().Add(-time.Hour), newDeadline()); got != Kept || err != nil {
				t.Errorf("Reap of a young session = %v, %v, want %v", got, err, Kept)
			}
			for _, c := range counter.Calls() {
				if c.Writes() {
					t.Errorf("Reap of a young session calls %v", c)
				}
			}
			for range 2 {
				if got, err := s.reap(t.Context(), m, tok.ID); got != Removed || err != nil {
					t.Errorf("Reap = %v, %v, want %v", got, err, Removed)
				}
				wantReaped(t, m, data)
			}
		})
	}
}

// TestReapFails makes each call of Reap fail, before and after it takes effect,
// and as if the process had died there. The newest record stays the last one to
// be deleted, and the next Reap removes what is left.
func TestReapFails(t *testing.T) {
	for _, s := range reapScenarios() {
		for _, mode := range []drivertest.Mode{drivertest.Lost, drivertest.Unanswered} {
			for _, dead := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%v/dead=%v", s.name, mode, dead), func(t *testing.T) {
					for nth := 1; reapFailing(t, s, &drivertest.Faulty{Mode: mode, Nth: nth, Dead: dead}); nth++ {
					}
				})
			}
		}
	}
}

// reapFailing reaps with a fault, and then without. It reports whether the fault
// was hit.
func reapFailing(t *testing.T, s reapScenario, faulty *drivertest.Faulty) bool {
	t.Helper()
	store := &membucket.Store{Habits: smallS3()}
	m := replica(t, store, nil)
	tok := m.Start("r", digest.SHA256)
	s.start(t, m, tok)
	before, _, data := bucketKeys(t, m)

	failing := replica(t, store, nil)
	failing.cfg.Bucket = drivertest.Wrap(failing.cfg.Bucket, faulty.Intercept)
	got, err := s.reap(t.Context(), failing, tok.ID)
	_, hit := faulty.Hit()
	if !hit && (got != Removed || err != nil) {
		t.Errorf("Reap = %v, %v, want %v", got, err, Removed)
	}
	records, _, _ := bucketKeys(t, m)
	if n := len(records); n > 0 && records[n-1] < before[len(before)-1] {
		t.Errorf("Reap with call %d failing leaves %v of %v, want the newest record to go last", faulty.Nth, records, before)
	}
	if got, err := s.reap(t.Context(), m, tok.ID); got != Removed || err != nil {
		t.Errorf("the next Reap, after call %d failed, = %v, %v, want %v", faulty.Nth, got, err, Removed)
	}
	wantReaped(t, m, data)
	return hit
}

// TestConcurrentReaps runs several collectors concurrently.
func TestConcurrentReaps(t *testing.T) {
	for _, s := range reapScenarios() {
		t.Run(s.name, func(t *testing.T) {
			store := &membucket.Store{Habits: smallS3()}
			m := replica(t, store, nil)
			tok := m.Start("r", digest.SHA256)
			s.start(t, m, tok)
			_, _, data := bucketKeys(t, m)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					if _, err := s.reap(t.Context(), m, tok.ID); err != nil {
						t.Errorf("Reap = %v, want success", err)
					}
				})
			}
			wg.Wait()
			if got, err := s.reap(t.Context(), m, tok.ID); got != Removed || err != nil { // a late run may have ended it again
				t.Errorf("Reap = %v, %v, want %v", got, err, Removed)
			}
			wantReaped(t, m, data)
		})
	}
}

// TestReapLosesTheRace lets a request continue the session after Reap has read
// it. Reap must not touch the session, and the request completes its upload.
func TestReapLosesTheRace(t *testing.T) {
	first, rest := reapData[:200*kiB], reapData[200*kiB:]
	store := &membucket.Store{Habits: smallS3()}
	m := replica(t, store, nil)
	tok := patch(t, m, m.Start("r", digest.SHA256), first)
	var next Token
	racing := replica(t, store, nil)
	racing.cfg.Bucket = drivertest.Wrap(racing.cfg.Bucket, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if c.Method == "Create" && next.Seq == 0 {
			next = patch(t, m, tok, rest)
		}
		return do(ctx)
	})
	if got, _, err := reaper(racing).Reap(t.Context(), tok.ID, time.Now().Add(time.Hour), newDeadline()); got != Kept || err != nil {
		t.Errorf("Reap = %v, %v, want %v", got, err, Kept)
	}
	wantCommit(t, m, next, nil, reapData)
}

// TestReapWinsTheRace lets Reap end a session while a request continues it. The
// request fails, and nothing is left.
func TestReapWinsTheRace(t *testing.T) {
	m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
	tok := patch(t, m, m.Start("r", digest.SHA256), reapData[:200*kiB])
	w := resume(t, m, tok, Options{Length: -1})
	defer w.Close()
	if _, err := w.ReadFrom(bytes.NewReader(reapData[200*kiB : 210*kiB])); err != nil {
		t.Fatal(err)
	}
	t0 := time.Now().Add(time.Hour)
	faulty := &drivertest.Faulty{Mode: drivertest.Lost, Match: onlyMethod("Abort")} // it stops after its fence
	failing := *m
	failing.cfg.Bucket = drivertest.Wrap(m.cfg.Bucket, faulty.Intercept)
	if _, _, err := reaper(&failing).Reap(t.Context(), tok.ID, t0, newDeadline()); !errors.Is(err, drivertest.ErrInjected) {
		t.Fatalf("Reap = %v, want %v", err, drivertest.ErrInjected)
	}
	if _, err := w.Suspend(t.Context()); !errors.Is(err, ErrUnknown) {
		t.Errorf("Suspend = %v, want %v", err, ErrUnknown)
	}
	if got, _, err := reaper(m).Reap(t.Context(), tok.ID, t0, newDeadline()); got != Removed || err != nil {
		t.Errorf("Reap = %v, %v, want %v", got, err, Removed)
	}
	wantReaped(t, m, nil)
}

// TestReapTooLate checks that Reap writes nothing after its deadline.
func TestReapTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, s := range reapScenarios() {
			counter := &drivertest.Counter{}
			slow := false
			m := replica(t, &membucket.Store{Habits: smallS3()}, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
				err := counter.Intercept(ctx, c, do)
				if slow {
					time.Sleep(2 * time.Minute)
				}
				return err
			})
			tok := m.Start("r", digest.SHA256)
			s.start(t, m, tok)
			counter.Reset()
			slow = true
			result, remains, err := reaper(m).Reap(t.Context(), tok.ID, time.Now().Add(time.Hour), deadline.New(3*time.Minute))
			if result == Undecided {
				err = reaper(m).Remove(t.Context(), remains, s.published)
			}
			if err == nil {
				t.Errorf("%s: Reap after its deadline succeeds, want an error", s.name)
			}
			for _, c := range counter.Calls() {
				if c.Writes() {
					t.Errorf("%s: Reap calls %v after its deadline", s.name, c)
				}
			}
		}
	})
}

// TestReapUploads checks that old uploads are aborted, and young ones are not, and
// that one Abort that fails does not keep the other uploads.
func TestReapUploads(t *testing.T) {
	store := &membucket.Store{Habits: smallS3()}
	m := replica(t, store, nil)
	for range 3 {
		if _, err := m.cfg.Bucket.StartUpload(t.Context(), m.cfg.Layout.Data("")); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := reaper(m).ReapUploads(t.Context(), time.Now().Add(-time.Hour), newDeadline()); n != 0 || err != nil {
		t.Errorf("ReapUploads of young uploads = %d, %v, want 0", n, err)
	}
	old := time.Now().Add(time.Hour)
	faulty := &drivertest.Faulty{Mode: drivertest.Lost, Nth: 1, Match: onlyMethod("Abort")}
	failing := *m
	failing.cfg.Bucket = drivertest.Wrap(m.cfg.Bucket, faulty.Intercept)
	if n, err := reaper(&failing).ReapUploads(t.Context(), old, newDeadline()); n != 2 || !errors.Is(err, drivertest.ErrInjected) {
		t.Errorf("ReapUploads with one failure = %d, %v, want 2 and %v", n, err, drivertest.ErrInjected)
	}
	if n, err := reaper(m).ReapUploads(t.Context(), old, deadline.Deadline{}); n != 0 || !errors.Is(err, drivers.ErrBusy) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ReapUploads after its deadline = %d, %v, want 0 and %v", n, err, drivers.ErrBusy)
	}
	if n, err := reaper(m).ReapUploads(t.Context(), old, newDeadline()); n != 1 || err != nil {
		t.Errorf("ReapUploads = %d, %v, want 1", n, err)
	}
	wantReaped(t, m, nil)
}
