package gcs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/berthhq/berth/drivers"
)

// uploadStore makes objects of parts. Each part is an object too, until Complete.
type uploadStore struct {
	*store

	// keepsSources is whether the store does not delete the sources of a
	// compose, as in some universes.
	keepsSources bool
}

// StartUpload returns an upload with a new random id. It makes no request, so
// Started is by this machine's clock; Uploads returns the store's time.
func (s *uploadStore) StartUpload(_ context.Context, key string) (drivers.Upload, error) {
	if err := drivers.CheckKey(key); err != nil {
		return drivers.Upload{}, failed("start upload of", key, err)
	}
	return drivers.Upload{Key: key, ID: rand.Text(), Started: time.Now().UTC().Truncate(time.Second)}, nil
}

// PutPart writes the part as a separate object. A second call for the same
// number writes another object.
func (s *uploadStore) PutPart(ctx context.Context, u drivers.Upload, number int, body drivers.Body) (drivers.Part, error) {
	p, err := s.putPart(ctx, u, number, body)
	return p, failed(fmt.Sprintf("put part %d of", number), u.Key, err)
}

func (s *uploadStore) putPart(ctx context.Context, u drivers.Upload, number int, body drivers.Body) (drivers.Part, error) {
	if err := checkUpload(u); err != nil {
		return drivers.Part{}, err
	}
	if number < 1 || number > maxParts {
		return drivers.Part{}, fmt.Errorf("part number %d, want 1 to %d", number, maxParts)
	}
	if body.Size > maxObject {
		return drivers.Part{}, fmt.Errorf("part of %d bytes, want at most %d", body.Size, int64(maxObject))
	}
	a := attempt{id: rand.Text()}
	name := s.name(partKey(u, number, a.id))
	attrs, err := s.write(ctx, name, s.class(u.Key), whenAbsent(), body, drivers.ErrExists)
	if errors.Is(err, drivers.ErrExists) {
		// The name is unique to this attempt, so a request has written it, and
		// its answer was lost.
		attrs, err = s.handle.Object(name).Attrs(ctx)
		err = s.cfg.classify(ctx, err, nil)
	}
	if err != nil {
		return drivers.Part{}, err
	}
	a.generation = attrs.Generation
	return drivers.Part{Number: number, Size: body.Size, Tag: a.tag(), CRC32C: body.CRC32C}, nil
}

// StreamPart returns errors.ErrUnsupported: a part is sent with its checksum in
// front, so that no write can store other bytes than intended.
func (s *uploadStore) StreamPart(_ context.Context, u drivers.Upload, number int, _ io.Reader) (drivers.Part, error) {
	return drivers.Part{}, failed(fmt.Sprintf("stream part %d of", number), u.Key, errors.ErrUnsupported)
}

// Abort deletes all objects of the upload. Parts may still arrive later;
// Uploads then returns the upload again.
func (s *uploadStore) Abort(ctx context.Context, u drivers.Upload) error {
	return failed("abort", u.Key, s.abort(ctx, u))
}

func (s *uploadStore) abort(ctx context.Context, u drivers.Upload) error {
	if notOurs := checkUpload(u); notOurs != nil {
		return nil //nolint:nilerr // no part has the id of another driver's upload
	}
	names, err := s.staged(ctx, u)
	if err != nil {
		return err
	}
	return s.deleteAll(ctx, names)
}

// staged returns the names of the existing parts and nodes of an upload.
func (s *uploadStore) staged(ctx context.Context, u drivers.Upload) ([]string, error) {
	var names []string
	for attrs, err := range s.list(ctx, uploadKey(u), "", "", 0) {
		if err != nil {
			return nil, err
		}
		names = append(names, attrs.Name)
	}
	return names, nil
}

// Uploads returns each upload with an object under parts/. Started is the time
// of the oldest of these objects.
func (s *uploadStore) Uploads(ctx context.Context, prefix string) iter.Seq2[drivers.Upload, error] {
	return func(yield func(drivers.Upload, error) bool) {
		var current drivers.Upload // names of one upload follow one another
		for attrs, err := range s.list(ctx, drivers.PartsPrefix+prefix, "", "", 0) {
			if err != nil {
				yield(drivers.Upload{}, failed("list uploads of", prefix, err))
				return
			}
			u, ok := parseUploadKey(strings.TrimPrefix(attrs.Name, s.prefix))
			if !ok || !strings.HasPrefix(u.Key, prefix) {
				continue
			}
			u.Started = attrs.Updated.Truncate(time.Second)
			if u.Key == current.Key && u.ID == current.ID {
				if u.Started.Before(current.Started) {
					current = u
				}
				continue
			}
			if current.ID != "" && !yield(current, nil) {
				return
			}
			current = u
		}
		if current.ID != "" {
			yield(current, nil)
		}
	}
}
