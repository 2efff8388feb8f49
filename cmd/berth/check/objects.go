package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/berthhq/berth/drivers"
)

// greeting is the content of objects in several steps.
var greeting = []byte("berth was here")

// writeAndRead creates an object and reads it back.
func writeAndRead(ctx context.Context, b *run, key string) (string, error) {
	if _, err := b.Create(ctx, key, drivers.NewBody(greeting)); err != nil {
		return "", err
	}
	got, err := read(ctx, b, key, 0, -1)
	if err != nil {
		return "", err
	}
	if !bytes.Equal(got, greeting) {
		return "", fmt.Errorf("read %q, wrote %q", got, greeting)
	}
	return fmt.Sprintf("%d bytes", len(greeting)), nil
}

// read returns n bytes of an object from off on, or all bytes from off on if n is
// negative.
func read(ctx context.Context, b drivers.Bucket, key string, off, n int64) ([]byte, error) {
	rc, _, err := b.Open(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

// orNothing returns err, or an error for messages if err is nil.
func orNothing(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

// listAfterWrite checks that a listing contains what was just created, in order,
// and lacks what was just deleted.
func listAfterWrite(ctx context.Context, b *run) (string, error) {
	const n = 20
	var want []string
	for i := range n {
		key := b.key(fmt.Sprintf("list/%02d", i))
		if _, err := b.Create(ctx, key, drivers.NewBody([]byte("x"))); err != nil {
			return "", err
		}
		want = append(want, key)
	}
	for range 2 { // with all keys, then without the first
		for i := range b.endpoints() {
			var got []string
			for o, err := range b.at(i).List(ctx, b.root+"list/", "", 0) {
				if err != nil {
					return "", err
				}
				got = append(got, o.Key)
			}
			if !slices.Equal(got, want) {
				return "", fmt.Errorf("a listing has %d keys, want %d in order", len(got), len(want))
			}
		}
		if err := b.Delete(ctx, want[0]); err != nil {
			return "", err
		}
		want = want[1:]
	}
	return fmt.Sprintf("%d keys in order, and one fewer after a deletion", n), nil
}

func rangedReads(ctx context.Context, b *run) (string, error) {
	data := []byte("0123456789")
	key := b.key("range")
	if _, err := b.Create(ctx, key, drivers.NewBody(data)); err != nil {
		return "", err
	}
	for _, r := range []struct{ off, n int64 }{{0, 1}, {3, 4}, {9, 1}, {5, -1}, {8, 100}} {
		got, err := read(ctx, b, key, r.off, r.n)
		if err != nil {
			return "", err
		}
		want := data[r.off:]
		if r.n >= 0 {
			want = want[:min(r.n, int64(len(want)))]
		}
		if !bytes.Equal(got, want) {
			return "", fmt.Errorf("%d bytes at offset %d are %q, want %q", r.n, r.off, got, want)
		}
	}
	if _, err := read(ctx, b, key, 10, -1); !errors.Is(err, drivers.ErrRange) {
		return "", fmt.Errorf("reading past the end: %w, want %w", orNothing(err), drivers.ErrRange)
	}
	return "at the start, in the middle and to the end", nil
}
