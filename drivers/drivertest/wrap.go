package drivertest

import (
	"bytes"
	"context"
	"io"
	"iter"
	"slices"

	"github.com/berthhq/berth/drivers"
)

// Call is one call of a method of a Bucket, which is roughly one request to a
// store.
type Call struct {
	Method string // the method's name in drivers.Bucket
	Key    string // the key, the upload's key, the prefix or the first of several keys
	Number int    // of the part, for PutPart and StreamPart
	Count  int    // of keys for Delete, of parts for Complete, the most keys for List

	// own copies the call's body, so that the call can be made after the caller
	// has reused the memory.
	own func() error
}

// String returns the method and the key.
func (c Call) String() string { return c.Method + " " + c.Key }

// Writes reports whether the call may change what the bucket holds.
func (c Call) Writes() bool {
	switch c.Method {
	case "Open", "Stat", "List", "Uploads", "SignGet":
		return false
	}
	return true
}

// An Intercept stands between a caller and a Bucket. It receives every call,
// and a function do that makes the call. It may call do or not, act before and
// after it, and block. The caller gets the error that the Intercept returns.
// Many goroutines may call it concurrently.
type Intercept func(ctx context.Context, c Call, do func(context.Context) error) error

// Wrap returns b with f in front of it. A List is one call per page of 1000
// keys, and so is a Delete of many keys. Uploads is one call. If do succeeds
// and f returns an error anyway, Open returns a reader that fails half-way, and
// List and Uploads fail after the objects and uploads that they have read.
//
// A simulation steps through the calls of several actors with an Intercept that
// blocks before do. [Faulty] and [Counter] provide other Intercepts.
func Wrap(b drivers.Bucket, f Intercept) drivers.Bucket { return &wrapped{b, f} }

type wrapped struct {
	drivers.Bucket
	f Intercept
}

// pageSize is the number of keys that one request to a store lists or deletes.
const pageSize = 1000

func (w *wrapped) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	c := Call{Method: "Create", Key: key, own: ownBody(&body)}
	return result(ctx, w.f, c, func(ctx context.Context) (drivers.Object, error) {
		return w.Bucket.Create(ctx, key, body)
	})
}

func (w *wrapped) Replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	c := Call{Method: "Replace", Key: key, own: ownBody(&body)}
	return result(ctx, w.f, c, func(ctx context.Context) (drivers.Object, error) {
		return w.Bucket.Replace(ctx, key, tag, body)
	})
}

func (w *wrapped) DeleteIf(ctx context.Context, key, tag string) error {
	return w.f(ctx, Call{Method: "DeleteIf", Key: key}, func(ctx context.Context) error {
		return w.Bucket.DeleteIf(ctx, key, tag)
	})
}

func (w *wrapped) Delete(ctx context.Context, keys ...string) error {
	for batch := range slices.Chunk(slices.Clone(keys), pageSize) {
		c := Call{Method: "Delete", Key: batch[0], Count: len(batch)}
		if err := w.f(ctx, c, func(ctx context.Context) error { return w.Bucket.Delete(ctx, batch...) }); err != nil {
			return err
		}
	}
	return nil
}

func (w *wrapped) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	var r io.ReadCloser
	var o drivers.Object
	err := w.f(ctx, Call{Method: "Open", Key: key}, func(ctx context.Context) (err error) {
		r, o, err = w.Bucket.Open(ctx, key, off, n)
		return err
	})
	switch {
	case err == nil:
		return r, o, nil
	case r == nil:
		return nil, drivers.Object{}, err
	}
	rest := o.Size - off
	if n >= 0 {
		rest = min(rest, n)
	}
	return &failing{io.LimitReader(r, rest/2), r, err}, o, nil
}

func (w *wrapped) Stat(ctx context.Context, key string) (drivers.Object, error) {
	return result(ctx, w.f, Call{Method: "Stat", Key: key}, func(ctx context.Context) (drivers.Object, error) {
		return w.Bucket.Stat(ctx, key)
	})
}

func (w *wrapped) List(ctx context.Context, prefix, after string, want int) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		listed := 0
		for more := true; more; {
			var page []drivers.Object
			more = false
			n := drivers.PageSize(want, listed, pageSize)
			err := w.f(ctx, Call{Method: "List", Key: prefix, Count: n}, func(ctx context.Context) error {
				for o, err := range w.Bucket.List(ctx, prefix, after, n+1) {
					if err != nil {
						return err
					}
					if len(page) == n {
						more = true
						break
					}
					page = append(page, o)
				}
				return nil
			})
			listed += len(page)
			for _, o := range page {
				if !yield(o, nil) {
					return
				}
				after = o.Key
			}
			if err != nil {
				yield(drivers.Object{}, err)
				return
			}
		}
	}
}

func (w *wrapped) StartUpload(ctx context.Context, key string) (drivers.Upload, error) {
	return result(ctx, w.f, Call{Method: "StartUpload", Key: key}, func(ctx context.Context) (drivers.Upload, error) {
		return w.Bucket.StartUpload(ctx, key)
	})
}

func (w *wrapped) PutPart(ctx context.Context, u drivers.Upload, number int, body drivers.Body) (drivers.Part, error) {
	c := Call{Method: "PutPart", Key: u.Key, Number: number, own: ownBody(&body)}
	return result(ctx, w.f, c, func(ctx context.Context) (drivers.Part, error) {
		return w.Bucket.PutPart(ctx, u, number, body)
	})
}

func (w *wrapped) StreamPart(ctx context.Context, u drivers.Upload, number int, body io.Reader) (drivers.Part, error) {
	c := Call{Method: "StreamPart", Key: u.Key, Number: number, own: func() error {
		data, err := io.ReadAll(body)
		body = bytes.NewReader(data)
		return err
	}}
	return result(ctx, w.f, c, func(ctx context.Context) (drivers.Part, error) {
		return w.Bucket.StreamPart(ctx, u, number, body)
	})
}

func (w *wrapped) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc32c uint32) (drivers.Object, error) {
	parts = slices.Clone(parts)
	c := Call{Method: "Complete", Key: u.Key, Count: len(parts)}
	return result(ctx, w.f, c, func(ctx context.Context) (drivers.Object, error) {
		return w.Bucket.Complete(ctx, u, parts, crc32c)
	})
}

func (w *wrapped) Abort(ctx context.Context, u drivers.Upload) error {
	return w.f(ctx, Call{Method: "Abort", Key: u.Key}, func(ctx context.Context) error {
		return w.Bucket.Abort(ctx, u)
	})
}

func (w *wrapped) Uploads(ctx context.Context, prefix string) iter.Seq2[drivers.Upload, error] {
	return func(yield func(drivers.Upload, error) bool) {
		var found []drivers.Upload
		err := w.f(ctx, Call{Method: "Uploads", Key: prefix}, func(ctx context.Context) error {
			for u, err := range w.Bucket.Uploads(ctx, prefix) {
				if err != nil {
					return err
				}
				found = append(found, u)
			}
			return nil
		})
		for _, u := range found {
			if !yield(u, nil) {
				return
			}
		}
		if err != nil {
			yield(drivers.Upload{}, err)
		}
	}
}

func (w *wrapped) SignGet(ctx context.Context, key string, opts drivers.SignOptions) (drivers.Signed, error) {
	return result(ctx, w.f, Call{Method: "SignGet", Key: key}, func(ctx context.Context) (drivers.Signed, error) {
		return w.Bucket.SignGet(ctx, key, opts)
	})
}

// result returns the result of an intercepted call. After an error it does not
// access the result of do, because do may still be running.
func result[T any](ctx context.Context, f Intercept, c Call, do func(context.Context) (T, error)) (T, error) {
	var got, none T
	err := f(ctx, c, func(ctx context.Context) (err error) {
		got, err = do(ctx)
		return err
	})
	if err != nil {
		return none, err
	}
	return got, nil
}

// ownBody returns a function that replaces the body by a copy.
func ownBody(body *drivers.Body) func() error {
	return func() error {
		body.Segments = [][]byte{body.Bytes()}
		return nil
	}
}

// failing is a reader that returns err instead of io.EOF.
type failing struct {
	io.Reader
	io.Closer
	err error
}

func (r *failing) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		err = r.err
	}
	return n, err
}
