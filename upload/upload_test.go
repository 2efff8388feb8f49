package upload

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
)

const kiB, miB, giB = int64(1) << 10, int64(1) << 20, int64(1) << 30

// testLayout is a Layout like that of blobstore.
type testLayout struct{}

func (testLayout) Sessions() string { return "uploads/" }

func (testLayout) Session(id string) string { return "uploads/" + id + "/" }

func (testLayout) TokenKey() string { return "meta/token-key" }

func (testLayout) SessionRecord(id string, seq int) string {
	return fmt.Sprintf("uploads/%s/%08d", id, seq)
}

func (testLayout) Data(d digest.Digest) string {
	if d == "" {
		return "data/new/" + rand.Text()
	}
	return "data/sha256/" + d.Encoded() + "/" + rand.Text()
}

// smallS3 returns the habits of S3, with a minimum part that suits tests.
func smallS3() membucket.Habits {
	h := membucket.S3()
	h.Limits.MinPart = 64 * kiB
	return h
}

// streaming returns the habits of a directory.
func streaming() membucket.Habits { return membucket.Habits{} }

// testConfig returns a Config with parts of 128 KiB. Eight of them fit into the
// memory besides the reserve.
func testConfig(b drivers.Bucket) Config {
	return Config{
		Bucket:    b,
		Layout:    testLayout{},
		Log:       slog.New(slog.DiscardHandler),
		InlineMax: 16 * kiB,
		Settings: Settings{
			Memory:          2 * miB,
			PartSize:        128 * kiB,
			ParallelParts:   3,
			SessionLifetime: 144 * time.Hour,
			MaxWaiting:      4096,
		},
	}
}

// replica opens another Manager on store. Its calls go through f, unless f is nil.
func replica(t testing.TB, store *membucket.Store, f drivertest.Intercept, change ...func(*Config)) *Manager {
	t.Helper()
	b, err := membucket.Open(t.Context(), membucket.Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	if f != nil {
		b = drivertest.Wrap(b, f)
	}
	cfg := testConfig(b)
	for _, c := range change {
		c(&cfg)
	}
	m, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// requestLimit is how long a request may last where a test sets no other limit.
const requestLimit = 6 * time.Hour

func newDeadline() deadline.Deadline { return deadline.New(requestLimit) }

func resume(t testing.TB, m *Manager, tok Token, opts Options) *Writer {
	t.Helper()
	if opts.Deadline == (deadline.Deadline{}) {
		opts.Deadline = newDeadline()
	}
	w, err := m.Resume(t.Context(), tok, opts)
	if err != nil {
		t.Fatalf("Resume from record %d: %v", tok.Seq, err)
	}
	return w
}

// patch sends p as a PATCH, and returns the token of the record that it creates.
func patch(t testing.TB, m *Manager, tok Token, p []byte) Token {
	t.Helper()
	w := resume(t, m, tok, Options{Length: int64(len(p))})
	defer w.Close()
	if n, err := w.ReadFrom(bytes.NewReader(p)); err != nil || n != int64(len(p)) {
		t.Fatalf("ReadFrom of %d bytes = %d, %v", len(p), n, err)
	}
	next, err := w.Suspend(t.Context())
	if err != nil {
		t.Fatalf("Suspend at %d: %v", w.Size(), err)
	}
	return next
}

// seal seals w, and reads the record that a contested Seal has met.
func seal(ctx context.Context, w *Writer, d digest.Digest) error {
	result, err := w.Seal(ctx, d)
	if result == Contested {
		_, err = w.ResolveSeal(ctx)
	}
	return err
}

// commit sends p as the last request of an upload with the content all.
func commit(ctx context.Context, m *Manager, tok Token, p, all []byte) (Content, error) {
	return commitBy(ctx, m, newDeadline(), tok, p, all)
}

func commitBy(ctx context.Context, m *Manager, due deadline.Deadline, tok Token, p, all []byte) (Content, error) {
	d := digest.FromBytes(all)
	w, err := m.Resume(ctx, tok, Options{Deadline: due, Length: int64(len(p)), Commit: true, Digest: d})
	if err != nil {
		return Content{}, err
	}
	defer w.Close()
	if _, err := w.ReadFrom(bytes.NewReader(p)); err != nil {
		return Content{}, err
	}
	if err := seal(ctx, w, d); err != nil {
		return Content{}, err
	}
	return w.Store(ctx)
}

// wantCommit commits, and compares the stored bytes with all.
func wantCommit(t testing.TB, m *Manager, tok Token, p, all []byte) {
	t.Helper()
	c, err := commit(t.Context(), m, tok, p, all)
	if err != nil {
		t.Fatalf("commit of %d bytes, the last %d in this request: %v", len(all), len(p), err)
	}
	wantContent(t, m, c, all)
}

func wantContent(t testing.TB, m *Manager, c Content, want []byte) {
	t.Helper()
	if c.Digest != digest.FromBytes(want) || c.Size != int64(len(want)) || c.CRC32C != drivers.UpdateCRC32C(0, want) {
		t.Fatalf("content is %s, %d bytes, %08x, want the digest and CRC of %d bytes", c.Digest, c.Size, c.CRC32C, len(want))
	}
	if !bytes.Equal(stored(t, m, c), want) {
		t.Fatalf("the stored bytes differ from the %d bytes that were sent", len(want))
	}
}

func stored(t testing.TB, m *Manager, c Content) []byte {
	t.Helper()
	if c.Key == "" {
		return c.Inline
	}
	r, _, err := m.cfg.Bucket.Open(t.Context(), c.Key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// randomBytes returns n bytes, which are the same in every run for the same seed.
func randomBytes(seed uint64, n int64) []byte {
	p := make([]byte, n)
	_, _ = mathrand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(p) // it never fails
	return p
}

func TestOpenRefuses(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"upload.Config.Memory":          func(c *Config) { c.Memory = 511 * kiB },
		"upload.Config.PartSize: 65535": func(c *Config) { c.PartSize = 64*kiB - 1 },
		"upload.Config.PartSize: 26":    func(c *Config) { c.PartSize = c.Memory/8 + 1 },
		"upload.Config.ParallelParts":   func(c *Config) { c.ParallelParts = 0 },
		"upload.Config.MaxWaiting":      func(c *Config) { c.MaxWaiting = -1 },
		"upload.Config.MaxBlobSize":     func(c *Config) { c.MaxBlobSize = -1 },
		"upload.Config.SessionLifetime": func(c *Config) { c.SessionLifetime = 0 },
	} {
		b, err := membucket.Open(t.Context(), membucket.Config{Store: &membucket.Store{Habits: smallS3()}})
		if err != nil {
			t.Fatal(err)
		}
		cfg := testConfig(b)
		change(&cfg)
		if _, err := Open(t.Context(), cfg); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Open = %v, want an error that starts with %q", err, want)
		}
	}
}
