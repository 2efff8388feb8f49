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

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
)

// TestBrokenRulesAreFound breaks rules of the protocol on purpose, between a
// replica and its bucket. A search that finds nothing proves something only if it
// finds these violations, and none in the same scenario when the rule is kept.
func TestBrokenRulesAreFound(t *testing.T) {
	for _, rule := range brokenRules() {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			if done := sim.Explore(t, rule.simulated(), 0); done.Violation == nil {
				t.Error("the rule was broken, and no violation is found")
			} else {
				t.Log(done.Violation)
			}
			rule.tamper = nil
			if done := sim.Explore(t, rule.simulated(), 0); done.Violation != nil {
				t.Errorf("the rule was kept, and a violation is found: %v", done.Violation)
			}
		})
	}
}

// brokenRules returns a scenario for each rule, which it is named after.
func brokenRules() []scenario {
	x, y := twins(1, 600, 300)
	put := func(p []byte) func(c *client) error {
		return func(c *client) error { return c.unlessRival(c.put(repoA, c.run.session, p[300:], p)) }
	}
	push := actor{"push", func(c *client) error { return c.push(repoA, x) }}
	leave := func(state string) func(run *simRun) error {
		return func(run *simRun) error { return stateNamed(state).leave(run.clients[0], repoB, x) }
	}
	return []scenario{
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
			name:   "a damaged record is not linked",
			setup:  leave("damaged"),
			actors: []actor{push},
			tamper: rewriting("/record", func(_ drivers.Bucket, r *record) { r.State = live }),
		},
		{
			name:   "a condemned record is not linked",
			setup:  leave("condemned"),
			actors: []actor{push},
			tamper: rewriting("/record", func(_ drivers.Bucket, r *record) { r.State = live }),
		},
		{
			name:   "a link is compared with the record",
			setup:  func(run *simRun) error { return anotherLife(run, x) },
			actors: []actor{push},
			tamper: rewriting("/links/", likeRecord(digest.FromBytes(x))),
		},
		{
			name:   "a link is deleted by its tag",
			setup:  func(run *simRun) error { return run.clients[0].push(repoA, x) },
			fault:  sim.Fault{Nth: 1, Mode: drivertest.Late},
			actors: []actor{{"delete twice and push again", deleteTwiceAndPush(x)}},
			tamper: func(b drivers.Bucket) drivers.Bucket { return blindDeletes{b} },
		},
	}
}

func deleteTwiceAndPush(p []byte) func(c *client) error {
	return func(c *client) error {
		for range 2 {
			if err := expect(c.delete(repoA, p), drivertest.ErrInjected, ErrBlobUnknown); err != nil {
				return err
			}
		}
		return c.push(repoA, p)
	}
}

// swallow returns a bucket that answers calls of a method without making them.
func swallow(method, part string) func(drivers.Bucket) drivers.Bucket {
	return func(b drivers.Bucket) drivers.Bucket {
		return drivertest.Wrap(b, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
			if sim.On(method, part)(c) {
				return nil
			}
			return do(ctx)
		})
	}
}

// anotherLife leaves a link with a record and bytes that were collected, and a
// newer record of the same blob in another repository.
func anotherLife(run *simRun, p []byte) error {
	c := run.clients[0]
	if err := c.push(repoA, p); err != nil {
		return err
	}
	run.Ledger.Deleting(repoA, p)(nil)
	m := &mutation{run, repoA, digest.FromBytes(p)}
	old, err := m.record()
	if err == nil {
		err = run.Bucket.Delete(run.Ctx, m.recordKey(), old.Value.Data)
	}
	if err != nil {
		return err
	}
	return c.push(repoB, p)
}

// rewritten is a bucket that changes some small objects as they are read.
type rewritten[T any] struct {
	drivers.Bucket
	part   string // of their keys
	change func(drivers.Bucket, *T)
}

func rewriting[T any](part string, change func(drivers.Bucket, *T)) func(drivers.Bucket) drivers.Bucket {
	return func(b drivers.Bucket) drivers.Bucket { return rewritten[T]{b, part, change} }
}

// likeRecord returns a change that makes a link equal to the record.
func likeRecord(d digest.Digest) func(drivers.Bucket, *record) {
	return func(b drivers.Bucket, r *record) {
		s, err := envelope.Read[record](context.Background(), b, catalog.RecordKey(d))
		if err == nil {
			*r = s.Value
		}
	}
}

func (r rewritten[T]) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
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
	var value struct{ Value T }
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

// blindDeletes is a bucket that deletes without comparing the tag.
type blindDeletes struct{ drivers.Bucket }

func (b blindDeletes) DeleteIf(ctx context.Context, key, _ string) error { return b.Delete(ctx, key) }
