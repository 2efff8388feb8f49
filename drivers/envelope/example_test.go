package envelope_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/drivers/memory"
)

// Two replicas create the same key. The second one gets the value of the first,
// and replaces it by its tag.
func ExampleCreate() {
	type setting struct{ Owner string }

	ctx := context.Background()
	bucket, err := memory.Open(ctx, memory.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := envelope.Create(ctx, bucket, "meta/setting", setting{"A"}, drivers.Body{}); err != nil {
		fmt.Println(err)
		return
	}
	existing, err := envelope.Create(ctx, bucket, "meta/setting", setting{"B"}, drivers.Body{})
	fmt.Println(existing.Value.Owner, errors.Is(err, drivers.ErrExists))

	replaced, err := envelope.Replace(ctx, bucket, "meta/setting", existing.Object.Tag, setting{"B"}, drivers.Body{})
	fmt.Println(replaced.Value.Owner, err)

	// Output:
	// A true
	// B <nil>
}
