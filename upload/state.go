package upload

import "errors"

// state is what a Writer can do next. A Writer starts as filling and ends as
// closed:
//
//	filling -> sealed
//	filling, sealed -> stopped
//	filling, sealed, stopped -> suspended
//	any -> closed
type state int

const (
	// filling: the Writer receives bytes.
	filling state = iota

	// sealed: Seal has succeeded. Store may be called, and Seal again.
	sealed

	// stopped: an error has ended the receiving, for example ErrCut. Suspend
	// records what came before it.
	stopped

	// suspended: what came was recorded, or is lost.
	suspended

	// closed: the Writer holds nothing any more.
	closed
)

var (
	errSealed    = errors.New("upload: the writer is sealed")
	errSuspended = errors.New("upload: the writer is suspended")
	errClosed    = errors.New("upload: the writer is closed")
	errUnsealed  = errors.New("upload: the writer is not sealed")
)

// status is the state of a Writer, and how it came to be in that state.
type status struct {
	state state
	err   error // why no more bytes are received; nil while filling or sealed
	kept  error // what Suspend returns, once suspended
}

// isOpen reports whether the upload can be sealed.
func (s *status) isOpen() bool { return s.state == filling || s.state == sealed }

// receiving returns the reason why no more bytes are received, or nil.
func (s *status) receiving() error {
	if s.state == sealed {
		return errSealed
	}
	return s.err
}

// stop ends the receiving because of err, and returns err.
func (s *status) stop(err error) error {
	if s.isOpen() {
		s.state = stopped
	}
	s.err = err
	return err
}

func (s *status) suspend(kept error) {
	s.state, s.kept = suspended, kept
	if s.err == nil {
		s.err = errSuspended
	}
}

func (s *status) close() {
	s.state = closed
	if s.err == nil {
		s.err = errClosed
	}
}
