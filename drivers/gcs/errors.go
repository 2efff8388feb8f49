package gcs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"

	"github.com/berthhq/berth/drivers"
)

// errNoBucket is no drivers.ErrNotFound: it says nothing about a key.
var errNoBucket = errors.New("the bucket does not exist")

// classify makes of the SDK's error one that wraps the sentinel it stands for,
// if it stands for one. A precondition that did not hold is what unmet says.
func classify(ctx context.Context, err, unmet error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	if sentinel := claim(err, unmet); sentinel != nil {
		return fmt.Errorf("%w: %w", sentinel, err)
	}
	return err
}

func claim(err, unmet error) error {
	switch status(err) {
	case http.StatusNotFound:
		return drivers.ErrNotFound
	case http.StatusPreconditionFailed:
		return unmet
	case http.StatusRequestedRangeNotSatisfiable:
		return drivers.ErrRange
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return drivers.ErrBusy
	case http.StatusUnauthorized, http.StatusForbidden:
		return drivers.ErrRefused
	}
	if broken(err) {
		return drivers.ErrBusy
	}
	_, noName := errors.AsType[*net.DNSError](err)
	_, noToken := errors.AsType[*auth.Error](err)
	if noName || noToken || errors.Is(err, errNoBucket) {
		return drivers.ErrRefused
	}
	return nil
}

// broken says that the connection could not be made, or ended too early, or
// that nothing came over it for too long; to the store, or to what gives the
// tokens for it. A name that does not resolve is none of these.
func broken(err error) bool {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return false
	}
	if token, ok := errors.AsType[*auth.Error](err); ok && token.Temporary() {
		return true
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return true
	}
	_, isNet := errors.AsType[*net.OpError](err)
	_, halfHeader := errors.AsType[textproto.ProtocolError](err)
	return isNet || halfHeader || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// status is the HTTP status that the store answered with, or 0.
func status(err error) int {
	if errors.Is(err, storage.ErrObjectNotExist) {
		return http.StatusNotFound
	}
	if e, ok := errors.AsType[*googleapi.Error](err); ok {
		return e.Code
	}
	return 0
}

// explain says which setting to look at after the first requests have failed.
func (c *Config) explain(err error) error {
	if errors.Is(err, errNoBucket) {
		return fmt.Errorf("storage.gcs.bucket: bucket %q does not exist at %s: check the name: %w", c.Bucket, c.endpoint(), err)
	}
	who := c.CredentialsFile
	if who == "" {
		who = "the Application Default Credentials"
	}
	switch status(err) {
	case http.StatusUnauthorized:
		return fmt.Errorf("storage.gcs.credentials_file: %s are not accepted at %s: %w", who, c.endpoint(), err)
	case http.StatusForbidden:
		return fmt.Errorf("storage.gcs.credentials_file: %s may not write to bucket %q: grant roles/storage.objectUser on it: %w", who, c.Bucket, err)
	}
	if e, ok := errors.AsType[*auth.Error](err); ok {
		// RFC 6749, section 5.2. A JWT of another time is invalid, and so is one
		// by a key that is not the account's any more.
		if bytes.Contains(e.Body, []byte("invalid_grant")) {
			return fmt.Errorf("storage.gcs.credentials_file: the key in %s is not accepted: it was deleted, or the clock of this machine is wrong: %w", who, err)
		}
		return fmt.Errorf("storage.gcs.credentials_file: there is no token for %s: %w", who, err)
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("storage.gcs.endpoint: %s cannot be reached: %w", c.endpoint(), err)
	}
	return fmt.Errorf("storage.gcs: bucket %q at %s: %w", c.Bucket, c.endpoint(), err)
}

// bucketWatch tells a missing bucket from a missing object. Both are answered
// with 404, and the SDK's reader does not look at the body, which says which:
// as XML with the code NoSuchBucket, or as JSON in the message.
type bucketWatch struct {
	base http.RoundTripper
}

func (t bucketWatch) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusNotFound {
		return resp, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	if bytes.Contains(body, []byte("specified bucket does not exist")) {
		return nil, errNoBucket
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}
