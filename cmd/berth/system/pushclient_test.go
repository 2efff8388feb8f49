package system

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// pushClient pushes one blob in chunks to a fleet. After a failure it does what the
// specification requires of clients. It never starts over, because replicas must
// not lose what any of them has acknowledged.
type pushClient struct {
	f        *fleet
	data     []byte
	location string // of the upload; empty before the POST
	offset   int    // bytes that were acknowledged
	sent     int    // the end of the bytes that were sent
	replica  int    // received the last chunk
	finished bool   // a PUT was sent, and may have taken effect
}

func newPushClient(f *fleet, data []byte) *pushClient {
	return &pushClient{f: f, data: data, replica: noReplica}
}

var errTooManyTries = errors.New("the push still fails after many tries")

// push pushes the blob. Each request has up to chunk bytes.
func (c *pushClient) push(ctx context.Context, chunk int) error {
	for range 10_000 {
		end := min(c.offset+chunk, len(c.data))
		a, err := c.send(ctx, end)
		if err == nil && a.status == http.StatusCreated {
			return nil
		}
		if err := c.handle(ctx, end, a, err); err != nil {
			return err
		}
	}
	return errTooManyTries
}

// send sends the next request: the POST, a PATCH up to end, or the PUT of the last
// chunk.
func (c *pushClient) send(ctx context.Context, end int) (response, error) {
	switch {
	case c.location == "":
		return request(ctx, c.f.any(), http.MethodPost, "/v2/test/blobs/uploads/", nil)
	case end < len(c.data):
		return c.sendChunk(ctx, http.MethodPatch, c.location, end)
	default:
		c.finished = true
		return c.sendChunk(ctx, http.MethodPut, finish(c.location, c.data), end)
	}
}

// sendChunk sends the bytes up to end, to another replica than the chunk before.
func (c *pushClient) sendChunk(ctx context.Context, method, location string, end int) (response, error) {
	c.replica = c.f.next(c.replica)
	c.sent = max(c.sent, end)
	p := c.f.replica(c.replica)
	req, err := http.NewRequestWithContext(ctx, method, p.url+location, bytes.NewReader(c.data[c.offset:end]))
	if err != nil {
		return response{}, err
	}
	if method == http.MethodPatch {
		req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", c.offset, end-1))
	}
	res, err := p.client.Do(req)
	if err != nil {
		return response{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return response{res.StatusCode, res.Header, body}, err
}

// handle handles the response to a request that did not commit the blob, or the error
// of its connection. It returns an error if the push cannot continue.
func (c *pushClient) handle(ctx context.Context, end int, a response, err error) error {
	switch {
	case err == nil && a.status == http.StatusAccepted:
		started := c.location != ""
		if err := c.resumeAt(a); err != nil {
			return err
		}
		if started && c.offset != end {
			return fmt.Errorf("the response to a PATCH up to %d acknowledges %d bytes", end, c.offset)
		}
		return nil
	case err == nil && a.status == http.StatusRequestedRangeNotSatisfiable:
		return c.resumeAt(a)
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil || a.status == http.StatusServiceUnavailable:
		time.Sleep(20 * time.Millisecond)
		return c.readStatus(ctx)
	default:
		return fmt.Errorf("request after %d bytes = %d %s", c.offset, a.status, a.body)
	}
}

// resumeAt takes the location and the offset from a response. It returns an error if
// the offset is less than what was acknowledged before, or more than what was sent.
func (c *pushClient) resumeAt(a response) error {
	last, err := strconv.Atoi(strings.TrimPrefix(a.header.Get("Range"), "0-"))
	if err != nil {
		return fmt.Errorf("response %d has Range %q", a.status, a.header.Get("Range"))
	}
	offset := last + 1
	if last == 0 {
		offset = 0 // no bytes; these tests never send a single byte
	}
	if offset < c.offset || offset > c.sent {
		return fmt.Errorf("response %d reports %d bytes, after %d were acknowledged and %d sent", a.status, offset, c.offset, c.sent)
	}
	c.location, c.offset = a.header.Get("Location"), offset
	return nil
}

// readStatus reads the offset to resume at. An upload that a PUT has committed has no
// status: then the client sends the PUT again.
func (c *pushClient) readStatus(ctx context.Context) error {
	if c.location == "" {
		return nil
	}
	for range 1000 {
		a, err := request(ctx, c.f.replica(c.f.next(c.replica)), http.MethodGet, c.location, nil)
		switch {
		case err == nil && a.status == http.StatusNoContent:
			return c.resumeAt(a)
		case err == nil && a.status == http.StatusNotFound && c.finished:
			return nil
		case err == nil && a.status != http.StatusServiceUnavailable:
			return fmt.Errorf("status after %d bytes = %d %s", c.offset, a.status, a.body)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errTooManyTries
}
