package catalog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
)

const text = "the bytes of a blob"

func TestEnsureRecordCreates(t *testing.T) {
	b := openBucket(t)
	for _, content := range []catalog.Content{stored(t, b, text), inline("short")} {
		rec := ensure(t, b, content)
		if v := rec.Value; v.State != catalog.Live || v.Digest != content.Digest || v.Size != content.Size || v.Data != content.Key || v.ID == "" {
			t.Errorf("EnsureRecord(%+v) = %+v", content, v)
		}
		read, err := catalog.New(b).ReadRecord(t.Context(), content.Digest)
		if err != nil || read.Value != rec.Value || !bytes.Equal(read.Raw, content.Inline) {
			t.Errorf("ReadRecord = %+v with %q, %v, want %+v with %q", read.Value, read.Raw, err, rec.Value, content.Inline)
		}
	}
}

// An existing record decides which bytes the blob has.
func TestEnsureRecordWithExisting(t *testing.T) {
	for _, tc := range []struct {
		name  string
		state catalog.State
		lost  bool // the existing data is gone
		ours  bool // the content's data replaces the existing data
	}{
		{name: "live", state: catalog.Live},
		{name: "condemned", state: catalog.Condemned},
		{name: "damaged", state: catalog.Damaged, ours: true},
		{name: "unverified", state: catalog.Unverified, ours: true},
		{name: "live without data", state: catalog.Live, lost: true, ours: true},
		{name: "condemned without data", state: catalog.Condemned, lost: true, ours: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := openBucket(t)
			before := setState(t, b, ensure(t, b, stored(t, b, text)), tc.state)
			if tc.lost {
				remove(t, b, before.Value.Data)
			}
			content := stored(t, b, text)
			after := ensure(t, b, content)
			want, dead := before.Value.Data, []string(nil)
			if tc.ours {
				want, dead = content.Key, []string{before.Value.Data}
			}
			if after.Value.State != catalog.Live || after.Value.Data != want || after.Value.ID != before.Value.ID {
				t.Errorf("EnsureRecord = %+v, want a live record of the same id with data %s", after.Value, want)
			}
			if got := deadKeys(t, b); !slices.Equal(got, dead) {
				t.Errorf("dead entries name %q, want %q", got, dead)
			}
		})
	}
}

// Adopted data is outside data/. It never enters the dead list, because the
// collector must not delete it.
func TestEnsureRecordKeepsAdoptedData(t *testing.T) {
	b := openBucket(t)
	rec := ensure(t, b, stored(t, b, text))
	rec.Value.Data = "docker/registry/v2/blobs/x"
	setState(t, b, rec, catalog.Unverified)
	ensure(t, b, stored(t, b, text))
	if dead := deadKeys(t, b); dead != nil {
		t.Errorf("dead entries name %q, want none", dead)
	}
}

func TestEnsureRecordOfDroppedContent(t *testing.T) {
	for state, want := range map[catalog.State]error{
		"":                 drivers.ErrNotFound,
		catalog.Live:       nil,
		catalog.Condemned:  nil,
		catalog.Damaged:    drivers.ErrNotFound,
		catalog.Unverified: drivers.ErrNotFound,
	} {
		b := openBucket(t)
		if state != "" {
			setState(t, b, ensure(t, b, stored(t, b, text)), state)
		}
		rec, err := catalog.New(b).EnsureRecord(t.Context(), due(), dropped(text))
		if !errors.Is(err, want) || err == nil && rec.Value.State != catalog.Live {
			t.Errorf("EnsureRecord of dropped content, with a record that is %q, = %q, %v, want %v", state, rec.Value.State, err, want)
		}
	}
}

func TestEnsureRecordOfDamagedContent(t *testing.T) {
	b := openBucket(t)
	content := stored(t, b, text)
	setState(t, b, ensure(t, b, content), catalog.Damaged)
	if _, err := catalog.New(b).EnsureRecord(t.Context(), due(), content); !errors.Is(err, catalog.ErrDamaged) {
		t.Errorf("EnsureRecord = %v, want %v", err, catalog.ErrDamaged)
	}
}

func TestUnknownState(t *testing.T) {
	b := openBucket(t)
	rec := setState(t, b, ensure(t, b, stored(t, b, text)), "frozen")
	c := catalog.New(b)
	if _, err := c.EnsureRecord(t.Context(), due(), stored(t, b, text)); err == nil || errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("EnsureRecord with a record in an unknown state = %v, want an error other than ErrNotFound", err)
	}
	if _, err := c.Revive(t.Context(), due(), rec.Value.Digest); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("Revive of a record in an unknown state = %v, want %v", err, drivers.ErrNotFound)
	}
}

func TestRevive(t *testing.T) {
	for _, tc := range []struct {
		name  string
		state catalog.State
		lost  bool
		want  error
	}{
		{"live", catalog.Live, false, nil},
		{"live without data", catalog.Live, true, nil}, // a read finds out
		{"condemned", catalog.Condemned, false, nil},
		{"condemned without data", catalog.Condemned, true, drivers.ErrNotFound},
		{"damaged", catalog.Damaged, false, drivers.ErrNotFound},
		{"unverified", catalog.Unverified, false, drivers.ErrNotFound},
	} {
		b := openBucket(t)
		content := stored(t, b, text)
		before := setState(t, b, ensure(t, b, content), tc.state)
		if tc.lost {
			remove(t, b, content.Key)
		}
		rec, err := catalog.New(b).Revive(t.Context(), due(), content.Digest)
		if !errors.Is(err, tc.want) || err == nil && (rec.Value.State != catalog.Live || rec.Value.ID != before.Value.ID) {
			t.Errorf("Revive of a record that is %s = %+v, %v, want %v", tc.name, rec.Value, err, tc.want)
		}
	}
	if _, err := catalog.New(openBucket(t)).Revive(t.Context(), due(), sha256); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("Revive without a record = %v, want %v", err, drivers.ErrNotFound)
	}
}

// All pushes that race agree on one record.
func TestEnsureRecordRaces(t *testing.T) {
	for _, state := range []catalog.State{"", catalog.Condemned, catalog.Damaged} {
		t.Run(fmt.Sprintf("record is %q", state), func(t *testing.T) {
			b := openBucket(t)
			if state != "" {
				setState(t, b, ensure(t, b, stored(t, b, text)), state)
			}
			const pushes = 16
			contents, records, errs := make([]catalog.Content, pushes), make([]catalog.StoredRecord, pushes), make([]error, pushes)
			for i := range contents {
				contents[i] = stored(t, b, text)
			}
			var wg sync.WaitGroup
			for i, content := range contents {
				wg.Go(func() {
					records[i], errs[i] = catalog.New(b).EnsureRecord(t.Context(), due(), content)
				})
			}
			wg.Wait()
			final, err := catalog.New(b).ReadRecord(t.Context(), contents[0].Digest)
			if err != nil {
				t.Fatal(err)
			}
			for i, rec := range records {
				if errs[i] != nil || rec.Value != final.Value {
					t.Errorf("EnsureRecord = %+v, %v, want %+v", rec.Value, errs[i], final.Value)
				}
			}
		})
	}
}

// If any call to the store fails, the record is as before or names data that
// exists, and a retry succeeds.
func TestEnsureRecordFaults(t *testing.T) {
	for _, state := range []catalog.State{"", catalog.Live, catalog.Condemned, catalog.Damaged} {
		t.Run(fmt.Sprintf("record is %q", state), func(t *testing.T) {
			var content catalog.Content
			setUp := func(t *testing.T, b drivers.Bucket) {
				if state != "" {
					setState(t, b, ensure(t, b, stored(t, b, text)), state)
				}
				content = stored(t, b, text)
			}
			do := func(ctx context.Context, c *catalog.Catalog) error {
				_, err := c.EnsureRecord(ctx, due(), content)
				return err
			}
			eachFault(t, setUp, do, func(t *testing.T, b drivers.Bucket, _ error) {
				rec := ensure(t, b, content)
				if rec.Value.State != catalog.Live {
					t.Errorf("after a retry the record is %q, want live", rec.Value.State)
				}
				if _, err := b.Stat(t.Context(), rec.Value.Data); err != nil {
					t.Errorf("after a retry the data of the record: %v", err)
				}
				if slices.Contains(deadKeys(t, b), rec.Value.Data) {
					t.Error("after a retry a dead entry names the record's data")
				}
			})
		})
	}
}

// After its deadline a request writes nothing.
func TestNoWritesAfterDeadline(t *testing.T) {
	b := openBucket(t)
	rec := ensure(t, b, stored(t, b, text))
	late := deadline.New(time.Nanosecond)
	time.Sleep(time.Millisecond)
	c := catalog.New(b)
	condemned := setState(t, b, ensure(t, b, stored(t, b, "another blob")), catalog.Condemned)
	_, ensured := c.EnsureRecord(t.Context(), late, stored(t, b, "a third blob"))
	_, revived := c.Revive(t.Context(), late, condemned.Value.Digest)
	_, linked := c.WriteLink(t.Context(), late, "a", rec)
	for name, err := range map[string]error{
		"EnsureRecord": ensured,
		"Revive":       revived,
		"WriteLink":    linked,
		"WriteAlias":   c.WriteAlias(t.Context(), late, sha512, sha256, catalog.StoredAlias{}),
	} {
		if !errors.Is(err, drivers.ErrBusy) {
			t.Errorf("%s after the deadline = %v, want %v", name, err, drivers.ErrBusy)
		}
	}
	if _, err := c.WriteLink(t.Context(), due(), "a", rec); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteLink(t.Context(), late, rec.Value.Digest, "a"); !errors.Is(err, drivers.ErrBusy) {
		t.Errorf("DeleteLink after the deadline = %v, want %v", err, drivers.ErrBusy)
	}
	if _, err := c.ReadLink(t.Context(), rec.Value.Digest, "a"); err != nil {
		t.Errorf("ReadLink after a late DeleteLink = %v, want the link", err)
	}
}
