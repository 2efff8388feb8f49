package azure

import (
	"errors"
	"testing"

	"github.com/berthhq/berth/drivers"
)

// testStagedBlocksAreHidden checks that an upload in progress is not visible.
func testStagedBlocksAreHidden(t *testing.T, cfg Config) {
	ctx := t.Context()
	b := open(t, cfg)
	u, _ := b.StartUpload(ctx, "data/u")
	p, err := b.PutPart(ctx, u, 1, drivers.NewBody([]byte("part")))
	if err != nil {
		t.Fatal(err)
	}
	for o, err := range b.List(ctx, "", "", 0) {
		t.Errorf("List returns %+v, %v", o, err)
	}
	if o, err := b.Stat(ctx, "data/u"); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("Stat = %+v, %v, want %v", o, err, drivers.ErrNotFound)
	}
	if _, _, err := b.Open(ctx, "data/u", 0, -1); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("Open = %v, want %v", err, drivers.ErrNotFound)
	}
	if o, err := b.Complete(ctx, u, []drivers.Part{p}, p.CRC32C); err != nil || o.Size != 4 {
		t.Errorf("Complete = %+v, %v, want 4 bytes", o, err)
	}
}

// testCompleteTaken completes uploads to a taken key.
func testCompleteTaken(t *testing.T, cfg Config) {
	ctx := t.Context()
	b := open(t, cfg)
	existing, err := b.Create(ctx, "data/u", drivers.NewBody([]byte("there")))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		u, _ := b.StartUpload(ctx, "data/u")
		p, err := b.PutPart(ctx, u, 1, drivers.NewBody([]byte("part")))
		if err != nil {
			t.Fatal(err)
		}
		if o, err := b.Complete(ctx, u, []drivers.Part{p}, p.CRC32C); err != nil || o != existing {
			t.Errorf("Complete = %+v, %v, want the existing %+v", o, err, existing)
		}
		if err := b.Abort(ctx, u); err != nil {
			t.Errorf("Abort = %v", err)
		}
		if o, err := b.Stat(ctx, "data/u"); err != nil || o != existing {
			t.Errorf("Stat = %+v, %v, want %+v", o, err, existing)
		}
	}

	// Two uploads have one key. The second Complete returns the blob of the first.
	u, _ := b.StartUpload(ctx, "data/two")
	v, _ := b.StartUpload(ctx, "data/two")
	pu, _ := b.PutPart(ctx, u, 1, drivers.NewBody([]byte("first")))
	pv, _ := b.PutPart(ctx, v, 1, drivers.NewBody([]byte("second one")))
	if o, err := b.Complete(ctx, u, []drivers.Part{pv}, pv.CRC32C); !errors.Is(err, drivers.ErrChanged) {
		t.Errorf("Complete with a part of another upload of the key = %+v, %v, want %v", o, err, drivers.ErrChanged)
	}
	for _, up := range []drivers.Upload{u, v} {
		p := map[string]drivers.Part{u.ID: pu, v.ID: pv}[up.ID]
		if o, err := b.Complete(ctx, up, []drivers.Part{p}, p.CRC32C); err != nil || o.Size != 5 {
			t.Errorf("Complete of %s = %+v, %v, want the 5 bytes of %s", up.ID, o, err, u.ID)
		}
	}
}

// open opens the container, and closes it at the end of the test.
func open(t *testing.T, cfg Config) drivers.Bucket {
	t.Helper()
	b, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}
