package trace_test

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/blobstore/internal/trace"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/drivers/memory"
)

const want = `PATCH uploads/<upload> -> 202
    StartUpload data/new/<xx>/<data>
  | Open blobs/sha256/<xx>/<sha256>/record -> not found
  | PutPart data/new/<xx>/<data> parts 1 to 3, 1 MiB each
    PutPart data/new/<xx>/<data> part 4, 4 bytes
    Create uploads/<upload>/00000001 {kind: open, upload: data/new/<xx>/<data>, parts: 4} + 3 bytes
    Create uploads/<upload>/00000001 4 bytes -> exists
PATCH uploads/<upload 2> -> 1
    Delete uploads/<upload 2>/00000001
... 2 more such requests
PATCH uploads/<upload 2> -> 4
    Delete uploads/<upload 2>/00000001
12 requests to the store
`

// TestTrace records calls of every form.
func TestTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, err := memory.Open(t.Context(), memory.Config{Store: &memory.Store{Habits: memory.GCS()}})
		must(t, err)
		var r trace.Recorder
		b := r.Wrap(store)
		upload(t, &r, b)
		for _, status := range []string{"1", "2", "3", "4"} {
			key := "uploads/" + strings.Repeat("b", 32)
			done := r.Request("PATCH " + key)
			must(t, b.Delete(t.Context(), key+"/00000001"))
			done(status)
		}
		if diff := cmp.Diff(want, r.String()); diff != "" {
			t.Errorf("trace (-want +got):\n%s", diff)
		}
		if got := r.Calls(); got != 12 {
			t.Errorf("Calls() = %d, want 12", got)
		}
	})
}

// upload makes the calls of an upload. Three parts are stored at the same time, and
// started in the reverse of the order in which the trace has them.
func upload(t *testing.T, r *trace.Recorder, b drivers.Bucket) {
	t.Helper()
	key := "uploads/" + strings.Repeat("a", 32)
	done := r.Request("PATCH " + key)
	u, err := b.StartUpload(t.Context(), "data/new/ab/"+strings.Repeat("ab", 16))
	must(t, err)
	parts := make([]drivers.Part, 4)
	put := func(number int, p []byte) {
		var err error
		if parts[number-1], err = b.PutPart(t.Context(), u, number, drivers.NewBody(p)); err != nil {
			t.Error(err)
		}
	}
	var wg sync.WaitGroup
	for number := 3; number > 0; number-- {
		wg.Go(func() { put(number, make([]byte, 1<<20)) })
	}
	wg.Go(func() {
		_, _, err := b.Open(t.Context(), "blobs/sha256/00/"+strings.Repeat("0", 64)+"/record", 0, -1)
		if err == nil {
			t.Error("Open of an absent key succeeded")
		}
	})
	wg.Wait()
	put(4, []byte("tail"))
	record := map[string]any{"kind": "open", "upload": u, "parts": parts, "nonsense": 1}
	_, err = envelope.Create(t.Context(), b, key+"/00000001", record, drivers.NewBody([]byte("raw")))
	must(t, err)
	if _, err := b.Create(t.Context(), key+"/00000001", drivers.NewBody([]byte("late"))); err == nil {
		t.Error("Create of an existing key succeeded")
	}
	done("202")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
