package blobstore

import (
	"bytes"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/drivers/memory"
)

// TestPushOntoLostData pushes a blob with a live record whose data is gone or cut
// short. The push keeps its own bytes, even though it found the record before it
// stored them.
func TestPushOntoLostData(t *testing.T) {
	p := randomBytes(7, 300_000)
	d := digest.FromBytes(p)
	for name, left := range map[string][]byte{"gone": nil, "cut short": p[1:]} {
		t.Run(name, func(t *testing.T) {
			b, err := memory.Open(t.Context(), memory.Config{Store: &memory.Store{Habits: smallS3()}})
			if err != nil {
				t.Fatal(err)
			}
			s := openStore(t, b, smallParts())
			if _, err := repository(t, s, "first").Put(t.Context(), "", p); err != nil {
				t.Fatal(err)
			}
			rec, err := envelope.Read[record](t.Context(), b, catalog.RecordKey(d))
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Delete(t.Context(), rec.Value.Data); err != nil {
				t.Fatal(err)
			}
			if left != nil {
				if _, err := b.Create(t.Context(), rec.Value.Data, drivers.NewBody(left)); err != nil {
					t.Fatal(err)
				}
			}
			second := repository(t, s, "second")
			if _, err := second.Put(t.Context(), "", p); err != nil {
				t.Fatal(err)
			}
			if got, err := second.Get(t.Context(), d); err != nil || !bytes.Equal(got, p) {
				t.Errorf("Get(%s) = %d bytes, %v, want %d", d, len(got), err, len(p))
			}
		})
	}
}

func smallS3() memory.Habits {
	h := memory.S3()
	h.Limits.MinPart = 64 << 10
	return h
}
