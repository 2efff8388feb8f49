package system

import (
	"bytes"
	"net/http"
	"sync"
	"testing"
	"time"
)

// TestKillBetweenAndInPatches kills the server with SIGKILL between requests and in the
// middle of them. Each time another server on the same directory reports the offset to
// resume at: never less than what was acknowledged, never more than what was sent.
func TestKillBetweenAndInPatches(t *testing.T) {
	t.Parallel()
	testKillBetweenAndInPatches(t, 13<<20)
}

func TestLongKillBetweenAndInPatches(t *testing.T) {
	skipUnlessLong(t, "kills in an upload of a hundred pieces")
	testKillBetweenAndInPatches(t, 300<<20)
}

func testKillBetweenAndInPatches(t *testing.T, size int) {
	root, data := t.TempDir(), randomBytes(1, size)
	const piece = 3 << 20
	p := serving(t, root)
	location := startUpload(t, p)
	acknowledged := 0
	restart := func(sent int) {
		t.Helper()
		p.kill()
		p = serving(t, root)
		next, offset := status(t, p, location)
		if offset < acknowledged || offset > sent {
			t.Fatalf("offset = %d, with %d bytes acknowledged and %d sent", offset, acknowledged, sent)
		}
		location, acknowledged = next, offset
	}

	for acknowledged+2*piece < len(data) {
		a := want(t, p, http.StatusAccepted, http.MethodPatch, location, bytes.NewReader(data[acknowledged:acknowledged+piece]))
		location, acknowledged = a.header.Get("Location"), acknowledged+piece
		if got := offsetOf(t, a); got != acknowledged {
			t.Fatalf("offset of the response to a PATCH = %d, want %d", got, acknowledged)
		}
		restart(acknowledged)

		sent := acknowledged + piece
		body := stall(data[acknowledged:sent])
		var wg sync.WaitGroup
		wg.Go(func() {
			if a, err := request(t.Context(), p, http.MethodPatch, location, body); err == nil {
				t.Errorf("PATCH whose body does not end = %d %s, want no response", a.status, a.body)
			}
		})
		<-body.stalled
		p.kill()
		close(body.released)
		wg.Wait()
		restart(sent)
	}
	want(t, p, http.StatusCreated, http.MethodPut, finish(location, data), bytes.NewReader(data[acknowledged:]))
	wantBlob(t, p, data)
	p.kill()
	p = serving(t, root)
	wantBlob(t, p, data)
}

// TestKillInPut kills the server at several moments of the PUT that commits an upload.
// Another server on the same directory answers the same PUT with 201, twice, and
// serves the blob.
func TestKillInPut(t *testing.T) {
	t.Parallel()
	testKillInPut(t, 6, 6*time.Millisecond)
}

func TestLongKillInPut(t *testing.T) {
	skipUnlessLong(t, "kills at a hundred moments of a PUT")
	testKillInPut(t, 100, time.Millisecond/2)
}

func testKillInPut(t *testing.T, moments int, step time.Duration) {
	root := t.TempDir()
	p := serving(t, root)
	for i := range moments {
		data := randomBytes(uint64(100+i), 2<<20+i)
		half := len(data) / 2 * (i % 2) // every second upload is a single PUT
		location := startUpload(t, p)
		if half > 0 {
			location = want(t, p, http.StatusAccepted, http.MethodPatch, location, bytes.NewReader(data[:half])).header.Get("Location")
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = request(t.Context(), p, http.MethodPut, finish(location, data), bytes.NewReader(data[half:])) // the result does not matter
		})
		time.Sleep(time.Duration(i) * step)
		p.kill()
		wg.Wait()

		p = serving(t, root)
		for range 2 {
			want(t, p, http.StatusCreated, http.MethodPut, finish(location, data), bytes.NewReader(data[half:]))
			wantBlob(t, p, data)
		}
	}
}

// TestConcurrentPuts sends the PUT that commits an upload three times at the same time.
// Each of them gets 201, and the server serves the blob.
func TestConcurrentPuts(t *testing.T) {
	t.Parallel()
	p := serving(t, t.TempDir())
	for i, size := range []int{1000, 100_000, 3 << 20, 20 << 20} {
		for _, half := range []int{0, size / 2, size} {
			data := randomBytes(uint64(200+10*i+half%7), size)
			location := startUpload(t, p)
			if half > 0 {
				location = want(t, p, http.StatusAccepted, http.MethodPatch, location, bytes.NewReader(data[:half])).header.Get("Location")
			}
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					a, err := request(t.Context(), p, http.MethodPut, finish(location, data), bytes.NewReader(data[half:]))
					if err != nil || a.status != http.StatusCreated {
						t.Errorf("PUT of %d bytes after %d = %d %s, %v, want 201", size-half, half, a.status, a.body, err)
					}
				})
			}
			wg.Wait()
			wantBlob(t, p, data)
		}
	}
}
