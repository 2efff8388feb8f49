package memory

import (
	"context"
	"fmt"
	"io"
	"iter"

	"github.com/berthhq/berth/drivers"
)

// Create stores body under key. It returns drivers.ErrExists if the key is
// taken.
func (b bucket) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	o, err := b.write(ctx, key, body, func(_ object, taken bool) error {
		if taken {
			return drivers.ErrExists
		}
		return nil
	})
	if err != nil {
		return drivers.Object{}, fmt.Errorf("memory: create %s: %w", key, err)
	}
	return o, nil
}

// Replace stores body in place of the version that has this tag. It returns
// drivers.ErrChanged if the object has another tag or is gone.
func (b bucket) Replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	o, err := b.write(ctx, key, body, func(old object, exists bool) error {
		if !exists || old.Tag != tag {
			return drivers.ErrChanged
		}
		return nil
	})
	if err != nil {
		return drivers.Object{}, fmt.Errorf("memory: replace %s: %w", key, err)
	}
	return o, nil
}

// write stores body unless allow, which gets the current object, returns an
// error.
func (b bucket) write(ctx context.Context, key string, body drivers.Body, allow func(object, bool) error) (drivers.Object, error) {
	if err := check(ctx, key); err != nil {
		return drivers.Object{}, err
	}
	content, tag, err := b.keep(key, body, !b.Generations)
	if err != nil {
		return drivers.Object{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old, taken := b.objects[key]
	if err := allow(old, taken); err != nil {
		return drivers.Object{}, err
	}
	if tag == "" {
		tag = fmt.Sprint(b.next())
	}
	return b.put(object{drivers.Object{Key: key, Size: content.Size, Tag: tag, Modified: b.now()}, content}), nil
}

// put stores o under its key. The caller holds the lock.
func (s *Store) put(o object) drivers.Object {
	if _, ok := s.objects[o.Key]; !ok {
		s.keys.add(o.Key)
	}
	s.objects[o.Key] = o
	return o.Object
}

// DeleteIf deletes the version that has this tag. It returns drivers.ErrChanged
// if the object has another tag, and nil if the key is absent.
func (b bucket) DeleteIf(ctx context.Context, key, tag string) error {
	if err := check(ctx, key); err != nil {
		return fmt.Errorf("memory: delete %s: %w", key, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if o, ok := b.objects[key]; ok && o.Tag != tag {
		return fmt.Errorf("memory: delete %s: %w", key, drivers.ErrChanged)
	}
	delete(b.objects, key)
	return nil
}

// Delete deletes the objects, all at the same moment.
func (b bucket) Delete(ctx context.Context, keys ...string) error {
	if err := check(ctx, keys...); err != nil {
		return fmt.Errorf("memory: delete: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range keys {
		delete(b.objects, key)
	}
	return nil
}

// Open reads the current version. The reader keeps that version even if the key
// is replaced or deleted meanwhile.
func (b bucket) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	o, err := b.find(ctx, key)
	switch {
	case err != nil:
	case off < 0 || n == 0 || n < -1:
		err = fmt.Errorf("range of %d bytes from %d", n, off)
	case off > 0 && off >= o.Size:
		err = fmt.Errorf("%d of %d bytes: %w", off, o.Size, drivers.ErrRange)
	}
	if err != nil {
		return nil, drivers.Object{}, fmt.Errorf("memory: open %s: %w", key, err)
	}
	body := o.content.Reader()
	if _, err := body.Seek(off, io.SeekStart); err != nil {
		return nil, drivers.Object{}, fmt.Errorf("memory: open %s: %w", key, err)
	}
	r := &reader{ctx: ctx, body: body, open: true}
	if n >= 0 {
		r.body = io.LimitReader(body, n)
	}
	return r, o.Object, nil
}

// Stat returns the object's description. It returns drivers.ErrNotFound if the
// key is absent.
func (b bucket) Stat(ctx context.Context, key string) (drivers.Object, error) {
	o, err := b.find(ctx, key)
	if err != nil {
		return drivers.Object{}, fmt.Errorf("memory: stat %s: %w", key, err)
	}
	return o.Object, nil
}

func (b bucket) find(ctx context.Context, key string) (object, error) {
	if err := check(ctx, key); err != nil {
		return object{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.objects[key]
	if !ok {
		return object{}, drivers.ErrNotFound
	}
	return o, nil
}

// List reads one page at a time. Each page is a consistent view of the store at
// the moment when the page is read.
func (b bucket) List(ctx context.Context, prefix, after string, want int) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		for listed := 0; ; {
			if err := ctx.Err(); err != nil {
				yield(drivers.Object{}, fmt.Errorf("memory: list %s: %w", prefix, err))
				return
			}
			n := drivers.PageSize(want, listed, pageSize)
			page := b.page(prefix, after, n)
			listed += len(page)
			for _, o := range page {
				if !yield(o, nil) {
					return
				}
			}
			if len(page) < n {
				return
			}
			after = page[len(page)-1].Key
		}
	}
}

// pageSize is the number of objects in one page of the clouds' listings.
const pageSize = 1000

// page returns the first n objects.
func (s *Store) page(prefix, after string, n int) []drivers.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys.sort(s.objects)
	var page []drivers.Object
	for key := range s.keys.walk(prefix, after) {
		o, ok := s.objects[key]
		if !ok {
			continue
		}
		o.Tag = ""
		if page = append(page, o.Object); len(page) == n {
			break
		}
	}
	return page
}
