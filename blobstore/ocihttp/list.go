package ocihttp

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

const (
	// smallList is the length in bytes of a list that is made at any time.
	smallList = 64 << 10

	// largeLists is the number of longer lists that exist at a time, each until its
	// client has received it.
	largeLists = 16

	// listPatience is how long a request waits until it may make a long list.
	listPatience = 10 * time.Second
)

// list is a JSON array that becomes the body of a response.
type list struct {
	ctx     context.Context //nolint:containedctx // of the request
	turns   chan struct{}   // has an element for each large list
	isLarge bool            // one of them is for this list
	limit   int             // of the length of the body, in bytes; 0 for none

	body    bytes.Buffer
	entries int
}

func newList(ctx context.Context, turns chan struct{}) *list {
	l := &list{ctx: ctx, turns: turns}
	l.body.WriteByte('[')
	return l
}

// add appends an entry. It reports false, and has appended nothing, if the body would
// be too long; the first entry always fits. It returns errTooManyLists if there are too
// many long lists.
func (l *list) add(entry any) (fits bool, err error) {
	p, err := json.Marshal(entry)
	if err != nil {
		return false, err
	}
	if l.limit > 0 && l.entries > 0 && l.body.Len()+len(p) > l.limit-spareList {
		return false, nil
	}
	if !l.isLarge && l.body.Len()+len(p) > smallList {
		if err := l.takeTurn(); err != nil {
			return false, err
		}
	}
	if l.entries > 0 {
		l.body.WriteByte(',')
	}
	l.body.Write(p)
	l.entries++
	return true, nil
}

// spareList is room for what stands around the entries of a list, in bytes.
const spareList = 1 << 10

func (l *list) takeTurn() error {
	patience := time.NewTimer(listPatience)
	defer patience.Stop()
	select {
	case l.turns <- struct{}{}:
		l.isLarge = true
		return nil
	case <-patience.C:
		return errTooManyLists
	case <-l.ctx.Done():
		return l.ctx.Err()
	}
}

// release ends the list.
func (l *list) release() {
	if l.isLarge {
		<-l.turns
		l.isLarge = false
	}
}

// send sends a JSON object with the list as its last member, whose name is the end of
// start.
func (l *list) send(w http.ResponseWriter, mediaType, start string) {
	l.body.WriteString("]}")
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.Itoa(len(start)+l.body.Len()))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	if _, err := w.Write([]byte(start)); err == nil { // an error means that the client has disconnected
		_, _ = l.body.WriteTo(w)
	}
}
