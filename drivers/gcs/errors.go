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
	"strings"

	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"

	"github.com/berthhq/berth/drivers"
)

// failed wraps the error of an operation.
func failed(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("gcs: %s %s: %w", op, key, err)
}

// errNoBucket does not wrap drivers.ErrNotFound, which is about a key.
var errNoBucket = errors.New("the bucket does not exist")

// classify returns err wrapped with its sentinel and with the setting that fixes
// it. It returns err unchanged if there is no sentinel, or if ctx has ended. unmet
// is the sentinel for a failed precondition.
func (c *Config) classify(ctx context.Context, err, unmet error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	if e, ok := errors.AsType[*identityError](err); ok {
		err = e // this attempt was not sent
	}
	sentinel := claim(err, unmet)
	switch {
	case sentinel == nil:
		return err
	case errors.Is(sentinel, drivers.ErrRefused):
		err = c.advise(err)
	}
	return fmt.Errorf("%w: %w", sentinel, err)
}

func claim(err, unmet error) error {
	if sentinel := trouble(err); sentinel != nil {
		return sentinel
	}
	switch status(err) {
	case http.StatusNotFound:
		return drivers.ErrNotFound
	case http.StatusPreconditionFailed:
		return unmet
	case http.StatusRequestedRangeNotSatisfiable:
		return drivers.ErrRange
	}
	return nil
}

// trouble returns drivers.ErrBusy, drivers.ErrFull or drivers.ErrRefused if the
// error is about a service or the connection to it. It returns nil if the error is
// about the object of the request.
func trouble(err error) error {
	if e, ok := errors.AsType[*identityError](err); ok {
		if e.passes() {
			return drivers.ErrBusy
		}
		return drivers.ErrRefused
	}
	if sentinel := reasonsOf(err).sentinel(); sentinel != nil {
		return sentinel
	}
	switch code := status(err); {
	case passes(code), code == 0 && broken(err):
		return drivers.ErrBusy
	case code == http.StatusInsufficientStorage: // from stores other than Google's
		return drivers.ErrFull
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return drivers.ErrRefused
	}
	_, noName := errors.AsType[*net.DNSError](err)
	if noName || errors.Is(err, errNoBucket) {
		return drivers.ErrRefused
	}
	return nil
}

// passes reports whether the same request may succeed later.
func passes(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// broken reports whether the connection could not be made, ended too early, or
// was silent for too long. It returns false for a name that does not exist.
func broken(err error) bool {
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return e.IsTemporary || e.IsTimeout
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return true
	}
	_, isNet := errors.AsType[*net.OpError](err)
	_, halfHeader := errors.AsType[textproto.ProtocolError](err)
	halfStatus := strings.Contains(err.Error(), "transport connection broken") // net/http has no type for it
	return isNet || halfHeader || halfStatus || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// status returns the HTTP status of the store's answer, or 0.
func status(err error) int {
	if errors.Is(err, storage.ErrObjectNotExist) {
		return http.StatusNotFound
	}
	if e, ok := errors.AsType[*googleapi.Error](err); ok {
		return e.Code
	}
	return 0
}

// advise returns err, which is drivers.ErrRefused, wrapped with the setting
// that fixes it.
func (c *Config) advise(err error) error {
	if advice := c.reasonAdvice(reasonsOf(err)); advice != "" {
		return fmt.Errorf("%s: %w", advice, err)
	}
	switch code := status(err); {
	case errors.Is(err, errNoBucket):
		return fmt.Errorf("gcs.Config.Bucket: bucket %q does not exist at %s: check the name: %w", c.Bucket, c.endpoint(), err)
	case code == http.StatusUnauthorized:
		return fmt.Errorf("gcs.Config.CredentialsFile: %s are not accepted at %s: %w", c.credentialsName(), c.endpoint(), err)
	case code == http.StatusForbidden:
		return fmt.Errorf("gcs.Config.CredentialsFile: %s are denied access to bucket %q: grant roles/storage.objectUser on it: %w", c.credentialsName(), c.Bucket, err)
	}
	if _, ok := errors.AsType[*identityError](err); ok {
		return err // its text names the setting
	}
	return fmt.Errorf("gcs.Config.Endpoint: the host of %s does not resolve: %w", c.endpoint(), err)
}

// credentialsName returns the name of the credentials, for messages.
func (c *Config) credentialsName() string {
	if c.CredentialsFile == "" {
		return "the Application Default Credentials"
	}
	return "the credentials in " + c.CredentialsFile
}

// explain returns an error of the first requests wrapped with the setting to
// check, unless classify has already named one.
func (c *Config) explain(err error) error {
	_, noToken := errors.AsType[*identityError](err)
	_, noConnection := errors.AsType[*net.OpError](err)
	switch {
	case noToken, errors.Is(err, drivers.ErrRefused):
		return err
	case noConnection:
		return fmt.Errorf("gcs.Config.Endpoint: %s cannot be reached: %w", c.endpoint(), err)
	case status(err) == http.StatusBadRequest && c.StorageClass != "":
		return fmt.Errorf("gcs.Config.StorageClass: bucket %q may not accept objects of the class %q: %w", c.Bucket, c.StorageClass, err)
	default:
		return fmt.Errorf("bucket %q at %s: %w", c.Bucket, c.endpoint(), err)
	}
}

// bucketWatch distinguishes a missing bucket from a missing object. Both are
// answered with 404, and the SDK's reader ignores the body. Only the body names
// the cause: as XML with the code NoSuchBucket, or as JSON in the message.
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
