package catalog_test

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

func TestPublishedAndStored(t *testing.T) {
	for _, tc := range []struct {
		name              string
		change            func(*testing.T, drivers.Bucket, catalog.StoredRecord)
		published, stored bool
	}{
		{"unchanged", func(*testing.T, drivers.Bucket, catalog.StoredRecord) {}, true, true},
		{"without a link", func(t *testing.T, b drivers.Bucket, rec catalog.StoredRecord) {
			remove(t, b, catalog.LinkKey(rec.Value.Digest, "a"))
		}, false, true},
		{"without a record", func(t *testing.T, b drivers.Bucket, rec catalog.StoredRecord) {
			remove(t, b, rec.Object.Key)
		}, false, false},
		{"condemned", func(t *testing.T, b drivers.Bucket, rec catalog.StoredRecord) {
			setState(t, b, rec, catalog.Condemned)
		}, false, false},
		{"with a condemned link", func(t *testing.T, b drivers.Bucket, rec catalog.StoredRecord) {
			markLink(t, b, rec.Value, "a")
		}, true, true},
		{"with a condemned link to another record", func(t *testing.T, b drivers.Bucket, rec catalog.StoredRecord) {
			markLink(t, b, rec.Value, "a")
			rec.Value.ID = catalog.NewID()
			setState(t, b, rec, catalog.Live)
		}, false, true},
		{"with another record", func(t *testing.T, b drivers.Bucket, rec catalog.StoredRecord) {
			rec.Value.ID = catalog.NewID()
			setState(t, b, rec, catalog.Live)
		}, false, true},
		{"without data", func(t *testing.T, b drivers.Bucket, rec catalog.StoredRecord) {
			remove(t, b, rec.Value.Data)
		}, true, false},
		{"cut short", func(t *testing.T, b drivers.Bucket, rec catalog.StoredRecord) {
			remove(t, b, rec.Value.Data)
			create(t, b, rec.Value.Data, text[1:])
		}, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := openBucket(t)
			c := catalog.New(b)
			rec := ensure(t, b, stored(t, b, text))
			if _, err := c.WriteLink(t.Context(), due(), "a", rec); err != nil {
				t.Fatal(err)
			}
			tc.change(t, b, rec)
			if _, ok, err := c.Published(t.Context(), due(), rec.Value.Digest, "a"); ok != tc.published || err != nil {
				t.Errorf("Published = %t, %v, want %t, nil", ok, err, tc.published)
			}
			if link, err := c.ReadLink(t.Context(), rec.Value.Digest, "a"); tc.published && (err != nil || link.Value.Condemned) {
				t.Errorf("ReadLink after Published = %+v, %v, want it without the mark", link.Value, err)
			}
			if _, ok, err := c.Stored(t.Context(), rec.Value.Digest); ok != tc.stored || err != nil {
				t.Errorf("Stored = %t, %v, want %t, nil", ok, err, tc.stored)
			}
		})
	}
}

// markLink replaces a repository's link to a blob with one that has the mark of the collector.
func markLink(t *testing.T, b drivers.Bucket, rec catalog.Record, repository string) {
	t.Helper()
	link, err := catalog.New(b).ReadLink(t.Context(), rec.Digest, repository)
	if err != nil {
		t.Fatal(err)
	}
	link.Value.Condemned = true
	if _, err := envelope.Replace(t.Context(), b, link.Object.Key, link.Object.Tag, link.Value, drivers.NewBody(link.Raw)); err != nil {
		t.Fatal(err)
	}
}

func TestLists(t *testing.T) {
	b := openBucket(t)
	c := catalog.New(b)
	var digests []digest.Digest
	for _, p := range []string{"one", "two", "three", "four"} {
		rec := ensure(t, b, inline(p))
		digests = append(digests, rec.Value.Digest)
		for _, repository := range []string{"b", "a/c", "a"} {
			if _, err := c.WriteLink(t.Context(), due(), repository, rec); err != nil {
				t.Fatal(err)
			}
		}
	}
	ensure(t, b, inline("without a link"))
	slices.Sort(digests)
	for i := range digests {
		after := digest.Digest("")
		if i > 0 {
			after = digests[i-1]
		}
		var got []digest.Digest
		for d, err := range c.Linked(t.Context(), after) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, d)
		}
		if !slices.Equal(got, digests[i:]) {
			t.Errorf("Linked(%q) = %q, want %q", after, got, digests[i:])
		}
	}
	var repositories []string
	for repository, err := range c.Holders(t.Context(), digests[0]) {
		if err != nil {
			t.Fatal(err)
		}
		repositories = append(repositories, repository)
	}
	if want := []string{"a", "a/c", "b"}; !slices.Equal(repositories, want) {
		t.Errorf("Repositories = %q, want %q", repositories, want)
	}
}

// Any number of processes may open an empty bucket concurrently.
func TestCheckFormat(t *testing.T) {
	b := openBucket(t)
	if err := catalog.New(b).Ping(t.Context()); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("Ping of an empty bucket = %v, want %v", err, drivers.ErrNotFound)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := catalog.New(b).CheckFormat(t.Context()); err != nil {
				t.Errorf("CheckFormat = %v, want nil", err)
			}
		})
	}
	wg.Wait()
	if err := catalog.New(b).Ping(t.Context()); err != nil {
		t.Errorf("Ping = %v, want nil", err)
	}
}

func TestCheckFormatOfAnotherVersion(t *testing.T) {
	b := openBucket(t)
	format := struct {
		Version int `json:"version"`
	}{2}
	if _, err := envelope.Create(t.Context(), b, catalog.FormatKey, format, drivers.Body{}); err != nil {
		t.Fatal(err)
	}
	if err := catalog.New(b).CheckFormat(t.Context()); err == nil {
		t.Error("CheckFormat of version 2 = nil, want an error")
	}
}
