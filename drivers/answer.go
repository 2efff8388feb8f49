package drivers

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Answer reads what a store sends over a connection, for a driver's Open. What
// breaks it off is ErrBusy, but for the end of the caller's own context.
func Answer(body io.ReadCloser) io.ReadCloser { return answer{body} }

type answer struct {
	io.ReadCloser
}

func (a answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err != nil && err != io.EOF && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: the answer broke off: %w", ErrBusy, err)
	}
	return n, err
}
