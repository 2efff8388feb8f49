package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/berthhq/berth/drivers"
)

// unequalParts completes an upload with a later part that is larger than the
// first, as in long uploads. Cloudflare R2 refuses that, but only at the end.
func unequalParts(ctx context.Context, b *bench) (string, error) {
	if b.Limits().EqualParts {
		return "", skipped{errors.New("all parts but the last have one size here")}
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
		return "", fmt.Errorf("completed object has %d bytes, want %d", o.Size, len(content))
	}
	return fmt.Sprintf("parts of %d, %d and %d bytes", bodies[0].Size, bodies[1].Size, bodies[2].Size), nil
}
