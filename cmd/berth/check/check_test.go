package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/filesystem"
	"github.com/berthhq/berth/drivers/memory"
)

func openMemory(t *testing.T, habits memory.Habits) drivers.Bucket {
	t.Helper()
	b, err := memory.Open(t.Context(), memory.Config{Store: &memory.Store{Habits: habits}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoodStores(t *testing.T) {
	fs, err := filesystem.Open(t.Context(), filesystem.Config{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	for name, b := range map[string]drivers.Bucket{
		"filesystem": fs,
		"memory":     openMemory(t, memory.Habits{}),
		"S3":         openMemory(t, memory.S3()),
		"GCS":        openMemory(t, memory.GCS()),
		"Azure":      openMemory(t, memory.Azure()),
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range Run(t.Context(), b, name) {
				want := OK
				if strings.HasPrefix(r.Step, "presigned") {
					want = Skipped
				}
				if r.Status != want {
					t.Errorf("%s: %s (%s), want %s", r.Step, r.Status, r.Detail, want)
				}
			}
			for o, err := range b.List(t.Context(), "", "") {
				t.Errorf("left behind: %v, %v", o.Key, err)
			}
		})
	}
}

// Each of these does one thing wrong, and the step for it must say so.
func TestBadStores(t *testing.T) {
	for _, tc := range []struct {
		step   string
		status Status
		bad    func(b drivers.Bucket) drivers.Bucket
	}{
		{"write and read", Failed, func(b drivers.Bucket) drivers.Bucket { return denied{b} }},
		{"create-only, raced", Failed, func(b drivers.Bucket) drivers.Bucket { return overwriting{b} }},
		{"compare-and-swap, raced", Failed, func(b drivers.Bucket) drivers.Bucket { return tagBlind{b} }},
		{"conditional delete", Failed, func(b drivers.Bucket) drivers.Bucket { return deleteBlind{b} }},
		{"list after write", Failed, func(b drivers.Bucket) drivers.Bucket { return forgetful{b} }},
		{"ranged reads", Failed, func(b drivers.Bucket) drivers.Bucket { return rangeless{b} }},
		{"multipart upload", Failed, func(b drivers.Bucket) drivers.Bucket { return partless{b} }},
		{"a replaced part is refused", Failed, func(b drivers.Bucket) drivers.Bucket { return &unpinned{Bucket: b} }},
		{"clock", Warning, func(b drivers.Bucket) drivers.Bucket { return late{b} }},
		{"clean up", Warning, func(b drivers.Bucket) drivers.Bucket { return undeletable{b} }},
	} {
		t.Run(tc.step, func(t *testing.T) {
			results := Run(t.Context(), tc.bad(openMemory(t, memory.S3())), "s3")
			if passed := Passed(results); passed == (tc.status == Failed) {
				t.Errorf("Passed = %v", passed)
			}
			for _, r := range results {
				if r.Step == tc.step {
					if r.Status != tc.status || r.Breaks == "" || r.Mend == "" {
						t.Errorf("got %+v, want %s, with what breaks and what mends it", r, tc.status)
					}
					return
				}
			}
			t.Fatalf("no step %q", tc.step)
		})
	}
}

// TestDenied: a step that fails names the permissions that it takes, as the
// cloud calls them.
func TestDenied(t *testing.T) {
	for driver, want := range map[string]map[string]string{
		"s3": {
			"write and read": "s3:PutObject and s3:GetObject", "create-only, raced": "s3:PutObject", "compare-and-swap, raced": "s3:PutObject",
			"conditional delete": "s3:DeleteObject", "list after write": "s3:ListBucket", "ranged reads": "s3:GetObject",
			"multipart upload": "s3:PutObject and s3:AbortMultipartUpload", "a replaced part is refused": "s3:PutObject and s3:AbortMultipartUpload",
		},
		"gcs": {
			"write and read": "storage.objects.create and storage.objects.get", "conditional delete": "storage.objects.delete",
			"list after write": "storage.objects.list", "multipart upload": "storage.objects.create and storage.objects.delete",
		},
		"azure": {
			"write and read":     "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write and read",
			"conditional delete": "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/delete",
			"list after write":   "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read",
		},
	} {
		got := map[string]Result{}
		for _, r := range Run(t.Context(), denied{partless{openMemory(t, memory.S3())}}, driver) {
			got[r.Step] = r
		}
		for step, permission := range want {
			if r := got[step]; r.Status != Failed || !strings.HasSuffix(r.Mend, "the permission "+permission+".") {
				t.Errorf("%s: %+v, want a failure that names %s", driver, r, permission)
			}
		}
	}
}

// TestUploadsEnd: no upload is left behind, whichever step has failed.
func TestUploadsEnd(t *testing.T) {
	for name, bad := range map[string]func(drivers.Bucket) drivers.Bucket{
		"none fails":      func(b drivers.Bucket) drivers.Bucket { return b },
		"PutPart fails":   func(b drivers.Bucket) drivers.Bucket { return unstored{b} },
		"parts get mixed": func(b drivers.Bucket) drivers.Bucket { return &unpinned{Bucket: b} },
	} {
		b := openMemory(t, memory.S3())
		Run(t.Context(), bad(b), "s3")
		for u, err := range b.Uploads(t.Context(), "") {
			t.Errorf("%s: left behind: %+v, %v", name, u, err)
		}
	}
}

// unstored takes the last part of an upload, and no other.
type unstored struct{ drivers.Bucket }

func (b unstored) PutPart(ctx context.Context, u drivers.Upload, n int, body drivers.Body) (drivers.Part, error) {
	if n == 1 {
		return drivers.Part{}, errors.New("AccessDenied")
	}
	return b.Bucket.PutPart(ctx, u, n, body)
}

type denied struct{ drivers.Bucket }

func (denied) Create(context.Context, string, drivers.Body) (drivers.Object, error) {
	return drivers.Object{}, errors.New("AccessDenied")
}

type overwriting struct{ drivers.Bucket }

func (b overwriting) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	o, err := b.Bucket.Create(ctx, key, body)
	if errors.Is(err, drivers.ErrExists) {
		return tagBlind(b).Replace(ctx, key, "", body)
	}
	return o, err
}

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

type deleteBlind struct{ drivers.Bucket }

func (b deleteBlind) DeleteIf(ctx context.Context, key, _ string) error { return b.Delete(ctx, key) }

type forgetful struct{ drivers.Bucket }

func (b forgetful) List(ctx context.Context, prefix, _ string) iter.Seq2[drivers.Object, error] {
	return b.Bucket.List(ctx, prefix, prefix+"03")
}

type rangeless struct{ drivers.Bucket }

func (b rangeless) Open(ctx context.Context, key string, _, _ int64) (io.ReadCloser, drivers.Object, error) {
	return b.Bucket.Open(ctx, key, 0, -1)
}

type partless struct{ drivers.Bucket }

func (partless) StartUpload(context.Context, string) (drivers.Upload, error) {
	return drivers.Upload{}, errors.New("NotImplemented")
}

// unpinned completes with whatever was put last.
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

type late struct{ drivers.Bucket }

func (b late) Stat(ctx context.Context, key string) (drivers.Object, error) {
	o, err := b.Bucket.Stat(ctx, key)
	o.Modified = o.Modified.Add(-time.Hour)
	return o, err
}

type undeletable struct{ drivers.Bucket }

func (b undeletable) Delete(ctx context.Context, keys ...string) error {
	if len(keys) > 1 {
		return errors.New("AccessDenied")
	}
	return b.Bucket.Delete(ctx, keys...)
}

// signer is a bucket whose signed URLs a server of the test answers, as well as
// its flaws let it.
type signer struct {
	drivers.Bucket
	url string
}

func (b signer) SignGet(_ context.Context, key string, opts drivers.SignOptions) (drivers.Signed, error) {
	expires := time.Now().Add(opts.Expires)
	return drivers.Signed{
		URL:     fmt.Sprintf("%s/%s?expires=%d&for=%s", b.url, key, expires.UnixMilli(), key),
		Expires: expires,
	}, nil
}

func serveSigned(t *testing.T, b drivers.Bucket, checksSignature, checksExpiry, ranges bool) drivers.Bucket {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := strings.TrimPrefix(r.URL.Path, "/")
		expires, _ := strconv.ParseInt(r.FormValue("expires"), 10, 64)
		switch {
		case checksSignature && r.FormValue("for") != key, checksExpiry && time.Now().UnixMilli() > expires:
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if !ranges {
			r.Header.Del("Range")
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(secret))
	}))
	t.Cleanup(server.Close)
	return signer{b, server.URL}
}

func TestPresigned(t *testing.T) {
	for _, tc := range []struct {
		name                               string
		checksSignature, checksExpiry, rng bool
		get, refused                       Status
	}{
		{"good", true, true, true, OK, OK},
		{"no ranges", true, true, false, Warning, OK},
		{"public bucket", false, false, true, OK, Failed},
		{"never expires", true, false, true, OK, Failed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := serveSigned(t, openMemory(t, memory.S3()), tc.checksSignature, tc.checksExpiry, tc.rng)
			for _, r := range Run(t.Context(), b, "s3") {
				want := OK
				switch r.Step {
				case "presigned GET":
					want = tc.get
				case "presigned GET, tampered or expired":
					want = tc.refused
				}
				if r.Status != want {
					t.Errorf("%s: %s (%s), want %s", r.Step, r.Status, r.Detail, want)
				}
				if strings.Contains(r.Detail, "expires=") {
					t.Errorf("%s shows a signed URL: %s", r.Step, r.Detail)
				}
			}
		})
	}
}
