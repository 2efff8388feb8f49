package drivers_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/berthhq/berth/drivers"
)

func TestBusyOnError(t *testing.T) {
	for _, test := range []struct {
		end, want error
		busy      bool
	}{
		{io.EOF, nil, false},
		{io.ErrUnexpectedEOF, io.ErrUnexpectedEOF, true},
		{context.Canceled, context.Canceled, false},
		{context.DeadlineExceeded, context.DeadlineExceeded, false},
	} {
		body := io.MultiReader(strings.NewReader("text"), iotest.ErrReader(test.end))
		got, err := io.ReadAll(drivers.BusyOnError(io.NopCloser(body)))
		if string(got) != "text" || !errors.Is(err, test.want) || errors.Is(err, drivers.ErrBusy) != test.busy {
			t.Errorf("reading a body that ends with %v = %q, %v, want %v, ErrBusy: %t", test.end, got, err, test.want, test.busy)
		}
	}
}
