package memory_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
)

// open returns a view of a store.
func open(t *testing.T, s *memory.Store) drivers.Bucket {
	t.Helper()
	b, err := memory.Open(t.Context(), memory.Config{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// create stores data under a key.
func create(t *testing.T, b drivers.Bucket, key, data string) {
	t.Helper()
	if _, err := b.Create(t.Context(), key, drivers.NewBody([]byte(data))); err != nil {
		t.Fatal(err)
	}
}

// put stores data as a part.
func put(t *testing.T, b drivers.Bucket, u drivers.Upload, number int, data string) drivers.Part {
	t.Helper()
	p, err := b.PutPart(t.Context(), u, number, drivers.NewBody([]byte(data)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestReplicasShareAStore checks that Buckets of one Store see the same objects.
func TestReplicasShareAStore(t *testing.T) {
	s := &memory.Store{}
	a, b := open(t, s), open(t, s)
	create(t, a, "k", "x")
	if _, err := b.Stat(t.Context(), "k"); err != nil {
		t.Errorf("Stat of an object that another replica created = %v", err)
	}
	if _, err := open(t, nil).Stat(t.Context(), "k"); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("Stat in another store = %v, want %v", err, drivers.ErrNotFound)
	}
}

// TestOpenRefusesLimits opens Stores with limits that contradict each other.
func TestOpenRefusesLimits(t *testing.T) {
	for _, l := range []drivers.Limits{{MaxParts: 1}, {MaxPart: 1}, {MinPart: 2, MaxPart: 1, MaxParts: 1}} {
		if _, err := memory.Open(t.Context(), memory.Config{Store: &memory.Store{Habits: memory.Habits{Limits: l}}}); err == nil {
			t.Errorf("Open with %+v = nil, want an error", l)
		}
	}
}

// TestClock checks that the Store's clock dates objects and uploads.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, nil)
		start := time.Now()
		o, err := b.Create(t.Context(), "k", drivers.NewBody([]byte("x")))
		if err != nil || !o.Modified.Equal(start) {
			t.Errorf("Create = %v, %v, want the time %v", o, err, start)
		}
	})
	now := time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, test := range []struct {
		habits memory.Habits
		want   time.Duration
	}{{memory.S3(), -6}, {memory.GCS(), time.Hour}, {memory.Azure(), time.Hour}, {memory.Habits{}, time.Hour}} {
		clock := now
		b := open(t, &memory.Store{Habits: test.habits, Now: func() time.Time { return clock }})
		u, err := b.StartUpload(t.Context(), "k")
		if err != nil || !u.Started.Equal(now.Truncate(time.Second)) {
			t.Fatalf("StartUpload = %v, %v, want the time %v", u, err, now)
		}
		p := put(t, b, u, 1, "abc")
		clock = now.Add(time.Hour)
		o, err := b.Complete(t.Context(), u, []drivers.Part{p}, p.CRC32C)
		if want := now.Add(test.want); err != nil || !o.Modified.Equal(want) {
			t.Errorf("%+v: Complete = %v, %v, want the time %v", test.habits, o, err, want)
		}
	}
}

// TestHabits checks the typical behaviour of each cloud.
func TestHabits(t *testing.T) {
	for name, test := range map[string]struct {
		habits     memory.Habits
		equalTags  bool // objects of equal bytes
		overwrites bool // a part replaces an earlier one
		late       bool // parts are accepted after Abort
		listed     bool // Uploads returns uploads without parts
		aborts     bool // Abort drops parts
	}{
		"directory": {habits: memory.Habits{}, equalTags: true, listed: true, aborts: true},
		"S3":        {habits: memory.S3(), equalTags: true, overwrites: true, listed: true, aborts: true},
		"GCS":       {habits: memory.GCS(), late: true, aborts: true},
		"Azure":     {habits: memory.Azure(), late: true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			b := open(t, &memory.Store{Habits: test.habits})
			x, _ := b.Create(ctx, "x", drivers.NewBody([]byte("same")))
			y, _ := b.Create(ctx, "y", drivers.NewBody([]byte("same")))
			if got := x.Tag == y.Tag; got != test.equalTags {
				t.Errorf("tags of equal bytes = %q, %q, want them equal: %v", x.Tag, y.Tag, test.equalTags)
			}
			u, err := b.StartUpload(ctx, "k")
			if err != nil {
				t.Fatal(err)
			}
			if got := uploads(t, b); (len(got) == 1) != test.listed {
				t.Errorf("Uploads() = %v, want the upload: %v", got, test.listed)
			}
			first := put(t, b, u, 1, "first")
			second := put(t, b, u, 1, "first")
			if got := first.Tag == second.Tag; got != test.overwrites {
				t.Errorf("tags of parts of equal bytes = %q, %q, want them equal: %v", first.Tag, second.Tag, test.overwrites)
			}
			put(t, b, u, 1, "other")
			_, err = b.Complete(ctx, u, []drivers.Part{first}, first.CRC32C)
			if got := errors.Is(err, drivers.ErrChanged); got != test.overwrites {
				t.Errorf("Complete with an earlier part of a number = %v, want %v: %v", err, drivers.ErrChanged, test.overwrites)
			}

			u, _ = b.StartUpload(ctx, "l")
			p := put(t, b, u, 1, "first")
			if err := b.Abort(ctx, u); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Complete(ctx, u, []drivers.Part{p}, p.CRC32C); errors.Is(err, drivers.ErrNotFound) != test.aborts {
				t.Errorf("Complete after Abort = %v, want %v: %v", err, drivers.ErrNotFound, test.aborts)
			}
			if _, err := b.PutPart(ctx, u, 1, drivers.NewBody([]byte("late"))); errors.Is(err, drivers.ErrNotFound) == test.late {
				t.Errorf("PutPart after Abort = %v, want success: %v", err, test.late)
			}
		})
	}
}

// TestLimits checks that each limit is enforced.
func TestLimits(t *testing.T) {
	habits := memory.Habits{Limits: drivers.Limits{MinPart: 3, MaxPart: 4, MaxParts: 3, Stream: true, EqualParts: true}}
	b := open(t, &memory.Store{Habits: habits})
	u, _ := b.StartUpload(t.Context(), "k")
	if p, err := b.PutPart(t.Context(), u, 1, drivers.NewBody([]byte("12345"))); err == nil {
		t.Errorf("PutPart of 5 bytes = %v, want an error", p)
	}
	if p, err := b.StreamPart(t.Context(), u, 1, strings.NewReader("12345")); err == nil {
		t.Errorf("StreamPart of 5 bytes = %v, want an error", p)
	}
	for _, number := range []int{0, 4} {
		if p, err := b.PutPart(t.Context(), u, number, drivers.NewBody([]byte("123"))); err == nil {
			t.Errorf("PutPart number %d = %v, want an error", number, p)
		}
	}
	for _, bodies := range [][]string{{"12", "123"}, {"123", "1234"}, {"1234", "123", "12"}, {}} {
		var parts []drivers.Part
		for i, data := range bodies {
			parts = append(parts, put(t, b, u, i+1, data))
		}
		crc := drivers.UpdateCRC32C(0, []byte(strings.Join(bodies, "")))
		if o, err := b.Complete(t.Context(), u, parts, crc); err == nil {
			t.Errorf("Complete of %q = %v, want an error", bodies, o)
		}
	}
}

// TestDiscard checks that a Store without bytes keeps sizes and checksums, and whole
// records.
func TestDiscard(t *testing.T) {
	b := open(t, &memory.Store{Discard: true})
	const size = 9 << 20
	body := drivers.NewBody([]byte(strings.Repeat("x", size)))
	u, err := b.StartUpload(t.Context(), "data/x")
	if err != nil {
		t.Fatal(err)
	}
	first, err := b.PutPart(t.Context(), u, 1, body)
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.StreamPart(t.Context(), u, 2, body.Reader())
	if err != nil || first.CRC32C != body.CRC32C || second.CRC32C != body.CRC32C || second.Size != size {
		t.Fatalf("StreamPart = %v, %v after %v, want %d bytes with CRC %08x", second, err, first, size, body.CRC32C)
	}
	crc := drivers.CombineCRC32C(first.CRC32C, second.CRC32C, size)
	if o, err := b.Complete(t.Context(), u, []drivers.Part{first, second}, crc); err != nil || o.Size != 2*size {
		t.Fatalf("Complete = %v, %v, want %d bytes", o, err, 2*size)
	}
	r, _, err := b.Open(t.Context(), "data/x", size-1, 3)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "\x00\x00\x00" {
		t.Errorf("read of discarded bytes = %q, %v, want zeros", got, err)
	}
	create(t, b, "meta/x", "kept")
	r, _, _ = b.Open(t.Context(), "meta/x", 0, -1)
	if got, err := io.ReadAll(r); err != nil || string(got) != "kept" {
		t.Errorf("read of a record = %q, %v, want \"kept\"", got, err)
	}
}

// TestListAfterChanges lists when the index has keys to add and to drop.
func TestListAfterChanges(t *testing.T) {
	b := open(t, nil)
	var want []string
	for i := range 5000 {
		key := fmt.Sprintf("k/%04d", i*7919%5000)
		create(t, b, key, key)
	}
	list(t, b)
	for i := range 5000 {
		key := fmt.Sprintf("k/%04d", i)
		if i%500 == 0 {
			want = append(want, key)
			continue
		}
		if err := b.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if got := list(t, b); !slices.Equal(got, want) {
		t.Errorf("List() = %q, want %q", got, want)
	}
	create(t, b, "k/0001", "again")
	want = slices.Insert(want, 1, "k/0001")
	if got := list(t, b); !slices.Equal(got, want) {
		t.Errorf("List() = %q, want %q", got, want)
	}
}

// TestReaderEndsWithItsContext checks that a read fails after its context has ended.
func TestReaderEndsWithItsContext(t *testing.T) {
	b := open(t, nil)
	create(t, b, "k", "abc")
	ctx, cancel := context.WithCancel(t.Context())
	r, _, err := b.Open(ctx, "k", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if n, err := r.Read(make([]byte, 3)); !errors.Is(err, context.Canceled) {
		t.Errorf("Read after the context ended = %d, %v, want %v", n, err, context.Canceled)
	}
}

// list returns the keys under k/.
func list(t *testing.T, b drivers.Bucket) []string {
	t.Helper()
	var keys []string
	for o, err := range b.List(t.Context(), "k/", "", 0) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

// uploads returns the keys of the uploads in progress.
func uploads(t *testing.T, b drivers.Bucket) []string {
	t.Helper()
	var keys []string
	for u, err := range b.Uploads(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, u.Key)
	}
	return keys
}

// TestPages deletes a key that is not in the page that was read last: it is not listed.
func TestPages(t *testing.T) {
	b := open(t, &memory.Store{})
	for _, key := range []string{"k/1", "k/2", "k/3", "k/4"} {
		if _, err := b.Create(t.Context(), key, drivers.NewBody([]byte(key))); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for o, err := range b.List(t.Context(), "k/", "", 2) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, o.Key); o.Key == "k/1" {
			if err := b.Delete(t.Context(), "k/2", "k/3"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if want := []string{"k/1", "k/2", "k/4"}; !slices.Equal(got, want) {
		t.Errorf("List in pages of 2 = %q, want %q", got, want)
	}
}
