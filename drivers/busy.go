package drivers

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// BusyOnError wraps the body of a store's response, for a driver's Open. Its Read
// returns ErrBusy when the connection breaks, unless the cause is the end of the
// caller's context.
func BusyOnError(body io.ReadCloser) io.ReadCloser { return busyOnError{body} }

type busyOnError struct {
	io.ReadCloser
}

func (b busyOnError) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: the response broke off: %w", ErrBusy, err)
	}
	return n, err
}
