package upload

import (
	"crypto/sha256"
	"io"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// TestHugeUploads sends bodies of unknown length in two PATCHes to two replicas,
// and commits them at a third one. The store counts the parts and drops their
// bytes. Without BERTH_TEST_SOAK the uploads and their parts are smaller, but the
// numbers of parts are the same.
func TestHugeUploads(t *testing.T) {
	equal := membucket.Azure()
	equal.Limits.EqualParts = true
	scaled := membucket.S3()
	scaled.Limits.MinPart /= 256
	for name, tt := range map[string]struct {
		habits       membucket.Habits
		part, memory int64
		size         int64
		parts        int
		soak         bool
	}{
		// 1,000 parts, and then parts of twice the size.
		"60 GiB":               {membucket.S3(), 16 * miB, 256 * miB, 60 * giB, 1000 + (60*1024-16_000)/32, true},
		"60 GiB by 256":        {scaled, 64 * kiB, 1 * miB, 240 * miB, 1000 + (60*1024-16_000)/32, false},
		"12,000 equal parts":   {equal, 16 * kiB, 1 * miB, 12_000 * 16 * kiB, 12_000, false},
		"12,000 growing parts": {membucket.Azure(), 1 * kiB, 512 * kiB, 63_000*kiB + 6000*64*kiB, 12_000, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.soak && os.Getenv("BERTH_TEST_SOAK") == "" {
				t.Skip("takes minutes: set BERTH_TEST_SOAK=1 to run it")
			}
			counter := &drivertest.Counter{}
			store := &membucket.Store{Habits: tt.habits, Discard: true}
			config := func(c *Config) { c.PartSize, c.Memory = tt.part, tt.memory }
			one, two := replica(t, store, counter.Intercept, config), replica(t, store, counter.Intercept, config)

			body := &pattern{}
			hash := sha256.New()
			tok := one.Start("r", digest.SHA256)
			for i, m := range []*Manager{one, two} {
				n := tt.size / 3
				if i == 1 {
					n = tt.size - n
				}
				tok = patchFrom(t, m, tok, name, io.TeeReader(io.LimitReader(body, n), hash), n)
			}

			want := digest.NewDigest(digest.SHA256, hash)
			w := resume(t, replica(t, store, counter.Intercept, config), tok, Options{Length: 0, Commit: true, Digest: want})
			defer w.Close()
			if err := seal(t.Context(), w, want); err != nil {
				t.Fatal(err)
			}
			c, err := w.Store(t.Context())
			if err != nil || c.Digest != want || c.Size != tt.size {
				t.Fatalf("Store = %+v, %v, want %d bytes of %s", c, err, tt.size, want)
			}
			o, err := one.cfg.Bucket.Stat(t.Context(), c.Key)
			if err != nil || o.Size != tt.size {
				t.Errorf("Stat = %d bytes, %v, want %d", o.Size, err, tt.size)
			}
			calls := counter.ByMethod()
			if calls["PutPart"] != tt.parts || calls["Complete"] != 1 {
				t.Errorf("%d bytes made the calls %v, want %d parts and one Complete", tt.size, calls, tt.parts)
			}
			if tt.parts > tt.habits.Limits.MaxParts {
				t.Errorf("%d parts, want at most %d, the store's limit", tt.parts, tt.habits.Limits.MaxParts)
			}
		})
	}
}

// pattern is an endless body.
type pattern struct {
	n byte
}

func (p *pattern) Read(b []byte) (int, error) {
	for i := 0; i < len(b); i += 4096 { // one byte of each page, for speed
		b[i] = p.n
		p.n++
	}
	return len(b), nil
}
