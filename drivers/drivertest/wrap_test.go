package drivertest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

func open(t *testing.T) drivers.Bucket {
	t.Helper()
	b, err := memory.Open(t.Context(), memory.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func text(s string) drivers.Body { return drivers.NewBody([]byte(s)) }

func fill(t *testing.T, b drivers.Bucket, n int) []string {
	t.Helper()
	var keys []string
	for i := range n {
		keys = append(keys, fmt.Sprintf("k/%04d", i))
		if _, err := b.Create(t.Context(), keys[i], text("0123456789")); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

// TestCounter checks that calls are counted as a store would count requests.
func TestCounter(t *testing.T) {
	ctx := t.Context()
	store := open(t)
	keys := fill(t, store, 2000)
	var c drivertest.Counter
	b := drivertest.Wrap(store, c.Intercept)
	for _, test := range []struct {
		what string
		do   func() error
		want map[string]int
	}{
		{"a page", func() error { return all(b.List(ctx, "k/0", "k/0998", 0)) }, map[string]int{"List": 1}},
		{"one page, to its last key", func() error { return all(b.List(ctx, "k/0", "", 0)) }, map[string]int{"List": 1}},
		{"a key more than a page", func() error { return all(b.List(ctx, "k/", "k/0998", 0)) }, map[string]int{"List": 2}},
		{"a page of two", func() error {
			for _, err := range b.List(ctx, "", "", 0) {
				return err
			}
			return nil
		}, map[string]int{"List": 1}},
		{"a batch", func() error { return b.Delete(ctx, keys[:1000]...) }, map[string]int{"Delete": 1}},
		{"two batches", func() error { return b.Delete(ctx, append(keys, "absent")...) }, map[string]int{"Delete": 3}},
		{"no keys", func() error { return b.Delete(ctx) }, map[string]int{}},
		{"an upload", func() error {
			u, err := b.StartUpload(ctx, "u")
			if err != nil {
				return err
			}
			p, err := b.PutPart(ctx, u, 1, text("x"))
			if err != nil {
				return err
			}
			q, err := b.StreamPart(ctx, u, 2, strings.NewReader("y"))
			if err != nil {
				return err
			}
			_, err = b.Complete(ctx, u, []drivers.Part{p, q}, text("xy").CRC32C)
			return errors.Join(err, b.Abort(ctx, u), all(b.Uploads(ctx, "")))
		}, map[string]int{"StartUpload": 1, "PutPart": 1, "StreamPart": 1, "Complete": 1, "Abort": 1, "Uploads": 1}},
		{"an object", func() error {
			o, err := b.Create(ctx, "o", text("x"))
			if err != nil {
				return err
			}
			o, err = b.Replace(ctx, "o", o.Tag, text("y"))
			if err != nil {
				return err
			}
			_, statErr := b.Stat(ctx, "o")
			_, _, openErr := b.Open(ctx, "o", 0, -1)
			_, signErr := b.SignGet(ctx, "o", drivers.SignOptions{Expires: 1})
			if !errors.Is(signErr, errors.ErrUnsupported) {
				return signErr
			}
			return errors.Join(statErr, openErr, b.DeleteIf(ctx, "o", o.Tag))
		}, map[string]int{"Create": 1, "Replace": 1, "Stat": 1, "Open": 1, "DeleteIf": 1}},
	} {
		c.Reset()
		if err := test.do(); err != nil {
			t.Errorf("%s: %v", test.what, err)
		}
		if diff := cmp.Diff(test.want, c.ByMethod()); diff != "" {
			t.Errorf("%s: -want +got\n%s", test.what, diff)
		}
	}
	if got := fmt.Sprint(c.Calls()); got != "[Create o Replace o Stat o Open o DeleteIf o]" || c.Total() != 5 {
		t.Errorf("Calls() = %s, Total() = %d", got, c.Total())
	}
}

func all[T any](seq func(func(T, error) bool)) error {
	for _, err := range seq {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestFaultyWrites looks for the effect of a failed Create, before and after
// Land.
func TestFaultyWrites(t *testing.T) {
	for _, test := range []struct {
		mode          drivertest.Mode
		before, after bool
	}{
		{drivertest.Lost, false, false},
		{drivertest.Unanswered, true, true},
		{drivertest.Late, false, true},
	} {
		t.Run(test.mode.String(), func(t *testing.T) {
			store := open(t)
			f := &drivertest.Faulty{Mode: test.mode, Nth: 2, Match: func(c drivertest.Call) bool { return c.Method == "Create" }}
			b := drivertest.Wrap(store, f.Intercept)
			ctx, cancel := context.WithCancel(t.Context())
			buf := []byte("content")
			var errs []error
			for _, key := range []string{"first", "second", "third"} {
				_, err := b.Create(ctx, key, drivers.NewBody(buf))
				errs = append(errs, err)
			}
			if errs[0] != nil || !errors.Is(errs[1], drivertest.ErrInjected) || errs[2] != nil {
				t.Errorf("three Creates = %v, want the second to fail", errs)
			}
			if c, hit := f.Hit(); !hit || c.String() != "Create second" {
				t.Errorf("Hit() = %v, %v", c, hit)
			}
			cancel()
			copy(buf, "scribble") // as a caller may after its call has returned
			exists := func() bool {
				_, err := store.Stat(t.Context(), "second")
				return err == nil
			}
			if got := exists(); got != test.before {
				t.Errorf("the object exists before Land: %v, want %v", got, test.before)
			}
			for range 2 { // each call lands once
				if err := f.Land(t.Context()); err != nil {
					t.Errorf("Land() = %v", err)
				}
			}
			if got := exists(); got != test.after {
				t.Fatalf("the object exists after Land: %v, want %v", got, test.after)
			}
			if test.after {
				if got := content(t, store, "second"); got != "content" {
					t.Errorf("it holds %q", got)
				}
			}
		})
	}
}

func content(t *testing.T, b drivers.Bucket, key string) string {
	t.Helper()
	r, _, err := b.Open(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestFaultyLate checks that a late DeleteIf finds the object replaced, and
// that a late part keeps the bytes that its caller streamed.
func TestFaultyLate(t *testing.T) {
	ctx := t.Context()
	store := open(t)
	f := &drivertest.Faulty{Mode: drivertest.Late}
	b := drivertest.Wrap(store, f.Intercept)
	o, err := store.Create(ctx, "k", text("first"))
	if err != nil {
		t.Fatal(err)
	}
	u, err := store.StartUpload(ctx, "u")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteIf(ctx, "k", o.Tag); !errors.Is(err, drivertest.ErrInjected) {
		t.Errorf("DeleteIf = %v", err)
	}
	if _, err := b.StreamPart(ctx, u, 1, strings.NewReader("streamed")); !errors.Is(err, drivertest.ErrInjected) {
		t.Errorf("StreamPart = %v", err)
	}
	if _, err := b.Stat(ctx, "k"); !errors.Is(err, drivertest.ErrInjected) {
		t.Errorf("Stat = %v", err)
	}
	if _, err := store.Replace(ctx, "k", o.Tag, text("second")); err != nil {
		t.Fatal(err)
	}
	if err := f.Land(ctx); !errors.Is(err, drivers.ErrChanged) {
		t.Errorf("Land() = %v, want %v from the late DeleteIf", err, drivers.ErrChanged)
	}
	if got := content(t, store, "k"); got != "second" {
		t.Errorf("List after the late DeleteIf = %q, want none", got)
	}
	// The reference numbers its objects. The object's tag is not a number,
	// so the upload is the first and the late part the second.
	body := text("streamed")
	if _, err := store.Complete(ctx, u, []drivers.Part{{Number: 1, Size: body.Size, Tag: "2", CRC32C: body.CRC32C}}, body.CRC32C); err != nil {
		t.Errorf("Complete with the part that was late = %v", err)
	}
}

// TestFaultyReads fails calls that only read, before they start and half-way.
func TestFaultyReads(t *testing.T) {
	ctx := t.Context()
	store := open(t)
	fill(t, store, 3)
	for _, test := range []struct {
		mode  drivertest.Mode
		bytes int
		keys  int
	}{{drivertest.Lost, 0, 0}, {drivertest.Late, 0, 0}, {drivertest.Unanswered, 4, 3}} {
		f := &drivertest.Faulty{Mode: test.mode, Err: drivers.ErrBusy}
		b := drivertest.Wrap(store, f.Intercept)
		var data []byte
		r, _, err := b.Open(ctx, "k/0000", 2, 100)
		if err == nil {
			data, err = io.ReadAll(r)
		}
		if len(data) != test.bytes || !errors.Is(err, drivers.ErrBusy) {
			t.Errorf("%v: Open and read = %q, %v, want %d bytes and %v", test.mode, data, err, test.bytes, drivers.ErrBusy)
		}
		n := 0
		for _, err = range b.List(ctx, "", "", 0) {
			if err == nil {
				n++
			}
		}
		if n != test.keys || !errors.Is(err, drivers.ErrBusy) {
			t.Errorf("%v: List returns %d keys, then %v, want %d and %v", test.mode, n, err, test.keys, drivers.ErrBusy)
		}
		err = nil
		for _, err = range b.Uploads(ctx, "") {
		}
		if !errors.Is(err, drivers.ErrBusy) {
			t.Errorf("%v: Uploads ends with %v, want %v", test.mode, err, drivers.ErrBusy)
		}
	}
	b := drivertest.Wrap(store, (&drivertest.Faulty{Mode: drivertest.Unanswered}).Intercept)
	if _, _, err := b.Open(ctx, "absent", 0, -1); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("Open that fails by itself = %v, want %v", err, drivers.ErrNotFound)
	}
}

func TestFaultyDead(t *testing.T) {
	store := open(t)
	f := &drivertest.Faulty{Mode: drivertest.Unanswered, Nth: 2, Dead: true}
	b := drivertest.Wrap(store, f.Intercept)
	var failed []bool
	for _, key := range []string{"a", "b", "c", "d"} {
		_, err := b.Create(t.Context(), key, text(key))
		failed = append(failed, err != nil)
	}
	var keys []string
	for o, err := range store.List(t.Context(), "", "", 0) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	if got, want := fmt.Sprint(failed, keys), "[false true true true] [a b]"; got != want {
		t.Errorf("failed calls and keys = %s, want %s", got, want)
	}
}

func TestSigning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := drivertest.Signing(open(t))
		opts := drivers.SignOptions{Expires: 20 * time.Minute, Window: time.Hour, ContentType: "a/b"}
		first, err := b.SignGet(t.Context(), "data/x y", opts)
		want := fmt.Sprintf("https://signed.example/data/x%%20y?expires=%d&type=a%%2Fb", first.Expires.Unix())
		if err != nil || first.URL != want {
			t.Errorf("SignGet = %q, %v, want %q", first.URL, err, want)
		}
		for i := range 59 {
			time.Sleep(time.Minute)
			s, err := b.SignGet(t.Context(), "data/x y", opts)
			if err != nil || s != first {
				t.Errorf("SignGet after %d minutes = %v, %v, want %v", i+1, s, err, first)
			}
			if left := time.Until(s.Expires); left < opts.Expires || left > opts.Expires+opts.Window {
				t.Errorf("after %d minutes the URL is good for %v", i+1, left)
			}
		}
		time.Sleep(time.Minute)
		if s, _ := b.SignGet(t.Context(), "data/x y", opts); s == first {
			t.Error("SignGet returns the same URL in the next window")
		}
	})
}

// Example counts the requests of a caller.
func Example() {
	ctx := context.Background()
	b, err := memory.Open(ctx, memory.Config{})
	if err != nil {
		fmt.Println(err)
	}
	var c drivertest.Counter
	b = drivertest.Wrap(b, c.Intercept)
	if _, err := b.Create(ctx, "k", drivers.NewBody([]byte("x"))); err != nil {
		fmt.Println(err)
	}
	if _, err := b.Stat(ctx, "k"); err != nil {
		fmt.Println(err)
	}
	fmt.Println(c.Calls())
	// Output: [Create k Stat k]
}
