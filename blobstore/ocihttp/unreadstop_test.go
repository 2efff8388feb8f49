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

// No deadline is set after a handler has returned, not even when the server
// stops at that moment: over HTTP/2 net/http would panic outside of any request,
// which ends the process.
func TestUnreadStopsAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopping, stop := context.WithCancel(t.Context())
		returned := false
		body := readerFunc(func([]byte) (int, error) {
			stop()
			return 0, io.EOF
		})
		err := (&rest{silence: time.Second}).drop(stopping, body, func(at time.Time) error {
			if at.Before(time.Now()) { // by stop
				time.Sleep(time.Second)
			}
			if returned {
				t.Error("a deadline was set after the body was dropped")
			}
			return nil
		})
		returned = true
		if err != nil {
			t.Errorf("drop = %v", err)
		}
		time.Sleep(time.Minute)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A limit that a handler has read beyond ends the body at its next byte.
func TestUnreadAfterTooMuchWasRead(t *testing.T) {
	w := &firstWriter{limits: Unread{Body: 50}, body: &arriving{read: 100}, status: http.StatusCreated, request: httptest.NewRequest(http.MethodPut, "/", nil)}
	body := strings.NewReader("more than was announced")
	if err := w.rest().drop(t.Context(), body, func(time.Time) error { return nil }); !errors.Is(err, errEnough) {
		t.Errorf("drop = %v, want %v", err, errEnough)
	}
	if read := body.Size() - int64(body.Len()); read > 1 {
		t.Errorf("%d bytes were read", read)
	}
}
