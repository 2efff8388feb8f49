package catalog_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

func TestWriteLink(t *testing.T) {
	b := openBucket(t)
	c := catalog.New(b)
	rec := ensure(t, b, inline(text))
	write := func(rec catalog.StoredRecord, replaces bool) {
		t.Helper()
		replaced, err := c.WriteLink(t.Context(), due(), "team/app", rec)
		if err != nil || replaced != replaces {
			t.Errorf("WriteLink = %t, %v, want %t, nil", replaced, err, replaces)
		}
		link, err := c.ReadLink(t.Context(), rec.Value.Digest, "team/app")
		if err != nil || link.Value != rec.Value || string(link.Raw) != text {
			t.Errorf("ReadLink = %+v with %q, %v, want %+v with %q", link.Value, link.Raw, err, rec.Value, text)
		}
	}
	write(rec, false)
	write(rec, false)
	rec.Value.ID = catalog.NewID() // the record was removed and created again
	write(rec, true)
	markLink(t, b, rec.Value, "team/app")
	write(rec, true)
}

func TestReadLinkOfWrongLength(t *testing.T) {
	b := openBucket(t)
	c := catalog.New(b)
	rec := ensure(t, b, inline(text))
	rec.Value.Size++
	if _, err := c.WriteLink(t.Context(), due(), "a", rec); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReadLink(t.Context(), rec.Value.Digest, "a"); err == nil || errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("ReadLink of an inline blob that is a byte too short = %v, want an error other than ErrNotFound", err)
	}
}

func TestDeleteLink(t *testing.T) {
	b := openBucket(t)
	c := catalog.New(b)
	rec := ensure(t, b, stored(t, b, text))
	d := rec.Value.Digest
	for _, repository := range []string{"a", "b"} {
		if _, err := c.WriteLink(t.Context(), due(), repository, rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.DeleteLink(t.Context(), due(), d, "a"); err != nil {
		t.Errorf("DeleteLink = %v, want nil", err)
	}
	if err := c.DeleteLink(t.Context(), due(), d, "a"); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("second DeleteLink = %v, want %v", err, drivers.ErrNotFound)
	}
	if _, err := c.ReadLink(t.Context(), d, "b"); err != nil {
		t.Errorf("ReadLink of another repository = %v, want the link", err)
	}
}

// Concurrent pushes and deletions of an outdated link leave a link that agrees with
// the record, or no link.
func TestLinkRaces(t *testing.T) {
	b := openBucket(t)
	c := catalog.New(b)
	old := ensure(t, b, stored(t, b, text))
	if _, err := c.WriteLink(t.Context(), due(), "a", old); err != nil {
		t.Fatal(err)
	}
	rec := old
	rec.Value.ID = catalog.NewID()
	var wg sync.WaitGroup
	var written, deleted atomic.Int32
	for range 8 {
		wg.Go(func() {
			if _, err := c.WriteLink(t.Context(), due(), "a", rec); err != nil {
				t.Errorf("WriteLink = %v, want nil", err)
			}
			written.Add(1)
		})
		wg.Go(func() {
			switch err := c.DeleteLink(t.Context(), due(), rec.Value.Digest, "a"); {
			case err == nil:
				deleted.Add(1)
			case !errors.Is(err, drivers.ErrNotFound):
				t.Errorf("DeleteLink = %v, want nil or %v", err, drivers.ErrNotFound)
			}
		})
	}
	wg.Wait()
	link, err := c.ReadLink(t.Context(), rec.Value.Digest, "a")
	switch {
	case errors.Is(err, drivers.ErrNotFound):
		if deleted.Load() == 0 {
			t.Error("the link is gone, but no DeleteLink returned nil")
		}
	case err != nil || !rec.Value.Agrees(link.Value):
		t.Errorf("ReadLink = %+v, %v, want a copy of %+v", link.Value, err, rec.Value)
	}
}

// If any call to the store fails, a retry writes the link.
func TestWriteLinkFaults(t *testing.T) {
	for _, name := range []string{"no link", "outdated link"} {
		t.Run(name, func(t *testing.T) {
			var rec catalog.StoredRecord
			setUp := func(t *testing.T, b drivers.Bucket) {
				rec = ensure(t, b, stored(t, b, text))
				if name == "outdated link" {
					if _, err := catalog.New(b).WriteLink(t.Context(), due(), "a", rec); err != nil {
						t.Fatal(err)
					}
					rec.Value.ID = catalog.NewID()
				}
			}
			do := func(ctx context.Context, c *catalog.Catalog) error {
				_, err := c.WriteLink(ctx, due(), "a", rec)
				return err
			}
			eachFault(t, setUp, do, func(t *testing.T, b drivers.Bucket, failed error) {
				c := catalog.New(b)
				link, err := c.ReadLink(t.Context(), rec.Value.Digest, "a")
				if failed == nil && (err != nil || link.Value != rec.Value) {
					t.Errorf("WriteLink = nil, but ReadLink = %+v, %v", link.Value, err)
				}
				if err := do(t.Context(), c); err != nil {
					t.Errorf("WriteLink again = %v, want nil", err)
				}
				link, err = c.ReadLink(t.Context(), rec.Value.Digest, "a")
				if err != nil || link.Value != rec.Value {
					t.Errorf("ReadLink after a retry = %+v, %v, want %+v", link.Value, err, rec.Value)
				}
			})
		})
	}
}

// If any call to the store fails, a retry deletes the link or reports that it is
// gone.
func TestDeleteLinkFaults(t *testing.T) {
	setUp := func(t *testing.T, b drivers.Bucket) {
		if _, err := catalog.New(b).WriteLink(t.Context(), due(), "a", ensure(t, b, inline(text))); err != nil {
			t.Fatal(err)
		}
	}
	d := inline(text).Digest
	do := func(ctx context.Context, c *catalog.Catalog) error { return c.DeleteLink(ctx, due(), d, "a") }
	eachFault(t, setUp, do, func(t *testing.T, b drivers.Bucket, _ error) {
		c := catalog.New(b)
		if err := do(t.Context(), c); err != nil && !errors.Is(err, drivers.ErrNotFound) {
			t.Errorf("DeleteLink again = %v, want nil or %v", err, drivers.ErrNotFound)
		}
		if _, err := c.ReadLink(t.Context(), d, "a"); !errors.Is(err, drivers.ErrNotFound) {
			t.Errorf("ReadLink after a retry = %v, want %v", err, drivers.ErrNotFound)
		}
	})
}

// TestWriteAliasTakesMarkOff checks that WriteAlias replaces a condemned alias, so
// that the collector's deletion fails, and leaves another alias as it is.
func TestWriteAliasTakesMarkOff(t *testing.T) {
	for _, condemned := range []bool{false, true} {
		for _, read := range []bool{true, false} {
			b := openBucket(t)
			c := catalog.New(b)
			before, err := envelope.Create(t.Context(), b, catalog.AliasKey(sha512), catalog.Alias{Digest: sha256, Condemned: condemned}, drivers.Body{})
			if err != nil {
				t.Fatal(err)
			}
			existing := catalog.StoredAlias{}
			if read {
				existing = before
			}
			if err := c.WriteAlias(t.Context(), due(), sha512, sha256, existing); err != nil {
				t.Fatal(err)
			}
			after, err := c.ReadAlias(t.Context(), sha512)
			if err != nil || after.Value.Condemned || (after.Object.Tag != before.Object.Tag) != condemned {
				t.Errorf("WriteAlias of an alias that is condemned: %t, read: %t: condemned: %t, tags %s and %s, %v, want a new tag: %t",
					condemned, read, after.Value.Condemned, before.Object.Tag, after.Object.Tag, err, condemned)
			}
		}
	}
}

// WriteAlias returns an error if the alias refers to another digest.
func TestWriteAliasOfOtherBytes(t *testing.T) {
	c := catalog.New(openBucket(t))
	if err := c.WriteAlias(t.Context(), due(), sha512, sha256, catalog.StoredAlias{}); err != nil {
		t.Fatal(err)
	}
	other := inline("other bytes").Digest
	if err := c.WriteAlias(t.Context(), due(), sha512, other, catalog.StoredAlias{}); err == nil {
		t.Error("WriteAlias for other bytes = nil, want an error")
	}
	if a, err := c.ReadAlias(t.Context(), sha512); err != nil || a.Value.Digest != sha256 {
		t.Errorf("ReadAlias = %s, %v, want %s", a.Value.Digest, err, sha256)
	}
}
