package envelope_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/drivers/memory"
)

const key = "meta/test"

// note is the value that the tests store.
type note struct {
	Text string `json:"text"`
	N    int    `json:"n,omitempty"`
}

// bucket returns a view of store, through f unless f is nil.
func bucket(t *testing.T, store *memory.Store, f drivertest.Intercept) drivers.Bucket {
	t.Helper()
	b, err := memory.Open(t.Context(), memory.Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	if f != nil {
		b = drivertest.Wrap(b, f)
	}
	return b
}

func read(t *testing.T, b drivers.Bucket) envelope.Stored[note] {
	t.Helper()
	s, err := envelope.Read[note](t.Context(), b, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRoundTrip(t *testing.T) {
	for _, raw := range []int{0, 1, 100, envelope.MaxRaw, envelope.MaxRaw + 1, 3 << 20} {
		b := bucket(t, &memory.Store{}, nil)
		value := note{Text: "a line\nand another, <&>", N: raw}
		tail := bytes.Repeat([]byte("\nraw"), raw/4+1)[:raw]
		made, err := envelope.Create(t.Context(), b, key, value, drivers.NewBody(tail[:raw/3], tail[raw/3:]))
		if err != nil {
			t.Fatal(err)
		}

		want := envelope.Stored[note]{Value: value, RawSize: int64(raw), Object: made.Object}
		if 0 < raw && raw <= envelope.MaxRaw {
			want.Raw = tail
		}
		ignored := cmpopts.IgnoreUnexported(envelope.Stored[note]{})
		got := read(t, b)
		if diff := cmp.Diff(want, got, ignored); diff != "" {
			t.Errorf("Read of %d raw bytes, -want +got:\n%s", raw, diff)
		}
		s, r, err := envelope.Open[note](t.Context(), b, key)
		if err != nil {
			t.Fatal(err)
		}
		want.Raw = nil
		if diff := cmp.Diff(want, s, ignored); diff != "" {
			t.Errorf("Open of %d raw bytes, -want +got:\n%s", raw, diff)
		}
		rest, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(rest, tail) {
			t.Errorf("the reader of Open returns %d bytes, %v, want the %d raw bytes", len(rest), err, raw)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestBodiesDiffer checks that equal values have different bodies, so that a
// tag that is derived from the content never equals an earlier tag of the key.
func TestBodiesDiffer(t *testing.T) {
	b := bucket(t, &memory.Store{}, nil)
	first, err := envelope.Create(t.Context(), b, key, note{Text: "x"}, drivers.Body{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := envelope.Replace(t.Context(), b, key, first.Object.Tag, note{Text: "x"}, drivers.Body{})
	if err != nil {
		t.Fatal(err)
	}
	if first.Object.Tag == second.Object.Tag {
		t.Errorf("equal values have the tag %s twice", first.Object.Tag)
	}
	for range 2 { // a writer that has the old tag
		if _, err := envelope.Replace(t.Context(), b, key, first.Object.Tag, note{Text: "late"}, drivers.Body{}); !errors.Is(err, drivers.ErrChanged) {
			t.Errorf("Replace with an old tag = %v, want %v", err, drivers.ErrChanged)
		}
	}
}

// TestUnencodable checks that a value without JSON is not stored.
func TestUnencodable(t *testing.T) {
	b := bucket(t, &memory.Store{}, nil)
	if _, err := envelope.Create(t.Context(), b, key, func() {}, drivers.Body{}); err == nil {
		t.Error("Create of a func = nil, want an error")
	}
	if _, err := b.Stat(t.Context(), key); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("Stat after Create of a func = %v, want %v", err, drivers.ErrNotFound)
	}
}

// TestLongestValue checks that every value that can be written can be read.
func TestLongestValue(t *testing.T) {
	const longest = 16 << 20
	b := bucket(t, &memory.Store{}, nil)
	empty, err := envelope.Create(t.Context(), b, "meta/empty", note{}, drivers.Body{})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("x", longest-int(empty.Object.Size))
	if _, err := envelope.Create(t.Context(), b, key, note{Text: text}, drivers.Body{}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, b).Value.Text; got != text {
		t.Errorf("wrote %d bytes, and read %d different bytes", len(text), len(got))
	}
	if _, err := envelope.Create(t.Context(), b, "meta/longer", note{Text: text + "x"}, drivers.Body{}); err == nil {
		t.Error("Create of a value that Read would refuse = nil, want an error")
	}
}

func TestCreateMeetsAnother(t *testing.T) {
	b := bucket(t, &memory.Store{}, nil)
	if _, err := envelope.Create(t.Context(), b, key, note{Text: "first"}, drivers.NewBody([]byte("raw"))); err != nil {
		t.Fatal(err)
	}
	got, err := envelope.Create(t.Context(), b, key, note{Text: "second"}, drivers.Body{})
	if !errors.Is(err, drivers.ErrExists) || got.Value.Text != "first" || string(got.Raw) != "raw" {
		t.Errorf("Create over another writer's body = %+v, %v, want that body and %v", got, err, drivers.ErrExists)
	}
}

// TestMalformed checks that a body that berth did not write, or that another
// version wrote, is reported as such and never as ErrNotFound.
func TestMalformed(t *testing.T) {
	for body, want := range map[string]string{
		"{}\n":                                               "not written by berth",
		"{\"v\":1,\"value\":{}}\n":                           "not written by berth",
		"{\"nonce\":\"N\",\"value\":{}}\n":                   "not written by berth",
		"{\"v\":2,\"nonce\":\"N\"}\n":                        "format version 2, this berth reads version 1",
		"{\"v\":2,\"value\":\"changed\"}\n":                  "format version 2, this berth reads version 1",
		"{\"v\":1,\"nonce\":\"N\",\"value\":{\"text\":3}}\n": "cannot unmarshal",
		"{\"v\":1,\"nonce\":\"N\"":                           "has no end",
		"{\"v\":1,\"nonce\":\"N\",\"value\":{}}":             "has no end",
		"\n":                                                 "unexpected end of JSON",
		"PK\x03\x04 something else entirely\nand more":       "invalid character",
		strings.Repeat(" ", 17<<20):                          "too long",
	} {
		name := body[:min(len(body), 50)]
		b := bucket(t, &memory.Store{}, nil)
		if _, err := b.Create(t.Context(), key, drivers.NewBody([]byte(body))); err != nil {
			t.Fatal(err)
		}
		_, err := envelope.Read[note](t.Context(), b, key)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), key) {
			t.Errorf("Read of %q = %v, want %q and the key", name, err, want)
		}
		if _, err := envelope.Create(t.Context(), b, key, note{}, drivers.Body{}); err == nil || errors.Is(err, drivers.ErrExists) {
			t.Errorf("Create over %q = %v, want Read's error", name, err)
		}
	}
}

func TestAbsent(t *testing.T) {
	b := bucket(t, &memory.Store{}, nil)
	if _, err := envelope.Read[note](t.Context(), b, key); !errors.Is(err, drivers.ErrNotFound) {
		t.Errorf("Read of an absent key = %v, want %v", err, drivers.ErrNotFound)
	}
	if _, err := envelope.Replace(t.Context(), b, key, "tag", note{}, drivers.Body{}); !errors.Is(err, drivers.ErrChanged) {
		t.Errorf("Replace of an absent key = %v, want %v", err, drivers.ErrChanged)
	}
}

// TestReadIsCutOff checks that a broken connection is an error and not a
// shorter body.
func TestReadIsCutOff(t *testing.T) {
	store := &memory.Store{}
	if _, err := envelope.Create(t.Context(), bucket(t, store, nil), key, note{Text: "x"}, drivers.NewBody(make([]byte, 1000))); err != nil {
		t.Fatal(err)
	}
	faulty := &drivertest.Faulty{Mode: drivertest.Unanswered} // half of the body arrives
	if got, err := envelope.Read[note](t.Context(), bucket(t, store, faulty.Intercept), key); !errors.Is(err, drivertest.ErrInjected) {
		t.Errorf("Read = %+v, %v, want %v", got, err, drivertest.ErrInjected)
	}
}

// FuzzDecode reads arbitrary bytes, and bodies that were encoded from them.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("{\"v\":1,\"nonce\":\"N\",\"value\":{\"text\":\"x\"}}\nraw"))
	f.Add([]byte("{\"v\":2}\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx := context.Background() //nolint:usetesting // cheaper than one for each of millions
		b, err := memory.Open(ctx, memory.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if len(data) == 0 {
			return // no Bucket stores an empty body
		}
		if _, err := b.Create(ctx, key, drivers.NewBody(data)); err != nil {
			t.Fatal(err)
		}
		s, err := envelope.Read[note](ctx, b, key)
		switch {
		case errors.Is(err, drivers.ErrNotFound):
			t.Fatalf("Read of %q = %v, although the key is taken", data, err)
		case err == nil:
			end := bytes.IndexByte(data, '\n') + 1
			if s.RawSize != int64(len(data)-end) || s.RawSize <= envelope.MaxRaw && !bytes.Equal(s.Raw, data[end:]) {
				t.Fatalf("Read of %q has %d raw bytes, %q", data, s.RawSize, s.Raw)
			}
		}
		again := note{Text: strings.ToValidUTF8(string(data), "?"), N: len(data)}
		if _, err := envelope.Create(ctx, b, "meta/again", again, drivers.NewBody(data)); err != nil {
			t.Fatal(err)
		}
		got, err := envelope.Read[note](ctx, b, "meta/again")
		if err != nil || got.Value != again || got.RawSize != int64(len(data)) || got.RawSize <= envelope.MaxRaw && !bytes.Equal(got.Raw, data) {
			t.Fatalf("Read of the body made from %q = %+v, %v", data, got, err)
		}
	})
}
