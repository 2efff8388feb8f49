package trace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/berthhq/berth/drivers"
)

// Wrap returns b with r in front of it. As at a store, a List is one call for
// each page of at most 1000 keys, and so is a Delete of as many keys.
func (r *Recorder) Wrap(b drivers.Bucket) drivers.Bucket { return &bucket{b, r} }

type bucket struct {
	drivers.Bucket
	r *Recorder
}

// outcome returns the name of an error in the contract, or nothing for success.
func outcome(err error) string {
	for sentinel, name := range map[error]string{
		drivers.ErrNotFound:   "not found",
		drivers.ErrExists:     "exists",
		drivers.ErrChanged:    "changed",
		drivers.ErrRange:      "out of range",
		drivers.ErrBusy:       "busy",
		errors.ErrUnsupported: "unsupported",
		context.Canceled:      "canceled",
	} {
		if errors.Is(err, sentinel) {
			return name
		}
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// record records a call and makes it.
func record[T any](b *bucket, c *call, do func() (T, error)) (T, error) {
	b.r.add(c)
	got, err := do()
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	c.outcome = outcome(err)
	return got, err
}

func (b *bucket) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	return record(b, &call{method: "Create", key: key, args: small(key, body)}, func() (drivers.Object, error) {
		return b.Bucket.Create(ctx, key, body)
	})
}

func (b *bucket) Replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	return record(b, &call{method: "Replace", key: key, args: "if unchanged " + small(key, body)}, func() (drivers.Object, error) {
		return b.Bucket.Replace(ctx, key, tag, body)
	})
}

func (b *bucket) DeleteIf(ctx context.Context, key, tag string) error {
	_, err := record(b, &call{method: "DeleteIf", key: key, args: "if unchanged"}, func() (any, error) {
		return nil, b.Bucket.DeleteIf(ctx, key, tag)
	})
	return err
}

func (b *bucket) Delete(ctx context.Context, keys ...string) error {
	for len(keys) > 0 {
		page := keys[:min(len(keys), pageSize)]
		keys = keys[len(page):]
		_, err := record(b, &call{method: "Delete", key: strings.Join(page, " ")}, func() (any, error) {
			return nil, b.Bucket.Delete(ctx, page...)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bucket) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	c := &call{method: "Open", key: key}
	switch {
	case n >= 0:
		c.args = fmt.Sprintf("%s from %d", bytes(n), off)
	case off > 0:
		c.args = fmt.Sprintf("from %d", off)
	}
	var o drivers.Object
	rc, err := record(b, c, func() (rc io.ReadCloser, err error) {
		rc, o, err = b.Bucket.Open(ctx, key, off, n)
		return rc, err
	})
	return rc, o, err
}

func (b *bucket) Stat(ctx context.Context, key string) (drivers.Object, error) {
	return record(b, &call{method: "Stat", key: key}, func() (drivers.Object, error) { return b.Bucket.Stat(ctx, key) })
}

// pageSize is the number of keys that one request to a store lists or deletes.
const pageSize = 1000

func (b *bucket) List(ctx context.Context, prefix, after string, want int) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		size := drivers.PageSize(want, 0, pageSize)
		c := &call{method: "List", key: prefix}
		if size < pageSize {
			c.args = "at most " + plural(size, "key")
		}
		b.r.add(c)
		listed, left := 0, size
		for o, err := range b.Bucket.List(ctx, prefix, after, want) {
			if left == 0 {
				b.r.add(&call{method: "List", key: prefix, args: "the next page"})
				left = drivers.PageSize(want, listed, pageSize)
			}
			listed, left = listed+1, left-1
			if !yield(o, err) {
				return
			}
		}
	}
}

func (b *bucket) StartUpload(ctx context.Context, key string) (drivers.Upload, error) {
	return record(b, &call{method: "StartUpload", key: key}, func() (drivers.Upload, error) { return b.Bucket.StartUpload(ctx, key) })
}

func (b *bucket) PutPart(ctx context.Context, u drivers.Upload, number int, body drivers.Body) (drivers.Part, error) {
	return record(b, &call{method: "PutPart", key: u.Key, number: number, size: body.Size}, func() (drivers.Part, error) {
		return b.Bucket.PutPart(ctx, u, number, body)
	})
}

func (b *bucket) StreamPart(ctx context.Context, u drivers.Upload, number int, body io.Reader) (drivers.Part, error) {
	c := &call{method: "StreamPart", key: u.Key, number: number}
	p, err := record(b, c, func() (drivers.Part, error) { return b.Bucket.StreamPart(ctx, u, number, body) })
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	c.size = p.Size
	return p, err
}

func (b *bucket) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc uint32) (drivers.Object, error) {
	return record(b, &call{method: "Complete", key: u.Key, args: "of " + plural(len(parts), "part")}, func() (drivers.Object, error) {
		return b.Bucket.Complete(ctx, u, parts, crc)
	})
}

func (b *bucket) Abort(ctx context.Context, u drivers.Upload) error {
	_, err := record(b, &call{method: "Abort", key: u.Key}, func() (any, error) { return nil, b.Bucket.Abort(ctx, u) })
	return err
}

func (b *bucket) Uploads(ctx context.Context, prefix string) iter.Seq2[drivers.Upload, error] {
	return func(yield func(drivers.Upload, error) bool) {
		b.r.add(&call{method: "Uploads", key: prefix})
		b.Bucket.Uploads(ctx, prefix)(yield)
	}
}

func (b *bucket) SignGet(ctx context.Context, key string, opts drivers.SignOptions) (drivers.Signed, error) {
	return record(b, &call{method: "SignGet", key: key, args: "(no request)", free: true}, func() (drivers.Signed, error) {
		return b.Bucket.SignGet(ctx, key, opts)
	})
}

// shown are the fields of small bodies that a trace shows, in this order. A list
// is shown by its length, and an upload by its key. A digest that the object's
// key contains is left out.
var shown = []string{"kind", "digest", "named", "size", "state", "hints", "subject", "collect", "data", "refs", "upload", "parts", "offset", "end"}

// small describes a body that package envelope has made, and any other by its
// size.
func small(key string, body drivers.Body) string {
	d := json.NewDecoder(body.Reader())
	var head struct {
		Value map[string]json.RawMessage `json:"value"`
	}
	if err := d.Decode(&head); err != nil || head.Value == nil {
		return bytes(body.Size)
	}
	var fields []string
	for _, name := range shown {
		v, ok := head.Value[name]
		if !ok {
			continue
		}
		text := show(v)
		if _, hex, _ := strings.Cut(text, ":"); name == "digest" && strings.Contains(key, hex) {
			continue
		}
		fields = append(fields, name+": "+text)
	}
	text := "{" + strings.Join(fields, ", ") + "}"
	if raw := body.Size - d.InputOffset() - 1; raw > 0 {
		text += " + " + bytes(raw)
	}
	return text
}

func show(v json.RawMessage) string {
	var list []json.RawMessage
	var u drivers.Upload
	var text string
	switch {
	case json.Unmarshal(v, &list) == nil:
		return fmt.Sprint(len(list))
	case json.Unmarshal(v, &u) == nil:
		return u.Key
	case json.Unmarshal(v, &text) == nil:
		return text
	}
	return string(v)
}
