package upload_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/memory"
	"github.com/berthhq/berth/upload"
)

// layout keeps sessions and data apart. Every data key is new.
type layout struct{}

func (layout) Sessions() string         { return "uploads/" }
func (layout) Session(id string) string { return "uploads/" + id + "/" }
func (layout) SessionRecord(id string, seq int) string {
	return fmt.Sprintf("uploads/%s/%08d", id, seq)
}
func (layout) Data(digest.Digest) string { return "data/" + uuid.NewString() }
func (layout) TokenKey() string          { return "meta/token-key" }

// replica opens the uploads of a bucket, as each process of a service does.
func replica(ctx context.Context, store *memory.Store) (*upload.Manager, error) {
	bucket, err := memory.Open(ctx, memory.Config{Store: store})
	if err != nil {
		return nil, err
	}
	return upload.Open(ctx, upload.Config{
		Bucket: bucket,
		Layout: layout{},
		Log:    slog.New(slog.DiscardHandler),
		Settings: upload.Settings{
			Memory:          16 << 20,
			PartSize:        1 << 20,
			ParallelParts:   4,
			SessionLifetime: 24 * time.Hour,
			MaxWaiting:      100,
		},
	})
}

// An upload is started by one replica, and continued and finished by another one.
// They share the bucket only. The client brings the signed token.
func Example() {
	ctx := context.Background()
	store := &memory.Store{}
	first, err := replica(ctx, store)
	if err != nil {
		fmt.Println(err)
		return
	}
	token, err := appendTo(ctx, first, first.Sign(first.Start("library/hello", digest.Canonical)), "hello, ")
	if err != nil {
		fmt.Println(err)
		return
	}

	second, err := replica(ctx, store)
	if err != nil {
		fmt.Println(err)
		return
	}
	content, err := finish(ctx, second, token, "world", digest.FromString("hello, world"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(content.Size, "bytes:", content.Digest == digest.FromString("hello, world"))

	// Output:
	// 12 bytes: true
}

// appendTo records a piece of an upload, and returns the token for the next one.
func appendTo(ctx context.Context, m *upload.Manager, signed, piece string) (string, error) {
	token, err := m.Verify(signed)
	if err != nil {
		return "", err
	}
	w, err := m.Resume(ctx, token, upload.Options{Deadline: deadline.New(time.Hour), Length: int64(len(piece))})
	if err != nil {
		return "", err
	}
	defer w.Close()
	if _, err := w.ReadFrom(strings.NewReader(piece)); err != nil {
		return "", err
	}
	token, err = w.Suspend(ctx)
	return m.Sign(token), err
}

// finish receives the last piece of an upload, and makes all of its bytes durable.
func finish(ctx context.Context, m *upload.Manager, signed, piece string, d digest.Digest) (upload.Content, error) {
	token, err := m.Verify(signed)
	if err != nil {
		return upload.Content{}, err
	}
	w, err := m.Resume(ctx, token, upload.Options{
		Deadline: deadline.New(time.Hour), Length: int64(len(piece)), Commit: true, Digest: d,
	})
	if err != nil {
		return upload.Content{}, err
	}
	defer w.Close()
	if _, err := w.ReadFrom(strings.NewReader(piece)); err != nil {
		return upload.Content{}, err
	}
	switch result, err := w.Seal(ctx, d); {
	case err != nil:
		return upload.Content{}, err
	case result == upload.Contested: // another request was first
		if _, err := w.ResolveSeal(ctx); err != nil {
			return upload.Content{}, err
		}
	}
	content, err := w.Store(ctx)
	if err == nil {
		w.Spend(ctx, d) // once the caller has published the content
	}
	return content, err
}
