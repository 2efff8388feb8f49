package check

import (
	"strings"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
)

// anySize does not report that its store requires parts of one size.
type anySize struct {
	drivers.Bucket
}

func (b anySize) Limits() drivers.Limits {
	l := b.Bucket.Limits()
	l.EqualParts = false
	return l
}

// TestUnequalParts tests a store that requires parts of one size.
func TestUnequalParts(t *testing.T) {
	habits := memory.S3()
	habits.Limits.EqualParts = true
	b := openMemory(t, habits)
	const step = "parts of different sizes"
	if r := stepOf(t, Run(t.Context(), b, "s3"), step); r.Status != Skipped {
		t.Errorf("%+v, want %s", r, Skipped)
	}
	if r := stepOf(t, Run(t.Context(), anySize{b}, "s3"), step); r.Status != Failed || !strings.Contains(r.Fix, "storage.s3.equal_parts") {
		t.Errorf("%+v, want %s, and storage.s3.equal_parts", r, Failed)
	}
	nothingLeft(t, b)
}
