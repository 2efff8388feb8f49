package check

import (
	"context"
	"fmt"
	"time"

	"github.com/berthhq/berth/drivers"
)

// maxSkew is the largest difference between the clocks that causes no warning.
// Amazon S3 accepts 15 minutes.
const maxSkew = 5 * time.Minute

// clock compares the store's clock with this machine's.
func clock(ctx context.Context, b *run) (string, error) {
	key := b.key("clock")
	before := time.Now()
	if _, err := b.Create(ctx, key, drivers.NewBody([]byte("tick"))); err != nil {
		return "", err
	}
	o, err := b.Stat(ctx, key)
	if err != nil {
		return "", err
	}
	skew := o.Modified.Sub(before)
	if skew.Abs() > maxSkew {
		return "", warning{fmt.Errorf("the store's clock and this machine's are %v apart", skew.Abs().Round(time.Second))}
	}
	return fmt.Sprintf("%v apart, including the time of a request", skew.Abs().Round(100*time.Millisecond)), nil
}
