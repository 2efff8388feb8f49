// Package envelope writes and reads berth's small stored bodies: everything in
// the bucket except the bytes of blobs.
//
// A body is one line of JSON followed by raw bytes, of which there may be none:
//
//	{"v":1,"nonce":"Qm1…","value":{…}}\n
//	raw…
//
// Every write has a new random nonce. The nonce has two effects. First, no two
// bodies are equal, so a tag that is derived from the content (an S3 ETag)
// never equals the tag of an earlier version of the key. Second, a writer that
// lost the response recognises its own write by reading it back, so Create and
// Replace return a conflict only if another writer's body is stored.
package envelope

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/berthhq/berth/drivers"
)

const (
	version = 1

	// maxHead limits the line of JSON, in bytes, including its newline. For
	// comparison, 10,000 parts of an upload take about one megabyte.
	maxHead = 16 << 20

	// MaxRaw is the largest number of raw bytes that Read, and a Create that
	// meets a conflict, hold in memory. Only Open returns longer raw bytes.
	MaxRaw = 64 << 10
)

// head is the line of JSON.
type head[T any] struct {
	Version int    `json:"v"`
	Nonce   string `json:"nonce"`
	Value   T      `json:"value"`
}

// Stored is a body as it is stored in the bucket.
type Stored[T any] struct {
	Value T

	// Raw holds the raw bytes. It is nil if there are more than MaxRaw.
	Raw     []byte
	RawSize int64

	Object drivers.Object

	nonce string
}

// encode returns a body of value and raw, and its new nonce.
func encode[T any](value T, raw drivers.Body) (drivers.Body, string, error) {
	nonce := rand.Text()
	line, err := json.Marshal(head[T]{version, nonce, value})
	if err != nil {
		return drivers.Body{}, "", fmt.Errorf("envelope: encode: %w", err)
	}
	if len(line) >= maxHead { // Read would refuse it
		return drivers.Body{}, "", fmt.Errorf("envelope: encode: %d bytes of JSON, want at most %d", len(line), maxHead-1)
	}
	line = append(line, '\n')
	return drivers.Body{
		Segments: append([][]byte{line}, raw.Segments...),
		Size:     int64(len(line)) + raw.Size,
		CRC32C:   drivers.CombineCRC32C(drivers.UpdateCRC32C(0, line), raw.CRC32C, raw.Size),
	}, nonce, nil
}

// Create stores value and raw under key if the key is free. If another writer's
// body is stored there, Create returns that body and drivers.ErrExists. A
// repeated Create draws a new nonce, so it returns ErrExists after a success. The
// error also wraps drivers.ErrUnanswered if this write may have been stored before the
// other one. After any other error the body may be stored, or may still become stored
// later.
func Create[T any](ctx context.Context, b drivers.Bucket, key string, value T, raw drivers.Body) (Stored[T], error) {
	d, err := NewDraft(value, raw)
	if err != nil {
		return Stored[T]{}, err
	}
	for {
		s, err := d.Create(ctx, b, key)
		if !errors.Is(err, drivers.ErrExists) || s.Object.Key != "" {
			return s, err
		}
		existing, readErr := d.Existing(ctx, b, key)
		switch {
		case errors.Is(readErr, drivers.ErrExists):
			return existing, err
		case !errors.Is(readErr, drivers.ErrNotFound):
			return existing, readErr
		case errors.Is(err, drivers.ErrUnanswered): // perhaps it was this draft that was deleted
			return Stored[T]{}, fmt.Errorf("envelope: create %s: %w: %w", key, drivers.ErrBusy, drivers.ErrUnanswered)
		}
	}
}

// Draft is an encoded body that is not stored yet. It splits Create in two, for
// a caller that may not need the body that is stored under a taken key.
type Draft[T any] struct {
	value   T
	body    drivers.Body
	rawSize int64
	nonce   string
}

// NewDraft encodes value and raw with a new nonce. It returns an error if the
// value does not encode, or if its JSON is longer than Read accepts.
func NewDraft[T any](value T, raw drivers.Body) (Draft[T], error) {
	body, nonce, err := encode(value, raw)
	return Draft[T]{value, body, raw.Size, nonce}, err
}

// Create stores the draft under key if the key is free. If the store reports that
// the key is taken, perhaps by this same write, Create returns a zero Stored and
// drivers.ErrExists, and reads nothing: Existing reads the body. After an
// unknown outcome Create reads the body itself. If it is another writer's, Create
// returns it with ErrExists, and the error also wraps drivers.ErrUnanswered.
func (d Draft[T]) Create(ctx context.Context, b drivers.Bucket, key string) (Stored[T], error) {
	obj, err := b.Create(ctx, key, d.body)
	switch {
	case err == nil:
		return Stored[T]{Value: d.value, RawSize: d.rawSize, Object: obj, nonce: d.nonce}, nil
	case errors.Is(err, drivers.ErrExists):
		return Stored[T]{}, fmt.Errorf("envelope: create %s: %w", key, err)
	}
	existing, readErr := d.Existing(ctx, b, key)
	switch {
	case readErr == nil:
		return existing, nil
	case errors.Is(readErr, drivers.ErrExists):
		return existing, fmt.Errorf("%w: %w", readErr, drivers.ErrUnanswered)
	}
	return Stored[T]{}, err
}

// Existing reads the body under key after Create. It returns drivers.ErrExists
// with the body if the body is another writer's, and no error if it is the
// draft's own. It returns drivers.ErrNotFound if the key is absent.
func (d Draft[T]) Existing(ctx context.Context, b drivers.Bucket, key string) (Stored[T], error) {
	existing, err := Read[T](ctx, b, key)
	if err == nil && existing.nonce != d.nonce {
		err = fmt.Errorf("envelope: create %s: %w", key, drivers.ErrExists)
	}
	return existing, err
}

// Replace stores value and raw under key if the object there still has this
// tag. If the object has another tag or is gone, Replace returns
// drivers.ErrChanged, and the caller has to read again. The error also wraps
// drivers.ErrUnanswered if this write may have been stored before the change. After
// any other error the body may be stored, or may still become stored later.
func Replace[T any](ctx context.Context, b drivers.Bucket, key, tag string, value T, raw drivers.Body) (Stored[T], error) {
	body, nonce, err := encode(value, raw)
	if err != nil {
		return Stored[T]{}, err
	}
	obj, err := b.Replace(ctx, key, tag, body)
	if err == nil {
		return Stored[T]{Value: value, RawSize: raw.Size, Object: obj, nonce: nonce}, nil
	}
	stored, readErr := Read[T](ctx, b, key)
	switch {
	case readErr == nil && stored.nonce == nonce:
		return stored, nil
	case errors.Is(err, drivers.ErrChanged) && (readErr == nil || errors.Is(readErr, drivers.ErrNotFound)):
		return Stored[T]{}, fmt.Errorf("envelope: replace %s: %w", key, err)
	case readErr == nil && stored.Object.Tag != tag, errors.Is(readErr, drivers.ErrNotFound):
		return Stored[T]{}, fmt.Errorf("envelope: replace %s: %w: %w", key, drivers.ErrChanged, drivers.ErrUnanswered)
	case errors.Is(err, drivers.ErrChanged): // perhaps it was this write that has changed the object
		return Stored[T]{}, readErr
	default:
		return Stored[T]{}, err
	}
}

// Read reads the body under key. It returns drivers.ErrNotFound if the key is
// absent, and drivers.ErrBusy if the body is not complete within SmallCallTimeout.
// Without this limit a store that does not respond would keep a client waiting
// for as long as a driver waits for the response to a large write.
func Read[T any](ctx context.Context, b drivers.Bucket, key string) (Stored[T], error) {
	bounded, cancel := context.WithTimeoutCause(ctx, SmallCallTimeout, errSilent)
	defer cancel()
	s, err := read[T](bounded, b, key)
	return s, orSilent(bounded, key, err)
}

func read[T any](ctx context.Context, b drivers.Bucket, key string) (Stored[T], error) {
	s, r, err := open[T](ctx, b, key)
	if err != nil {
		return Stored[T]{}, err
	}
	defer r.Close()
	if s.RawSize > 0 && s.RawSize <= MaxRaw {
		s.Raw = make([]byte, s.RawSize)
		if _, err := io.ReadFull(r, s.Raw); err != nil {
			return Stored[T]{}, fmt.Errorf("envelope: read %s: %w", key, err)
		}
	}
	return s, nil
}

// Open is Read for raw bytes of any length. It returns a reader of the RawSize
// raw bytes, which the caller has to close. SmallCallTimeout limits the time until the
// reader is returned, but not the reading of the raw bytes: the caller limits
// that by ctx.
func Open[T any](ctx context.Context, b drivers.Bucket, key string) (Stored[T], io.ReadCloser, error) {
	bounded, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(SmallCallTimeout, func() { cancel(errSilent) })
	s, r, err := open[T](bounded, b, key)
	if !late.Stop() && err == nil {
		r.Close()
		err = errSilent
	}
	if err != nil {
		err = orSilent(bounded, key, err)
		cancel(nil)
		return Stored[T]{}, nil, err
	}
	return s, &ending{r, cancel}, nil
}

// SmallCallTimeout is how long a driver may take for a small body, or for another small
// response, including the driver's own retries.
const SmallCallTimeout = 30 * time.Second

var errSilent = fmt.Errorf("%w: it has not answered within %v", drivers.ErrBusy, SmallCallTimeout)

// orSilent returns err, unless SmallCallTimeout has ended ctx: then it returns an error
// that wraps errSilent, and so drivers.ErrBusy.
func orSilent(ctx context.Context, key string, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errSilent) {
		return fmt.Errorf("envelope: read %s: %w", key, errSilent)
	}
	return err
}

func open[T any](ctx context.Context, b drivers.Bucket, key string) (Stored[T], io.ReadCloser, error) {
	rc, obj, err := b.Open(ctx, key, 0, -1)
	if err != nil {
		return Stored[T]{}, nil, err
	}
	r := bufio.NewReader(rc)
	line, err := readLine(r)
	if err != nil {
		rc.Close()
		return Stored[T]{}, nil, fmt.Errorf("envelope: read %s: %w", key, err)
	}
	h, err := decode[T](line)
	if err != nil {
		rc.Close()
		return Stored[T]{}, nil, fmt.Errorf("envelope: read %s: %w", key, err)
	}
	s := Stored[T]{Value: h.Value, RawSize: obj.Size - int64(len(line)), Object: obj, nonce: h.Nonce}
	return s, rest{r, rc}, nil
}

// rest reads what follows the line of JSON, and closes the object.
type rest struct {
	io.Reader
	io.Closer
}

// ending is a reader that releases its context when it is closed.
type ending struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

// Close closes the reader and cancels its context.
func (e *ending) Close() error {
	defer e.cancel(nil)
	return e.ReadCloser.Close()
}

func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		chunk, err := r.ReadSlice('\n')
		line = append(line, chunk...)
		switch {
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("the first line has no end: %w", err)
		case len(line) > maxHead:
			return nil, errors.New("the first line is too long")
		}
	}
}

func decode[T any](line []byte) (head[T], error) {
	var h head[T]
	err := json.Unmarshal(line, &h)
	switch {
	case h.Version != 0 && h.Version != version: // even if the rest does not decode
		return head[T]{}, fmt.Errorf("format version %d, this berth reads version %d", h.Version, version)
	case err != nil:
		return head[T]{}, err
	case h.Version == 0 || h.Nonce == "":
		return head[T]{}, errors.New("not written by berth: no version or no nonce")
	}
	return h, nil
}
