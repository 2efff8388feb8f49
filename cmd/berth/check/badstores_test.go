package check

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// unstored refuses the first part of an upload.
type unstored struct{ drivers.Bucket }

func (b unstored) PutPart(ctx context.Context, u drivers.Upload, n int, body drivers.Body) (drivers.Part, error) {
	if n == 1 {
		return drivers.Part{}, errDenied
	}
	return b.Bucket.PutPart(ctx, u, n, body)
}

// denied refuses to create objects.
type denied struct{ drivers.Bucket }

func (denied) Create(context.Context, string, drivers.Body) (drivers.Object, error) {
	return drivers.Object{}, errDenied
}

// checkThenCreate and checkThenReplace are correct only for a single writer.
type checkThenCreate struct{ drivers.Bucket }

func (b checkThenCreate) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	if _, err := b.Stat(ctx, key); err == nil {
		return drivers.Object{}, drivers.ErrExists
	}
	time.Sleep(time.Millisecond)
	return overwriting(b).Create(ctx, key, body)
}

type checkThenReplace struct{ drivers.Bucket }

func (b checkThenReplace) Replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	if o, err := b.Stat(ctx, key); err != nil || o.Tag != tag {
		return drivers.Object{}, drivers.ErrChanged
	}
	time.Sleep(time.Millisecond)
	return tagBlind(b).Replace(ctx, key, tag, body)
}

// fails makes a method return an error for keys with a prefix, without calling it.
func fails(method, prefix string, err error) func(drivers.Bucket) drivers.Bucket {
	return intercepted(func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if c.Method == method && strings.HasPrefix(c.Key, prefix) {
			return err
		}
		return do(ctx)
	})
}

// loses makes successful calls of a method return ErrBusy for keys with a suffix,
// as if the responses were lost.
func loses(method, suffix string) func(drivers.Bucket) drivers.Bucket {
	return intercepted(func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		err := do(ctx)
		if c.Method == method && strings.HasSuffix(c.Key, suffix) && err == nil {
			return drivers.ErrBusy
		}
		return err
	})
}

func intercepted(f drivertest.Intercept) func(drivers.Bucket) drivers.Bucket {
	return func(b drivers.Bucket) drivers.Bucket { return drivertest.Wrap(b, f) }
}

// slow makes a bucket accept one write of a key per second, like Cloudflare R2.
// Refused writes do not count.
func slow() func(drivers.Bucket) drivers.Bucket {
	var mu sync.Mutex
	last := map[string]time.Time{}
	return intercepted(func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if !slices.Contains([]string{"Create", "Replace", "DeleteIf"}, c.Method) {
			return do(ctx)
		}
		mu.Lock()
		defer mu.Unlock()
		if time.Since(last[c.Key]) < time.Second {
			return drivers.ErrBusy
		}
		err := do(ctx)
		if err == nil {
			last[c.Key] = time.Now()
		}
		return err
	})
}

// unlisted lists no uploads.
type unlisted struct{ drivers.Bucket }

func (unlisted) Uploads(context.Context, string) iter.Seq2[drivers.Upload, error] {
	return func(func(drivers.Upload, error) bool) {}
}

// hoarder keeps the parts of completed uploads.
type hoarder struct {
	drivers.Bucket
	kept []drivers.Upload
}

func (b *hoarder) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc uint32) (drivers.Object, error) {
	o, err := b.Bucket.Complete(ctx, u, parts, crc)
	if err == nil {
		b.kept = append(b.kept, u)
	}
	return o, err
}

func (b *hoarder) Uploads(ctx context.Context, prefix string) iter.Seq2[drivers.Upload, error] {
	return func(yield func(drivers.Upload, error) bool) {
		for _, u := range b.kept {
			if strings.HasPrefix(u.Key, prefix) && !yield(u, nil) {
				return
			}
		}
		b.Bucket.Uploads(ctx, prefix)(yield)
	}
}

// overwriting replaces an existing object in Create.
type overwriting struct{ drivers.Bucket }

func (b overwriting) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	o, err := b.Bucket.Create(ctx, key, body)
	if errors.Is(err, drivers.ErrExists) {
		return tagBlind(b).Replace(ctx, key, "", body)
	}
	return o, err
}

// tagBlind ignores the tag in Replace.
type tagBlind struct{ drivers.Bucket }

func (b tagBlind) Replace(ctx context.Context, key, _ string, body drivers.Body) (drivers.Object, error) {
	for {
		o, err := b.Stat(ctx, key)
		if err != nil {
			return o, err
		}
		o, err = b.Bucket.Replace(ctx, key, o.Tag, body)
		if !errors.Is(err, drivers.ErrChanged) {
			return o, err
		}
	}
}

// deleteBlind ignores the tag in DeleteIf.
type deleteBlind struct{ drivers.Bucket }

func (b deleteBlind) DeleteIf(ctx context.Context, key, _ string) error { return b.Delete(ctx, key) }

// forgetful omits the first keys from every listing.
type forgetful struct{ drivers.Bucket }

func (b forgetful) List(ctx context.Context, prefix, _ string, want int) iter.Seq2[drivers.Object, error] {
	return b.Bucket.List(ctx, prefix, prefix+"03", want)
}

// rangeless ignores the range in Open.
type rangeless struct{ drivers.Bucket }

func (b rangeless) Open(ctx context.Context, key string, _, _ int64) (io.ReadCloser, drivers.Object, error) {
	return b.Bucket.Open(ctx, key, 0, -1)
}

// partless starts no uploads.
type partless struct{ drivers.Bucket }

func (partless) StartUpload(context.Context, string) (drivers.Upload, error) {
	return drivers.Upload{}, errors.New("NotImplemented")
}

// unpinned completes an upload with the latest part of each number.
type unpinned struct {
	drivers.Bucket
	latest map[int]drivers.Part
}

func (b *unpinned) PutPart(ctx context.Context, u drivers.Upload, n int, body drivers.Body) (drivers.Part, error) {
	p, err := b.Bucket.PutPart(ctx, u, n, body)
	if b.latest == nil {
		b.latest = map[int]drivers.Part{}
	}
	b.latest[n] = p
	return p, err
}

func (b *unpinned) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, _ uint32) (drivers.Object, error) {
	var crc uint32
	var now []drivers.Part
	for _, p := range parts {
		p = b.latest[p.Number]
		crc = drivers.CombineCRC32C(crc, p.CRC32C, p.Size)
		now = append(now, p)
	}
	return b.Bucket.Complete(ctx, u, now, crc)
}

// late returns modification times of a clock that is an hour behind.
type late struct{ drivers.Bucket }

func (b late) Stat(ctx context.Context, key string) (drivers.Object, error) {
	o, err := b.Bucket.Stat(ctx, key)
	o.Modified = o.Modified.Add(-time.Hour)
	return o, err
}

// undeletable refuses to delete several keys at once.
type undeletable struct{ drivers.Bucket }

func (b undeletable) Delete(ctx context.Context, keys ...string) error {
	if len(keys) > 1 {
		return errDenied
	}
	return b.Bucket.Delete(ctx, keys...)
}
