package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// formatVersion is the version of the keys and bodies in the bucket.
const formatVersion = 1

// format is the body of the format marker.
type format struct {
	Version int `json:"version"`
}

// CheckFormat returns an error if the bucket has another format than this
// package. It creates the format marker if there is none, so any number of
// processes may open an empty bucket concurrently.
func (c *Catalog) CheckFormat(ctx context.Context) error {
	f, err := envelope.Read[format](ctx, c.bucket, FormatKey)
	if errors.Is(err, drivers.ErrNotFound) {
		f, err = envelope.Create(ctx, c.bucket, FormatKey, format{formatVersion}, drivers.Body{})
		if errors.Is(err, drivers.ErrExists) {
			err = nil // f is the marker of another process
		}
	}
	if err != nil {
		return fmt.Errorf("catalog: %s: %w", FormatKey, err)
	}
	if f.Value.Version != formatVersion {
		return fmt.Errorf("catalog: the bucket has format version %d, this berth has %d (use the berth that wrote it, or a later one)",
			f.Value.Version, formatVersion)
	}
	return nil
}

// Ping asks the store for the format marker, in one request. Its error is one of
// the store or of the network.
func (c *Catalog) Ping(ctx context.Context) error {
	if _, err := c.bucket.Stat(ctx, FormatKey); err != nil {
		return fmt.Errorf("catalog: %s: %w", FormatKey, err)
	}
	return nil
}
