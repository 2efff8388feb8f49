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
	// shortList is the length in bytes of a list that is made at any time.
	shortList = 64 << 10

	// maxLongLists is the number of longer lists that exist at a time, each until its
	// client has received it. As many requests may wait to make one, for listPatience.
	maxLongLists = 16
	listPatience = 10 * time.Second

	// A client has to receive a longer list within listPatience and the time that this
	// rate allows. The kernel's buffers usually take most of the list at once.
	minListRate = 64 << 10 // bytes per second

	// listMargin is room for what stands around the entries of a list, in bytes.
	listMargin = 1 << 10
)

// longLists limits the memory of long lists.
type longLists struct {
	made, waiting chan struct{}
}

func newLongLists() longLists {
	return longLists{make(chan struct{}, maxLongLists), make(chan struct{}, maxLongLists)}
}

// acquire waits until there may be one more long list, which release ends. It returns
// errTooManyLists if too many requests wait, or if the request has waited for too long.
func (l longLists) acquire(ctx context.Context) error {
	select {
	case l.waiting <- struct{}{}:
		defer func() { <-l.waiting }()
	default:
		return errTooManyLists
	}
	patience := time.NewTimer(listPatience)
	defer patience.Stop()
	select {
	case l.made <- struct{}{}:
		return nil
	case <-patience.C:
		return errTooManyLists
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l longLists) release() { <-l.made }

// list is a JSON array that becomes the body of a response.
type list struct {
	ctx    context.Context //nolint:containedctx // of the request
	long   longLists
	isLong bool
	limit  int // of the length of the body in bytes; 0 for none

	body    bytes.Buffer
	json    *json.Encoder // to body
	entries int
}

// newList returns an empty list. The caller closes it.
func newList(ctx context.Context, long longLists, limit int) *list {
	l := &list{ctx: ctx, long: long, limit: limit}
	l.json = json.NewEncoder(&l.body)
	l.json.SetEscapeHTML(false) // the response is never a page
	l.body.WriteByte('[')
	return l
}

// add appends an entry. It reports false, and has appended nothing, if the body would
// be too long; the first entry always fits. It returns errTooManyLists if the list is
// long, and there are too many of them.
func (l *list) add(entry any) (fits bool, err error) {
	before := l.body.Len()
	if l.entries > 0 {
		l.body.WriteByte(',')
	}
	if err := l.json.Encode(entry); err != nil {
		return false, err
	}
	l.body.Truncate(l.body.Len() - len("\n"))
	if l.limit > 0 && l.entries > 0 && l.body.Len() > l.limit-listMargin {
		l.body.Truncate(before)
		return false, nil
	}
	l.entries++
	return true, l.reserve(0)
}

// reserve counts the list as long if n more bytes make it so. A caller of add reserves
// an entry that may be long by itself, because add encodes the entry first. It returns
// errTooManyLists if there are too many long lists.
func (l *list) reserve(n int) error {
	if l.isLong || l.body.Len()+n <= shortList {
		return nil
	}
	if err := l.long.acquire(l.ctx); err != nil {
		return err
	}
	l.isLong = true
	return nil
}

func (l *list) close() {
	if l.isLong {
		l.long.release()
	}
}

// send sends a JSON object with the list as its last member. start is the object up to
// the list.
func (l *list) send(w http.ResponseWriter, mediaType, start string) {
	l.body.WriteString("]}")
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.Itoa(len(start)+l.body.Len()))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if l.isLong {
		patience := listPatience + time.Duration(l.body.Len())*time.Second/minListRate
		// A connection without deadlines, as in tests, may take any time.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience))
	}
	w.WriteHeader(http.StatusOK)
	if _, err := w.Write([]byte(start)); err == nil { // an error means that the client has disconnected
		_, _ = l.body.WriteTo(w)
	}
}
