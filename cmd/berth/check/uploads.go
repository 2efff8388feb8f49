package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/berthhq/berth/drivers"
)

// parts returns two parts: the first, of the smallest allowed size, and the last.
func (b *run) parts(fill byte) (first, last drivers.Body) {
	return drivers.NewBody(bytes.Repeat([]byte{fill}, int(max(b.Limits().MinPart, 1)))), drivers.NewBody([]byte("end"))
}

// multipart stores two parts in reverse order and completes the upload twice.
func multipart(ctx context.Context, b *run) (string, error) {
	one, two := b.parts('a')
	key := b.dataKey(slices.Concat(one.Bytes(), two.Bytes()))
	u, err := b.upload(ctx, key)
	if err != nil {
		return "", err
	}
	last, err := b.PutPart(ctx, u, 2, two)
	if err != nil {
		return "", err
	}
	first, err := b.PutPart(ctx, u, 1, one)
	if err != nil {
		return "", err
	}
	if _, err := b.Stat(ctx, key); !errors.Is(err, drivers.ErrNotFound) {
		return "", fmt.Errorf("before the upload is completed: %w, want %w", orNothing(err), drivers.ErrNotFound)
	}
	crc := drivers.CombineCRC32C(one.CRC32C, two.CRC32C, two.Size)
	for range 2 { // the second call finds the object that the first has made
		o, err := b.Complete(ctx, u, []drivers.Part{first, last}, crc)
		if err != nil {
			return "", err
		}
		if o.Size != one.Size+two.Size {
			return "", fmt.Errorf("the completed object has %d bytes, want %d", o.Size, one.Size+two.Size)
		}
	}
	got, err := read(ctx, b, key, one.Size-1, -1)
	if err != nil {
		return "", err
	}
	if want := "aend"; string(got) != want {
		return "", fmt.Errorf("the object ends with %q, want %q", got, want)
	}
	b.completed = u
	return fmt.Sprintf("parts of %d and %d bytes", one.Size, two.Size), nil
}

// replacedPart completes an upload with the tag of a part that was then replaced
// by other bytes. The store must refuse that or use the bytes with the tag.
func replacedPart(ctx context.Context, b *run) (string, error) {
	key := b.key("replaced")
	u, err := b.upload(ctx, key)
	if err != nil {
		return "", err
	}
	one, two := b.parts('a')
	other, _ := b.parts('b')
	first, err := b.PutPart(ctx, u, 1, one)
	if err != nil {
		return "", err
	}
	last, err := b.PutPart(ctx, u, 2, two)
	if err != nil {
		return "", err
	}
	if _, err := b.PutPart(ctx, u, 1, other); err != nil {
		return "", err
	}
	_, err = b.Complete(ctx, u, []drivers.Part{first, last}, drivers.CombineCRC32C(one.CRC32C, two.CRC32C, two.Size))
	if errors.Is(err, drivers.ErrChanged) {
		return "refused", nil
	}
	if err != nil {
		return "", err
	}
	got, err := read(ctx, b, key, 0, 1)
	if err != nil {
		return "", err
	}
	if string(got) != "a" {
		return "", errors.New("the object has the bytes that replaced the part")
	}
	return "the store kept the bytes with the tag", nil
}

// abortListed checks that an upload in progress is listed until it is aborted.
func abortListed(ctx context.Context, b *run) (string, error) {
	key := b.key("aborted")
	u, err := b.upload(ctx, key)
	if err != nil {
		return "", err
	}
	if _, err := b.PutPart(ctx, u, 1, drivers.NewBody(greeting)); err != nil {
		return "", err
	}
	before, err := b.listed(ctx, u)
	if err != nil {
		return "", err
	}
	if err := b.Abort(ctx, u); err != nil {
		return "", err
	}
	after, err := b.listed(ctx, u)
	kept := false
	if err == nil && b.completed.ID != "" {
		kept, err = b.listed(ctx, b.completed)
	}
	switch {
	case err != nil:
		return "", err
	case after:
		return "", warning{errors.New("an aborted upload is still listed")}
	case kept:
		return "", warning{errors.New("the parts of a completed upload still exist, and cost money until the collector deletes them")}
	case !before && b.driver == "azure":
		return "", skipped{errors.New("the store lists no uploads, and deletes abandoned parts by itself")}
	case !before:
		return "", warning{errors.New("an upload in progress is not listed")}
	}
	return "listed while in progress, not listed after the abort", nil
}

// listed reports whether the store lists an upload.
func (b *run) listed(ctx context.Context, u drivers.Upload) (bool, error) {
	for listed, err := range b.Uploads(ctx, u.Key) {
		if err != nil {
			return false, err
		}
		if listed.Key == u.Key && listed.ID == u.ID {
			return true, nil
		}
	}
	return false, nil
}

// unequalParts completes an upload with a later part that is larger than the
// first, as in long uploads. Cloudflare R2 refuses that, but only at the end.
func unequalParts(ctx context.Context, b *run) (string, error) {
	if b.Limits().EqualParts {
		return "", skipped{errors.New("on this store, berth makes all parts but the last the same size")}
	}
	least := int(max(b.Limits().MinPart, 1))
	bodies := []drivers.Body{
		drivers.NewBody(bytes.Repeat([]byte{'a'}, least)),
		drivers.NewBody(bytes.Repeat([]byte{'b'}, least+1)),
		drivers.NewBody([]byte("end")),
	}
	var content []byte
	for _, body := range bodies {
		content = append(content, body.Bytes()...)
	}
	key := b.dataKey(content)
	u, err := b.upload(ctx, key)
	if err != nil {
		return "", err
	}
	parts := make([]drivers.Part, len(bodies))
	for i, body := range bodies {
		if parts[i], err = b.PutPart(ctx, u, i+1, body); err != nil {
			return "", err
		}
	}
	o, err := b.Complete(ctx, u, parts, drivers.UpdateCRC32C(0, content))
	switch {
	case err != nil:
		return "", err
	case o.Size != int64(len(content)):
		return "", fmt.Errorf("the completed object has %d bytes, want %d", o.Size, len(content))
	}
	return fmt.Sprintf("parts of %d, %d and %d bytes", bodies[0].Size, bodies[1].Size, bodies[2].Size), nil
}
