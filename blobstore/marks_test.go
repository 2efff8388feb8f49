package blobstore

import (
	"context"
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
)

// TestCondemnedLinkIsKept lets every request that relies on a link meet the mark of the
// collector. The mark is taken off before the request is answered.
func TestCondemnedLinkIsKept(t *testing.T) {
	blob := randomBytes(1, 600)
	d := digest.FromBytes(blob)
	for _, tt := range []struct {
		name    string
		prepare func(c *client) (request func() error)
	}{
		{"push", func(c *client) func() error {
			return func() error { return c.push(repoA, blob) }
		}},
		{"mount", func(c *client) func() error {
			must(t, c.push(repoB, blob))
			return func() error { return c.mountAs(repoA, repoB, blob, d) }
		}},
		{"PUT again", func(c *client) func() error {
			u, err := c.start(repoA, digest.Canonical)
			must(t, err)
			must(t, c.put(repoA, u, blob, blob))
			return func() error { return c.put(repoA, u, blob, blob) }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onS3(t, func(t *testing.T, run *simRun) {
				c := run.replica(t)
				must(t, c.push(repoA, blob))
				request := tt.prepare(c)
				condemnLink(t, run.Bucket, repoA, d)
				must(t, request())
				link, err := catalog.New(run.Bucket).ReadLink(t.Context(), d, repoA)
				if err != nil || link.Value.Condemned {
					t.Errorf("the link = %+v, %v, want it without the mark", link.Value, err)
				}
			})
		})
	}
}

// TestAttack49DeleteWhileMarkIsTakenOff deletes a blob while another process sets the
// mark of the collector on its link, or takes it off. The link is gone after the
// deletion, and no late write brings it back.
func TestAttack49DeleteWhileMarkIsTakenOff(t *testing.T) {
	blob := randomBytes(1, 600)
	d := digest.FromBytes(blob)
	for _, at := range []string{"Open", "DeleteIf"} {
		for _, late := range []bool{false, true} {
			onS3(t, func(t *testing.T, run *simRun) {
				must(t, run.replica(t).push(repoA, blob))
				condemnLink(t, run.Bucket, repoA, d)
				direct := catalog.New(run.Bucket)
				read, err := direct.ReadLink(t.Context(), d, repoA)
				must(t, err)
				unmark := func() error {
					_, err := direct.UnmarkLink(t.Context(), run.replica(t).s.newDeadline(), read)
					return err
				}
				raced := false
				c := run.replica(t, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
					if c.Method == at && kindOfObject(c.Key) == "link" && !late && !raced {
						raced = true
						must(t, unmark())
					}
					return do(ctx)
				})
				must(t, c.delete(repoA, blob))
				if late {
					if err := unmark(); !errors.Is(err, drivers.ErrNotFound) {
						t.Errorf("taking the mark off after the deletion = %v, want %v", err, drivers.ErrNotFound)
					}
				} else if !raced {
					t.Errorf("the deletion makes no %s of the link", at)
				}
				if _, err := direct.ReadLink(t.Context(), d, repoA); !errors.Is(err, drivers.ErrNotFound) {
					t.Errorf("at %s, late %v: the link after its deletion = %v, want %v", at, late, err, drivers.ErrNotFound)
				}
			})
		}
	}
}
