package ocihttp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// No deadline is set after a handler has returned, even if the server stops at
// that moment. Over HTTP/2 net/http would panic, outside of any request, and end
// the process.
func TestUnreadSetsNoDeadlineAfterReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopping, stop := context.WithCancel(t.Context())
		returned := false
		body := readerFunc(func([]byte) (int, error) {
			stop()
			return 0, io.EOF
		})
		err := (&discarder{idle: time.Second}).discard(stopping, body, func(at time.Time) error {
			if at.Before(time.Now()) { // set by stop
				time.Sleep(time.Second)
			}
			if returned {
				t.Error("a deadline was set after discard returned")
			}
			return nil
		})
		returned = true
		if err != nil {
			t.Errorf("discard = %v, want nil", err)
		}
		time.Sleep(time.Minute)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// If the handler has already read more than the limit, at most one byte more is
// read.
func TestUnreadAfterTooMuchWasRead(t *testing.T) {
	w := &firstWriter{limits: Unread{AcceptedBytes: 50}, body: &trackingBody{read: 100}, status: http.StatusCreated, request: httptest.NewRequest(http.MethodPut, "/", nil)}
	body := strings.NewReader("more than was announced")
	if err := w.newDiscarder().discard(t.Context(), body, func(time.Time) error { return nil }); !errors.Is(err, errLimit) {
		t.Errorf("discard = %v, want %v", err, errLimit)
	}
	if read := body.Size() - int64(body.Len()); read > 1 {
		t.Errorf("discard read %d bytes, want at most 1", read)
	}
}
