package blobstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// smallManifests is a configuration with memory for 7 segments of 64 KiB, 3 of which
// are set aside for one client.
var smallManifests = ManifestConfig{MaxSize: 64 << 10, Memory: 1 * mib}

// wantNoBodies checks that m has all its memory back.
func wantNoBodies(t *testing.T, m *manifestBodies) {
	t.Helper()
	if !m.budget.IsIdle() || len(m.large) != 0 {
		t.Errorf("memory in use: %+v, with %d large manifests, want none", m.budget.Usage(), len(m.large))
	}
}

// TestReceiveSizes reads bodies of all kinds of sizes, with a length that is declared,
// unknown or wrong.
func TestReceiveSizes(t *testing.T) {
	const most = 200 << 10
	m := newManifestBodies(ManifestConfig{MaxSize: most, Memory: 16 * most}, 10)
	for _, size := range []int{0, 1, 1000, smallManifest - 1, smallManifest, smallManifest + 1, 2 * smallManifest, most - 1, most, most + 1, 2 * most} {
		want := randomManifest(size)
		for declared, wantErr := range map[int64]error{
			-1:              tooLargeOver(size, most),
			int64(size):     tooLargeOver(size, most),
			int64(size - 1): ErrBlobInvalidLength,
			int64(size + 1): ErrBlobInvalidLength,
		} {
			if declared > most {
				wantErr = ErrManifestTooLarge{most}
			}
			if declared < -1 {
				continue
			}
			if size == 0 && declared == -1 {
				wantErr = nil
			}
			for _, reader := range []io.Reader{bytes.NewReader(want), iotest.DataErrReader(iotest.HalfReader(bytes.NewReader(want)))} {
				got, release, err := m.read(t.Context(), Body{Reader: reader, Length: declared})
				if !errors.Is(err, wantErr) || err == nil && !bytes.Equal(got, want) {
					t.Errorf("read of %d bytes, declared as %d = %d bytes, %v, want %v", size, declared, len(got), err, wantErr)
				}
				if err == nil {
					release()
				}
			}
		}
	}
	wantNoBodies(t, m)
}

func tooLargeOver(size int, most int64) error {
	if int64(size) > most {
		return ErrManifestTooLarge{most}
	}
	return nil
}

func randomManifest(size int) []byte {
	rng := rand.NewChaCha8([32]byte{byte(size)})
	p := make([]byte, size)
	_, _ = rng.Read(p) // it never fails
	return p
}

// The content stays as it is although its memory is released and used again.
func TestReceivedContentIsNotShared(t *testing.T) {
	m := newManifestBodies(smallManifests, 10)
	for _, declared := range []int64{-1, 1000} {
		first := strings.Repeat("a", 1000)
		content, release, err := m.read(t.Context(), Body{Reader: strings.NewReader(first), Length: declared})
		if err != nil {
			t.Fatal(err)
		}
		release()
		for range 20 {
			_, release, err := m.read(t.Context(), Body{Reader: strings.NewReader(strings.Repeat("b", 1000)), Length: declared})
			if err != nil {
				t.Fatal(err)
			}
			release()
		}
		if string(content) != first {
			t.Errorf("with the declared length %d, later manifests have changed the content of the first", declared)
		}
	}
}

// A body that fails returns its own error.
func TestReceiveBrokenBody(t *testing.T) {
	m := newManifestBodies(smallManifests, 10)
	broken := errors.New("broken")
	for _, n := range []int{0, 10} {
		body := io.MultiReader(strings.NewReader(strings.Repeat("x", n)), iotest.ErrReader(broken))
		if _, _, err := m.read(t.Context(), Body{Reader: body, Length: 100}); !errors.Is(err, broken) {
			t.Errorf("read of a body that breaks after %d bytes = %v, want %v", n, err, broken)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := m.read(ctx, Body{Reader: strings.NewReader("x"), Length: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("read with a context that has ended = %v, want %v", err, context.Canceled)
	}
	wantNoBodies(t, m)
}

// slowBody sends a piece of its bytes at a time, until it is interrupted. It must be
// used in a bubble.
type slowBody struct {
	left, piece int
	every       time.Duration

	once        sync.Once
	interrupted chan struct{}
}

func newSlowBody(size, piece int, every time.Duration) *slowBody {
	return &slowBody{left: size, piece: piece, every: every, interrupted: make(chan struct{})}
}

func (s *slowBody) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(s.every):
		n := min(len(p), s.piece, s.left)
		s.left -= n
		return n, nil
	case <-s.interrupted:
		return 0, errors.New("interrupted")
	}
}

func (s *slowBody) body() Body {
	return Body{Reader: s, Length: int64(s.left), Interrupt: func() { s.once.Do(func() { close(s.interrupted) }) }}
}

// watchUsage checks until stop is closed that no more memory is in use than there is.
func watchUsage(t *testing.T, m *manifestBodies, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(50 * time.Millisecond):
		}
		if u := m.budget.Usage(); u.Free < 0 || u.Small < 0 {
			t.Errorf("memory in use: %+v, want no more than there is", u)
		}
	}
}

// slowClients sends manifests of the largest size slowly, from many clients at once.
// It checks that the memory in use stays within its bound, and that the manifests of
// fast clients are received meanwhile.
func slowClients(t *testing.T, cfg ManifestConfig, clients int) {
	synctest.Test(t, func(t *testing.T) {
		m := newManifestBodies(cfg, 2*clients)
		var received, refused atomic.Int64
		var handled, most int64
		var mu sync.Mutex
		handle := func(content []byte, release func()) {
			mu.Lock()
			handled += int64(len(content))
			most = max(most, handled)
			mu.Unlock()
			time.Sleep(100 * time.Millisecond) // it is parsed and stored
			mu.Lock()
			handled -= int64(len(content))
			mu.Unlock()
			release()
		}
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() {
				// From an eighth of the slowest rate that is allowed to four times that.
				rate := 8 << 10 << (i % 6)
				content, release, err := m.read(t.Context(), newSlowBody(int(cfg.MaxSize), rate, time.Second).body())
				switch {
				case err == nil:
					received.Add(1)
					handle(content, release)
				case errors.Is(err, ErrUnavailable):
					refused.Add(1)
				default:
					t.Errorf("read of a slow body = %v, want no error or ErrUnavailable", err)
				}
			})
		}
		stop := make(chan struct{})
		wg.Go(func() { watchUsage(t, m, stop) })
		for range 20 { // while the others send
			time.Sleep(time.Second)
			start := time.Now()
			content, release, err := m.read(t.Context(), newSlowBody(2000, 2000, time.Millisecond).body())
			if err != nil {
				t.Errorf("read of a small body among slow clients: %v", err)
				continue
			}
			if took := time.Since(start); took > time.Second {
				t.Errorf("a small body among slow clients took %v, want at most a second", took)
			}
			handle(content, release)
		}
		time.Sleep(24 * time.Hour)
		close(stop)
		wg.Wait()
		if received.Load() == 0 || refused.Load() == 0 || received.Load()+refused.Load() != int64(clients) {
			t.Errorf("%d manifests were received and %d refused, want both, and %d in all", received.Load(), refused.Load(), clients)
		}
		if bound := int64(cap(m.large))*cfg.MaxSize + 2000; most > bound || bound > cfg.Memory/2 {
			t.Errorf("up to %d bytes of manifests were handled at a time, want at most %d", most, bound)
		}
		wantNoBodies(t, m)
	})
}

func TestSlowClientsWithManifests(t *testing.T) {
	slowClients(t, ManifestConfig{MaxSize: 256 << 10, Memory: 4 * mib}, 60)
}

// TestLongSlowClientsWithManifests is TestSlowClientsWithManifests with the sizes of
// the default configuration. It measures the heap.
func TestLongSlowClientsWithManifests(t *testing.T) {
	if !long() {
		t.Skip("it takes minutes: set BERTH_TEST_LONG=1, or run make test-long")
	}
	var cfg ManifestConfig
	cfg.setDefaults()
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	stop, measured := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		for {
			select {
			case <-stop:
				measured <- most
				return
			case <-time.After(100 * time.Millisecond):
				runtime.GC()
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapAlloc)
			}
		}
	}()
	slowClients(t, cfg, 500)
	close(stop)
	if used := int64(<-measured) - int64(before.HeapAlloc); used > cfg.Memory+16*mib {
		t.Errorf("500 slow clients made the heap grow by %d bytes, want at most %d and a little", used, cfg.Memory)
	}
}

// While no client waits, a client may be slow.
func TestSlowManifestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManifestBodies(smallManifests, 10)
		_, release, err := m.read(t.Context(), newSlowBody(60, 1, time.Minute).body())
		if err != nil {
			t.Fatalf("read of a byte a minute = %v, want no error", err)
		}
		release()
		wantNoBodies(t, m)
	})
}

// TestTooManyManifests refuses a manifest while as many wait for memory as may.
func TestTooManyManifests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManifestBodies(smallManifests, 0)
		var wg sync.WaitGroup
		for range 7 { // of which some are refused
			wg.Go(func() {
				_, release, err := m.read(t.Context(), Body{Reader: newSlowBody(smallManifest, 1<<10, time.Second), Length: -1})
				if err == nil {
					release()
				}
			})
		}
		synctest.Wait()
		if _, _, err := m.read(t.Context(), Body{Reader: strings.NewReader("x"), Length: -1}); !errors.Is(publicError(err), ErrTooMany) {
			t.Errorf("read while no memory is left = %v, want ErrTooMany", err)
		}
		wg.Wait()
		wantNoBodies(t, m)
	})
}

// TestDrainManifests ends bodies that have not arrived, those that wait to be handled,
// and those that come later. One that is being handled is not disturbed.
func TestDrainManifests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManifestBodies(ManifestConfig{MaxSize: 128 << 10, Memory: 16 * 128 << 10}, 10)
		var releases []func()
		for range cap(m.large) {
			_, release, err := m.read(t.Context(), Body{Reader: bytes.NewReader(randomManifest(100 << 10)), Length: -1})
			if err != nil {
				t.Fatal(err)
			}
			releases = append(releases, release)
		}
		var wg sync.WaitGroup
		wantRefused := func(what string, body Body) {
			wg.Go(func() {
				if _, _, err := m.read(t.Context(), body); !errors.Is(err, ErrUnavailable) {
					t.Errorf("read of %s = %v, want ErrUnavailable", what, err)
				}
			})
		}
		wantRefused("a body that has not arrived", newSlowBody(100, 1, time.Hour).body())
		late := newSlowBody(100<<10, 100<<10, time.Second).body()
		late.Interrupt = func() { t.Error("a body that has arrived was interrupted") }
		wantRefused("a body that has arrived and waits", late)
		time.Sleep(time.Minute)
		m.budget.Drain()
		wg.Wait()
		wantRefused("a body that comes after Drain", Body{Reader: strings.NewReader("x"), Length: 1})
		wg.Wait()
		for _, release := range releases {
			release()
		}
		wantNoBodies(t, m)
	})
}
