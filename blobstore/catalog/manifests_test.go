package catalog_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
)

// manifestOf returns the description of a live manifest with these bytes.
func manifestOf(p string) catalog.Manifest {
	return catalog.Manifest{ID: catalog.NewID(), Digest: digest.FromString(p), Size: int64(len(p)), State: catalog.Live}
}

// pushManifest creates a manifest of the repository "a" in a state.
func pushManifest(t *testing.T, b drivers.Bucket, p string, state catalog.State) catalog.StoredManifest {
	t.Helper()
	m := manifestOf(p)
	m.State = state
	stored, err := catalog.New(b).CreateManifest(t.Context(), due(), "a", m, []byte(p))
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// TestManifest creates, reads and replaces manifests of all lengths.
func TestManifest(t *testing.T) {
	for _, size := range []int{0, 10, envelope.MaxRaw, envelope.MaxRaw + 1, 200_000} {
		b := openBucket(t)
		c := catalog.New(b)
		p := strings.Repeat("m", size)
		m := manifestOf(p)
		if _, err := c.ReadManifest(t.Context(), "a", m.Digest); !errors.Is(err, drivers.ErrNotFound) {
			t.Errorf("ReadManifest = %v, want %v", err, drivers.ErrNotFound)
		}
		created := pushManifest(t, b, p, catalog.Live)
		if _, err := c.CreateManifest(t.Context(), due(), "a", m, []byte(p)); !errors.Is(err, drivers.ErrExists) || errors.Is(err, drivers.ErrUnanswered) {
			t.Errorf("a second CreateManifest = %v, want %v", err, drivers.ErrExists)
		}
		for content, want := range map[string]bool{p: true, p + "m": false, strings.Repeat("m", max(size, 1)-1) + "n": false} {
			got, equal, err := c.CompareManifest(t.Context(), "a", m.Digest, []byte(content))
			if equal != want || err != nil || got.Object.Tag != created.Object.Tag {
				t.Errorf("CompareManifest with %d bytes = %v, %v, want %v", len(content), equal, err, want)
			}
		}
		next := created.Value
		next.State = catalog.Deleted
		deleted, err := c.ReplaceManifest(t.Context(), due(), created, next, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.ReadManifest(t.Context(), "a", m.Digest)
		if err != nil || got.Value.State != catalog.Deleted || got.RawSize != 0 || got.Object.Tag != deleted.Object.Tag {
			t.Errorf("ReadManifest = %+v, %v, want it deleted, without bytes", got, err)
		}
		if _, err := c.ReplaceManifest(t.Context(), due(), created, created.Value, nil); !errors.Is(err, drivers.ErrChanged) {
			t.Errorf("ReplaceManifest of an earlier version = %v, want %v", err, drivers.ErrChanged)
		}
	}
}

// TestUnmark takes the marks of the collector off, with every call failing once. The
// content stays, and a retry takes the mark off.
func TestUnmark(t *testing.T) {
	long := strings.Repeat("m", envelope.MaxRaw+1)
	for _, p := range []string{text, long} {
		unmark := func(ctx context.Context, c *catalog.Catalog) error {
			m, err := c.ReadManifest(ctx, "a", digest.FromString(p))
			if err == nil {
				m, err = c.UnmarkManifest(ctx, due(), m)
			}
			if err == nil && m.Value.State != catalog.Live {
				t.Errorf("UnmarkManifest = %+v, want it live", m.Value)
			}
			return err
		}
		setUp := func(t *testing.T, b drivers.Bucket) { pushManifest(t, b, p, catalog.Condemned) }
		eachFault(t, setUp, unmark, func(t *testing.T, b drivers.Bucket, _ error) {
			c := catalog.New(b)
			if err := unmark(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			m, equal, err := c.CompareManifest(t.Context(), "a", digest.FromString(p), []byte(p))
			if m.Value.State != catalog.Live || !equal || err != nil {
				t.Errorf("CompareManifest = %+v, %v, %v, want it live, with its bytes", m.Value, equal, err)
			}
		})
	}
}

// TestUnmarkLink is TestUnmark for a link.
func TestUnmarkLink(t *testing.T) {
	var d digest.Digest
	unmark := func(ctx context.Context, c *catalog.Catalog) error {
		link, err := c.ReadLink(ctx, d, "a")
		if err == nil {
			link, err = c.UnmarkLink(ctx, due(), link)
		}
		if err == nil && link.Value.Condemned {
			t.Errorf("UnmarkLink = %+v, want no mark", link.Value)
		}
		return err
	}
	setUp := func(t *testing.T, b drivers.Bucket) { d = condemnedLink(t, b).Value.Digest }
	eachFault(t, setUp, unmark, func(t *testing.T, b drivers.Bucket, _ error) {
		if err := unmark(t.Context(), catalog.New(b)); err != nil {
			t.Fatal(err)
		}
		link, err := catalog.New(b).ReadLink(t.Context(), d, "a")
		if err != nil || link.Value.Condemned || string(link.Raw) != text {
			t.Errorf("ReadLink = %+v with %q, %v, want no mark and %q", link.Value, link.Raw, err, text)
		}
	})
}

// condemnedLink creates the link of an inline blob, with the mark of the collector.
func condemnedLink(t *testing.T, b drivers.Bucket) catalog.StoredRecord {
	t.Helper()
	rec := ensure(t, b, inline(text))
	rec.Value.Condemned = true
	link, err := envelope.Create(t.Context(), b, catalog.LinkKey(rec.Value.Digest, "a"), rec.Value, drivers.NewBody([]byte(text)))
	if err != nil {
		t.Fatal(err)
	}
	link.Raw = []byte(text)
	return link
}

// TestUnmarkMeetsChange lets another writer change what is unmarked. The result is what
// the other writer has left.
func TestUnmarkMeetsChange(t *testing.T) {
	b := openBucket(t)
	c := catalog.New(b)
	m, link := pushManifest(t, b, text, catalog.Condemned), condemnedLink(t, b)
	deleted := m.Value
	deleted.State = catalog.Deleted
	if _, err := c.ReplaceManifest(t.Context(), due(), m, deleted, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := c.UnmarkManifest(t.Context(), due(), m); err != nil || got.Value.State != catalog.Deleted {
		t.Errorf("UnmarkManifest of a deleted manifest = %+v, %v, want it deleted", got.Value, err)
	}
	remove(t, b, m.Object.Key)
	remove(t, b, link.Object.Key)
	if _, err := c.UnmarkManifest(t.Context(), due(), m); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("UnmarkManifest of an absent manifest = %v, want %v", err, drivers.ErrNotFound)
	}
	if _, err := c.UnmarkLink(t.Context(), due(), link); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("UnmarkLink of an absent link = %v, want %v", err, drivers.ErrNotFound)
	}
}

// TestManifestWritesAfterDeadline checks that a request that has lasted too long
// changes nothing.
func TestManifestWritesAfterDeadline(t *testing.T) {
	b := openBucket(t)
	m, link := pushManifest(t, b, text, catalog.Condemned), condemnedLink(t, b)
	tag, err := catalog.New(b).WriteTag(t.Context(), due(), "a", "x", catalog.StoredTag{}, catalog.TagOf(m.Value))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := envelope.Create(t.Context(), b, catalog.MarkerKey("condemned"), catalog.Marker{State: catalog.Condemned}, drivers.Body{}); err != nil {
		t.Fatal(err)
	}
	late := deadline.New(time.Nanosecond)
	time.Sleep(time.Millisecond)
	c := catalog.New(drivertest.Wrap(b, func(ctx context.Context, call drivertest.Call, do func(context.Context) error) error {
		if call.Writes() {
			t.Errorf("%v after the deadline", call)
		}
		return do(ctx)
	}))
	for name, write := range map[string]func() error{
		"CreateManifest": func() error {
			_, err := c.CreateManifest(t.Context(), late, "a", manifestOf("new"), []byte("new"))
			return err
		},
		"ReplaceManifest": func() error { _, err := c.ReplaceManifest(t.Context(), late, m, m.Value, m.Raw); return err },
		"UnmarkManifest":  func() error { _, err := c.UnmarkManifest(t.Context(), late, m); return err },
		"UnmarkLink":      func() error { _, err := c.UnmarkLink(t.Context(), late, link); return err },
		"WriteTag":        func() error { _, err := c.WriteTag(t.Context(), late, "a", "x", tag, tag.Value); return err },
		"WriteTag of a new": func() error {
			_, err := c.WriteTag(t.Context(), late, "a", "y", catalog.StoredTag{}, tag.Value)
			return err
		},
		"DeleteTag":           func() error { return c.DeleteTag(t.Context(), late, tag) },
		"WriteEntry":          func() error { return c.WriteEntry(t.Context(), late, "a", m.Value.Digest, m.Value.Digest) },
		"EnsureMarker":        func() error { return c.EnsureMarker(t.Context(), late, "new") },
		"EnsureMarker, a bad": func() error { return c.EnsureMarker(t.Context(), late, "condemned") },
	} {
		if err := write(); !errors.Is(err, drivers.ErrBusy) {
			t.Errorf("%s = %v, want %v", name, err, drivers.ErrBusy)
		}
	}
	if got, err := c.ReadManifest(t.Context(), "a", m.Value.Digest); err != nil || !bytes.Equal(got.Raw, m.Raw) {
		t.Errorf("ReadManifest = %+v, %v, want it unchanged", got, err)
	}
}
