package upload

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/envelope"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// TestStoreHangs checks that a store that never answers delays a request by
// storeTimeout only, and that the memory of the request is free again then.
func TestStoreHangs(t *testing.T) {
	for _, method := range []string{"StartUpload", "PutPart", "Create", "Complete"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var m *Manager
				m = replica(t, &membucket.Store{Habits: smallS3()}, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
					if c.Method == method && m != nil {
						<-ctx.Done()
						return ctx.Err()
					}
					return do(ctx)
				})
				data := randomBytes(38, 200*kiB)
				start := time.Now()
				w := resume(t, m, m.Start("r", digest.SHA256), Options{Length: int64(len(data))})
				_, err := w.ReadFrom(bytes.NewReader(data))
				if err == nil {
					err = seal(t.Context(), w, digest.FromBytes(data))
				}
				if err == nil {
					_, err = w.Store(t.Context())
				}
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("PUT = %v, want %v", err, context.DeadlineExceeded)
				}
				w.Close()
				if took := time.Since(start); took != storeTimeout {
					t.Errorf("PUT took %v, want %v", took, storeTimeout)
				}
				wantIdle(t, m)
			})
		})
	}
}

// TestSmallCallHangs checks that a store that never answers delays a request that
// writes nothing by SmallCallTimeout only.
func TestSmallCallHangs(t *testing.T) {
	status := func(ctx context.Context, m *Manager, tok Token) error { _, _, err := m.Status(ctx, tok); return err }
	for method, call := range map[string]func(ctx context.Context, m *Manager, tok Token) error{
		"List": status,
		"Open": status,
		"Stat": func(ctx context.Context, m *Manager, _ Token) error {
			_, err := completed(ctx, m.cfg.Bucket, drivers.Upload{Key: "data/new/x"}, Content{})
			return err
		},
	} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hang := false
				m := replica(t, &membucket.Store{Habits: smallS3()}, func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
					if c.Method == method && hang {
						<-ctx.Done()
						return ctx.Err()
					}
					return do(ctx)
				})
				tok := patch(t, m, m.Start("r", digest.SHA256), []byte("some"))
				hang = true
				start := time.Now()
				if err := call(t.Context(), m, tok); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, drivers.ErrBusy) {
					t.Errorf("%s that hangs = %v, want %v", method, err, drivers.ErrBusy)
				}
				if took := time.Since(start); took != envelope.SmallCallTimeout {
					t.Errorf("%s that hangs took %v, want %v", method, took, envelope.SmallCallTimeout)
				}
			})
		})
	}
}
