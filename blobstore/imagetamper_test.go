package blobstore

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"reflect"
	"strings"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
)

// This file has the buckets that break rules of the protocol of manifests and tags. Each
// stands between one process and the store.

// snapshot is an object as it was at one moment. Its zero value is an absent object.
type snapshot struct {
	key    string
	body   []byte
	object drivers.Object
}

// take takes the snapshot.
func (s *snapshot) take(c *client, key string) error {
	*s = snapshot{key: key}
	rc, o, err := c.run.Bucket.Open(c.ctx(), key, 0, -1)
	if err != nil {
		return expect(err, drivers.ErrNotFound)
	}
	defer rc.Close()
	s.object = o
	s.body, err = io.ReadAll(rc)
	return err
}

// stale is a bucket whose first read of an object, or each, returns a snapshot.
type stale struct {
	drivers.Bucket
	*snapshot
	always bool
	read   bool
}

// firstRead returns a bucket in which the first read of an object returns a snapshot.
func (s *snapshot) firstRead(b drivers.Bucket) drivers.Bucket {
	return &stale{Bucket: b, snapshot: s}
}

// eachRead returns a bucket in which each read of an object returns a snapshot.
func (s *snapshot) eachRead(b drivers.Bucket) drivers.Bucket {
	return &stale{Bucket: b, snapshot: s, always: true}
}

// Open returns the snapshot, or reads the object.
func (s *stale) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	if key != s.key || s.read && !s.always {
		return s.Bucket.Open(ctx, key, off, n)
	}
	s.read = true
	if s.body == nil {
		return nil, drivers.Object{}, drivers.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(s.body)), s.object, nil
}

// remembering is a bucket that reads each tag once.
type remembering struct {
	drivers.Bucket
	tags map[string]*snapshot
}

func rememberTags(b drivers.Bucket) drivers.Bucket {
	return remembering{b, map[string]*snapshot{}}
}

// Open reads an object, or returns a tag as it was read first.
func (r remembering) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	if !strings.Contains(key, "/tags/") {
		return r.Bucket.Open(ctx, key, off, n)
	}
	if s := r.tags[key]; s != nil {
		return io.NopCloser(bytes.NewReader(s.body)), s.object, nil
	}
	rc, o, err := r.Bucket.Open(ctx, key, off, n)
	if err != nil {
		return nil, o, err
	}
	defer rc.Close()
	body, err := io.ReadAll(rc)
	r.tags[key] = &snapshot{key, body, o}
	return io.NopCloser(bytes.NewReader(body)), o, err
}

// postponing is a bucket that stores a referrers entry only once a tag is written.
type postponing struct {
	drivers.Bucket
	write func() error
}

func postponeEntries(b drivers.Bucket) drivers.Bucket { return &postponing{Bucket: b} }

// Create stores an object, or keeps an entry for later.
func (p *postponing) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	if strings.Contains(key, "/referrers/") {
		p.write = func() error { _, err := p.Bucket.Create(ctx, key, body); return err }
		return drivers.Object{Key: key, Tag: "postponed"}, nil
	}
	if strings.Contains(key, "/tags/") && p.write != nil {
		if err := p.write(); err != nil {
			return drivers.Object{}, err
		}
	}
	return p.Bucket.Create(ctx, key, body)
}

// skipping is a bucket that does not replace a tag by an equal one.
type skipping struct{ drivers.Bucket }

func skipEqualTags(b drivers.Bucket) drivers.Bucket { return skipping{b} }

// Replace replaces an object.
func (s skipping) Replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	if strings.Contains(key, "/tags/") {
		var next struct{ Value map[string]any }
		if err := json.Unmarshal(body.Bytes(), &next); err != nil {
			return drivers.Object{}, err
		}
		now, err := envelope.Read[map[string]any](ctx, s.Bucket, key)
		if err == nil && now.Object.Tag == tag && reflect.DeepEqual(now.Value, next.Value) {
			return now.Object, nil
		}
	}
	return s.Bucket.Replace(ctx, key, tag, body)
}

// blindReplaces is a bucket that replaces tags without comparing the store's tag.
type blindReplaces struct{ drivers.Bucket }

func replaceTagsBlindly(b drivers.Bucket) drivers.Bucket { return blindReplaces{b} }

// Replace replaces an object.
func (b blindReplaces) Replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	if strings.Contains(key, "/tags/") {
		if o, err := b.Stat(ctx, key); err == nil {
			tag = o.Tag
		}
	}
	return b.Bucket.Replace(ctx, key, tag, body)
}

// ignoreLostTags returns a bucket that takes a tag which another writer has changed for
// one that it has written.
func ignoreLostTags(b drivers.Bucket) drivers.Bucket {
	return drivertest.Wrap(b, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		err := do(ctx)
		if c.Writes() && strings.Contains(c.Key, "/tags/") {
			err = expect(err, drivers.ErrChanged, drivers.ErrExists)
		}
		return err
	})
}

// swallowConfirmations returns a bucket that replaces no manifest once a tag was written.
func swallowConfirmations(b drivers.Bucket) drivers.Bucket {
	written := false
	return drivertest.Wrap(b, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if written && c.Method == "Replace" && strings.Contains(c.Key, "/manifests/") {
			return nil
		}
		written = written || c.Writes() && strings.Contains(c.Key, "/tags/")
		return do(ctx)
	})
}
