package blobstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
)

// A search that finds nothing proves something only if it would have found what
// it looks for. Here rules of the protocol are broken on purpose, between the
// product and its bucket, and the explorer must say so; of the same scenario
// with the rule in force it must not.

func TestBrokenRulesAreFound(t *testing.T) {
	x, y := twins(1, 600, 300)
	d := digest.FromBytes(x)
	put := func(p []byte) func(c *client) error {
		return func(c *client) error { return c.contest(c.put(repoA, c.w.session, p[300:], p)) }
	}
	push := actor{"push", func(c *client) error { return c.push(repoA, x) }}
	for _, rule := range []scenario{
		{
			name:   "a key is bound to a digest before it is completed",
			setup:  patchedBy(x[:300]),
			rivals: true,
			actors: []actor{{"A", put(x)}, {"B", put(y)}},
			tamper: swallow("Create", "/00000002"),
		},
		{
			name:   "bytes are durable before the record is created",
			actors: []actor{{"push", func(c *client) error { return c.push(repoA, x[:200]) }}},
			tamper: swallow("Create", "data/"),
		},
		{
			name:   "a blob is acknowledged after its link is durable",
			actors: []actor{push},
			tamper: swallow("Create", "links/"),
		},
		{
			name: "a record's state is looked at: damaged",
			setup: func(w *stage) error {
				if err := w.clients[0].push(repoB, x); err != nil {
					return err
				}
				w.ledger.deleting(repoB, x)(nil)
				var data string
				err := editBoth(w.ctx, w.bucket, repoB, d, func(r *record) { r.State, data = damaged, r.Data })
				w.lost[data] = true
				if err == nil {
					err = w.bucket.Delete(w.ctx, data)
				}
				if err == nil {
					_, err = w.bucket.Create(w.ctx, data, drivers.NewBody(y))
				}
				return err
			},
			actors: []actor{push},
			tamper: rewriting("/record", func(_ drivers.Bucket, r *record) { r.State = live }),
		},
		{
			name: "a record's state is looked at: condemned",
			setup: func(w *stage) error {
				c := w.clients[0]
				err := errors.Join(c.push(repoB, x), c.delete(repoB, x))
				if err == nil {
					err = edit(w.ctx, w.bucket, layout{}.record(d), func(r *record) { r.State = condemned })
				}
				return err
			},
			actors: []actor{push},
			tamper: rewriting("/record", func(_ drivers.Bucket, r *record) { r.State = live }),
		},
		{
			name:   "a link is compared with the record",
			setup:  func(w *stage) error { return anotherLife(w, x) },
			actors: []actor{push},
			tamper: rewriting("/links/", func(b drivers.Bucket, r *record) {
				if s, err := envelope.Read[record](context.Background(), b, layout{}.record(d)); err == nil { //nolint:usetesting // it has no test
					*r = s.Value
				}
			}),
		},
		{
			name:  "a link is deleted by its tag",
			setup: func(w *stage) error { return w.clients[0].push(repoA, x) },
			late:  lateWrite{0, 1},
			actors: []actor{{"delete twice and push again", func(c *client) error {
				if err := c.delete(repoA, x); err != nil && !errors.Is(err, drivertest.ErrInjected) {
					return err
				}
				if err := c.delete(repoA, x); err != nil && !errors.Is(err, ErrBlobUnknown) {
					return err
				}
				return c.push(repoA, x)
			}}},
			tamper: func(b drivers.Bucket) drivers.Bucket { return blindly{b} },
		},
	} {
		t.Run(rule.name, func(t *testing.T) {
			broken := rule
			if _, _, violation := explore(t, broken); violation == nil {
				t.Error("the rule was broken, and nothing is found")
			} else {
				t.Log(violation)
			}
			rule.tamper = nil
			if _, _, violation := explore(t, rule); violation != nil {
				t.Errorf("the rule is in force, and this is found: %v", violation)
			}
		})
	}
}

// swallow makes calls of a method answer without being made.
func swallow(method, part string) func(drivers.Bucket) drivers.Bucket {
	return func(b drivers.Bucket) drivers.Bucket {
		return drivertest.Wrap(b, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			if on(method, part)(c) {
				return nil
			}
			return do(ctx)
		})
	}
}

// anotherLife leaves a link whose record was collected, and its bytes with it,
// and a record of the same blob pushed since to another repository.
func anotherLife(w *stage, p []byte) error {
	c := w.clients[0]
	if err := c.push(repoA, p); err != nil {
		return err
	}
	w.ledger.deleting(repoA, p)(nil)
	key := layout{}.record(digest.FromBytes(p))
	old, err := envelope.Read[record](w.ctx, w.bucket, key)
	if err == nil {
		err = w.bucket.Delete(w.ctx, key, old.Value.Data)
	}
	if err != nil {
		return err
	}
	return c.push(repoB, p)
}

// rewritten is a bucket that reads some records or links otherwise than they
// are.
type rewritten struct {
	drivers.Bucket
	part   string
	change func(drivers.Bucket, *record)
}

func rewriting(part string, change func(drivers.Bucket, *record)) func(drivers.Bucket) drivers.Bucket {
	return func(b drivers.Bucket) drivers.Bucket { return rewritten{b, part, change} }
}

func (r rewritten) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	rc, o, err := r.Bucket.Open(ctx, key, off, n)
	if err != nil || !strings.Contains(key, r.part) {
		return rc, o, err
	}
	defer rc.Close()
	body, err := io.ReadAll(rc)
	if err != nil {
		return nil, o, err
	}
	line, raw, _ := bytes.Cut(body, []byte("\n"))
	var head map[string]any
	var value struct{ Value record }
	if err := errors.Join(json.Unmarshal(line, &head), json.Unmarshal(line, &value)); err != nil {
		return nil, o, err
	}
	r.change(r.Bucket, &value.Value)
	head["value"] = value.Value
	line, err = json.Marshal(head)
	if err != nil {
		return nil, o, err
	}
	body = append(append(line, '\n'), raw...)
	o.Size = int64(len(body))
	return io.NopCloser(bytes.NewReader(body)), o, nil
}

// blindly deletes without looking at the tag.
type blindly struct{ drivers.Bucket }

func (b blindly) DeleteIf(ctx context.Context, key, _ string) error { return b.Delete(ctx, key) }
