package catalog_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
)

func tagTo(p string) catalog.Tag { return catalog.TagOf(manifestOf(p)) }

// writeTag writes the tag "x" of the repository "a" over a version of it.
func writeTag(t *testing.T, b drivers.Bucket, existing catalog.StoredTag, next catalog.Tag) catalog.StoredTag {
	t.Helper()
	tag, err := catalog.New(b).WriteTag(t.Context(), due(), "a", "x", existing, next)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

// TestTag creates, replaces and deletes a tag. Each write names the version that it
// follows.
func TestTag(t *testing.T) {
	b := openBucket(t)
	c := catalog.New(b)
	none := catalog.StoredTag{}
	first := writeTag(t, b, none, tagTo("1"))
	if _, err := c.WriteTag(t.Context(), due(), "a", "x", none, tagTo("2")); !errors.Is(err, drivers.ErrExists) || errors.Is(err, drivers.ErrUnanswered) {
		t.Errorf("WriteTag of a new tag = %v, want %v", err, drivers.ErrExists)
	}
	second := writeTag(t, b, first, tagTo("2"))
	if _, err := c.WriteTag(t.Context(), due(), "a", "x", first, tagTo("3")); !errors.Is(err, drivers.ErrChanged) || errors.Is(err, drivers.ErrUnanswered) {
		t.Errorf("WriteTag over an earlier version = %v, want %v", err, drivers.ErrChanged)
	}
	if err := c.DeleteTag(t.Context(), due(), first); !errors.Is(err, drivers.ErrChanged) || errors.Is(err, drivers.ErrUnanswered) {
		t.Errorf("DeleteTag of an earlier version = %v, want %v", err, drivers.ErrChanged)
	}
	if got, err := c.ReadTag(t.Context(), "a", "x"); err != nil || got.Value != second.Value {
		t.Errorf("ReadTag = %+v, %v, want %+v", got.Value, err, second.Value)
	}
	if err := c.DeleteTag(t.Context(), due(), second); err != nil {
		t.Errorf("DeleteTag = %v, want nil", err)
	}
	if _, err := c.ReadTag(t.Context(), "a", "x"); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("ReadTag of a deleted tag = %v, want %v", err, drivers.ErrNotFound)
	}
}

// TestDeleteTagLost checks the outcome of a DeleteTag whose answer is lost.
func TestDeleteTagLost(t *testing.T) {
	for _, tt := range []struct {
		name   string
		mode   drivertest.Mode
		other  bool // another writer has replaced the tag
		want   error
		unsure bool
	}{
		{"it took effect", drivertest.Unanswered, false, nil, false},
		{"it did not", drivertest.Lost, false, drivertest.ErrInjected, false},
		{"another tag is there", drivertest.Lost, true, drivers.ErrChanged, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := openBucket(t)
			tag := writeTag(t, b, catalog.StoredTag{}, tagTo("1"))
			if tt.other {
				writeTag(t, b, tag, tagTo("2"))
			}
			f := &drivertest.Faulty{Mode: tt.mode, Match: drivertest.Call.Writes}
			err := catalog.New(drivertest.Wrap(b, f.Intercept)).DeleteTag(t.Context(), due(), tag)
			if !errors.Is(err, tt.want) || errors.Is(err, drivers.ErrUnanswered) != tt.unsure {
				t.Errorf("DeleteTag = %v, want %v, and ErrUnanswered: %v", err, tt.want, tt.unsure)
			}
		})
	}
}

// TestWriteEntry checks that an entry is new after each WriteEntry, and that a retry
// writes it after any fault.
func TestWriteEntry(t *testing.T) {
	subject, referrer := digest.FromString("subject"), digest.SHA512.FromString("referrer")
	key := catalog.EntryKey("a", subject, referrer)
	write := func(ctx context.Context, c *catalog.Catalog) error {
		return c.WriteEntry(ctx, due(), "a", subject, referrer)
	}
	b := openBucket(t)
	if err := write(t.Context(), catalog.New(b)); err != nil {
		t.Fatal(err)
	}
	first, err := b.Stat(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Millisecond)
	if err := write(t.Context(), catalog.New(b)); err != nil {
		t.Fatal(err)
	}
	if second, err := b.Stat(t.Context(), key); err != nil || !second.Modified.After(first.Modified) {
		t.Errorf("after a second WriteEntry the entry is of %v, %v, want a time after %v", second.Modified, err, first.Modified)
	}
	for _, before := range []bool{false, true} {
		setUp := func(t *testing.T, b drivers.Bucket) {
			if before {
				create(t, b, "meta/unrelated", "x")
				if err := write(t.Context(), catalog.New(b)); err != nil {
					t.Fatal(err)
				}
			}
		}
		eachFault(t, setUp, write, func(t *testing.T, b drivers.Bucket, _ error) {
			if err := write(t.Context(), catalog.New(b)); err != nil {
				t.Fatal(err)
			}
			got, err := envelope.Read[catalog.Entry](t.Context(), b, key)
			if want := (catalog.Entry{Subject: subject, Referrer: referrer}); got.Value != want || err != nil {
				t.Errorf("the entry = %+v, %v, want %+v", got.Value, err, want)
			}
		})
	}
}

// TestEnsureMarker checks the marker after EnsureMarker from every state, and that a
// retry makes it live after any fault. The collector's permission stays.
func TestEnsureMarker(t *testing.T) {
	for _, before := range []catalog.Marker{
		{}, // absent
		{State: catalog.Live, Collect: true},
		{State: catalog.Condemned, Collect: true},
	} {
		setUp := func(t *testing.T, b drivers.Bucket) {
			if before.State == "" {
				return
			}
			if _, err := envelope.Create(t.Context(), b, catalog.MarkerKey("a"), before, drivers.Body{}); err != nil {
				t.Fatal(err)
			}
		}
		ensure := func(ctx context.Context, c *catalog.Catalog) error { return c.EnsureMarker(ctx, due(), "a") }
		eachFault(t, setUp, ensure, func(t *testing.T, b drivers.Bucket, _ error) {
			if err := ensure(t.Context(), catalog.New(b)); err != nil {
				t.Fatal(err)
			}
			got, err := catalog.New(b).ReadMarker(t.Context(), "a")
			if want := (catalog.Marker{State: catalog.Live, Collect: before.Collect}); got.Value != want || err != nil {
				t.Errorf("ReadMarker = %+v, %v, want %+v", got.Value, err, want)
			}
		})
	}
}
