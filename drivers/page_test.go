package drivers_test

import (
	"testing"

	"github.com/berthhq/berth/drivers"
)

func TestPageSize(t *testing.T) {
	for _, test := range []struct{ want, listed, page int }{
		{0, 0, 1000}, {0, 1000, 1000},
		{1, 0, 1}, {1, 1, 1000}, {1, 1001, 1000},
		{1000, 0, 1000}, {1001, 0, 1000}, {1001, 1000, 1}, {1001, 1001, 1000},
		{-1, 0, 1000},
	} {
		if got := drivers.PageSize(test.want, test.listed, 1000); got != test.page {
			t.Errorf("PageSize(%d, %d, 1000) = %d, want %d", test.want, test.listed, got, test.page)
		}
	}
}
