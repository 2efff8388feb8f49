package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/filesystem"
	"github.com/berthhq/berth/drivers/memory"
)

var (
	errDenied   = errors.New("AccessDenied")
	errBadClass = errors.New("InvalidStorageClass")
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
		"s3":         openMemory(t, memory.S3()),
		"gcs":        openMemory(t, memory.GCS()),
		"azure":      openMemory(t, memory.Azure()),
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range Run(t.Context(), b, name) {
				want := OK
				if strings.HasPrefix(r.Step, "presigned") || name == "azure" && r.Step == "uploads listed and aborted" {
					want = Skipped
				}
				if r.Status != want {
					t.Errorf("%s: %s (%s), want %s", r.Step, r.Status, r.Detail, want)
				}
			}
			nothingLeft(t, b)
		})
	}
}

// nothingLeft fails the test if the bucket has an object or an upload in progress.
func nothingLeft(t *testing.T, b drivers.Bucket) {
	t.Helper()
	for o, err := range b.List(t.Context(), "", "") {
		t.Errorf("left behind: %v, %v", o.Key, err)
	}
	for u, err := range b.Uploads(t.Context(), "") {
		t.Errorf("left behind: %+v, %v", u, err)
	}
}

// Each of these stores has one flaw, and the step for it must report it. In the
// bubble, time passes only when all racers wait, so in a store that checks and
// then writes all of them have checked.
func TestBadStores(t *testing.T) {
	for _, tc := range []struct {
		name   string
		step   string
		status Status
		bad    func(b drivers.Bucket) drivers.Bucket
	}{
		{"writes denied", "write and read", Failed, func(b drivers.Bucket) drivers.Bucket { return denied{b} }},
		{"data can't be created", "write and read data", Failed, fails("Create", "data/", errBadClass)},
		{"data can't be read", "write and read data", Failed, fails("Open", "data/", errBadClass)},
		{"create overwrites", "create-only, raced", Failed, func(b drivers.Bucket) drivers.Bucket { return overwriting{b} }},
		{"create looks, then writes", "create-only, raced", Failed, func(b drivers.Bucket) drivers.Bucket { return lookThenCreate{b} }},
		{"create loses answers", "create-only, raced", Busy, loses("Create", "/create")},
		{"replace ignores the tag", "compare-and-swap, raced", Failed, func(b drivers.Bucket) drivers.Bucket { return tagBlind{b} }},
		{"replace looks, then writes", "compare-and-swap, raced", Failed, func(b drivers.Bucket) drivers.Bucket { return lookThenReplace{b} }},
		{"replace loses answers", "compare-and-swap, raced", Busy, loses("Replace", "")},
		{"replace is busy", "compare-and-swap, raced", Busy, fails("Replace", "", drivers.ErrBusy)},
		{"delete ignores the tag", "conditional delete", Failed, func(b drivers.Bucket) drivers.Bucket { return deleteBlind{b} }},
		{"delete is busy", "conditional delete", Busy, fails("DeleteIf", "", drivers.ErrBusy)},
		{"lists less", "list after write", Failed, func(b drivers.Bucket) drivers.Bucket { return forgetful{b} }},
		{"no ranges", "ranged reads", Failed, func(b drivers.Bucket) drivers.Bucket { return rangeless{b} }},
		{"no uploads", "multipart upload", Failed, func(b drivers.Bucket) drivers.Bucket { return partless{b} }},
		{"data can't be uploaded", "multipart upload", Failed, fails("StartUpload", "data/", errBadClass)},
		{"completes with the newest part", "a replaced part is refused", Failed, func(b drivers.Bucket) drivers.Bucket { return &unpinned{Bucket: b} }},
		{"uploads can't be listed", "uploads listed and aborted", Failed, fails("Uploads", "", errDenied)},
		{"uploads are not listed", "uploads listed and aborted", Warning, func(b drivers.Bucket) drivers.Bucket { return unlisted{b} }},
		{"parts stay when an upload is completed", "uploads listed and aborted", Warning, func(b drivers.Bucket) drivers.Bucket { return &hoarder{Bucket: b} }},
		{"abort is denied", "uploads listed and aborted", Failed, fails("Abort", "meta/", errDenied)},
		{"abort does nothing", "uploads listed and aborted", Warning, fails("Abort", "", nil)},
		{"its clock is late", "clock", Warning, func(b drivers.Bucket) drivers.Bucket { return late{b} }},
		{"deletion is denied", "clean up", Warning, func(b drivers.Bucket) drivers.Bucket { return undeletable{b} }},
		{"abort is denied", "clean up", Warning, fails("Abort", "data/", errDenied)},
	} {
		t.Run(tc.name+": "+tc.step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				results := Run(t.Context(), tc.bad(openMemory(t, memory.S3())), "s3")
				if passed := Passed(results); passed != (tc.status == Warning) {
					t.Errorf("Passed = %v", passed)
				}
				r := stepOf(t, results, tc.step)
				if r.Status != tc.status || r.Impact == "" || r.Fix == "" {
					t.Errorf("got %+v, want %s with an impact and a fix", r, tc.status)
				}
			})
		})
	}
}

// TestOpened distinguishes a store that is down from a wrong configuration.
func TestOpened(t *testing.T) {
	for _, test := range []struct {
		err    error
		status Status
		fix    string
	}{
		{nil, OK, ""},
		{fmt.Errorf("open: %w", drivers.ErrBusy), Busy, "Run berth check again"},
		{fmt.Errorf("open: %w", drivers.ErrRefused), Failed, "Correct the setting"},
	} {
		if r := Opened(test.err); r.Status != test.status || !strings.HasPrefix(r.Fix, test.fix) {
			t.Errorf("Opened(%v) = %+v, want %s and %q", test.err, r, test.status, test.fix)
		}
	}
}

func stepOf(t *testing.T, results []Result, name string) Result {
	t.Helper()
	i := slices.IndexFunc(results, func(r Result) bool { return r.Step == name })
	if i < 0 {
		t.Fatalf("no step %q", name)
	}
	return results[i]
}

// TestSlowStore checks that a store passes if it accepts one write of a key per
// second.
func TestSlowStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := openMemory(t, memory.S3())
		for _, r := range Run(t.Context(), slow()(b), "s3") {
			if r.Status != OK && r.Status != Skipped {
				t.Errorf("%s: %s (%s)", r.Step, r.Status, r.Detail)
			}
		}
		nothingLeft(t, b)
	})
}

// TestDenied checks that a step that fails names the permissions that it needs,
// under the cloud's names. Tests of package deploy check that they are right.
func TestDenied(t *testing.T) {
	const blobs = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/"
	for driver, want := range map[string]map[string]string{
		"s3": {
			"create-only, raced": " It needs the permissions s3:PutObject and s3:GetObject.",
			"list after write":   " It needs the permissions s3:PutObject, s3:ListBucket and s3:DeleteObject.",
		},
		"gcs": {
			"compare-and-swap, raced": " It needs the permissions storage.objects.create, storage.objects.delete and storage.objects.get.",
		},
		"azure": {
			"conditional delete":         " It needs the permissions " + blobs + "write, " + blobs + "delete and " + blobs + "read.",
			"uploads listed and aborted": " It needs the permission " + blobs + "write.",
		},
		"filesystem": {
			"write and read": " and the credentials.",
		},
	} {
		results := Run(t.Context(), denied{partless{openMemory(t, memory.S3())}}, driver)
		for step, end := range want {
			if r := stepOf(t, results, step); r.Status != Failed || !strings.HasSuffix(r.Fix, end) {
				t.Errorf("%s: %+v, want a failure that ends with %q", driver, r, end)
			}
		}
	}
}

// TestUploadsEnd checks that no upload is left behind, no matter which step
// failed.
func TestUploadsEnd(t *testing.T) {
	for name, bad := range map[string]func(drivers.Bucket) drivers.Bucket{
		"PutPart fails":         func(b drivers.Bucket) drivers.Bucket { return unstored{b} },
		"parts get mixed":       func(b drivers.Bucket) drivers.Bucket { return &unpinned{Bucket: b} },
		"listing uploads fails": fails("Uploads", "", errDenied),
	} {
		t.Run(name, func(t *testing.T) {
			b := openMemory(t, memory.S3())
			Run(t.Context(), bad(b), "s3")
			nothingLeft(t, b)
		})
	}
}

// unstored accepts only the last part of an upload.
type unstored struct{ drivers.Bucket }

func (b unstored) PutPart(ctx context.Context, u drivers.Upload, n int, body drivers.Body) (drivers.Part, error) {
	if n == 1 {
		return drivers.Part{}, errDenied
	}
	return b.Bucket.PutPart(ctx, u, n, body)
}

type denied struct{ drivers.Bucket }

func (denied) Create(context.Context, string, drivers.Body) (drivers.Object, error) {
	return drivers.Object{}, errDenied
}

// lookThenCreate and lookThenReplace are correct only for one writer at a time.
type lookThenCreate struct{ drivers.Bucket }

func (b lookThenCreate) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	if _, err := b.Stat(ctx, key); err == nil {
		return drivers.Object{}, drivers.ErrExists
	}
	time.Sleep(time.Millisecond)
	return overwriting(b).Create(ctx, key, body)
}

type lookThenReplace struct{ drivers.Bucket }

func (b lookThenReplace) Replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	if o, err := b.Stat(ctx, key); err != nil || o.Tag != tag {
		return drivers.Object{}, drivers.ErrChanged
	}
	time.Sleep(time.Millisecond)
	return tagBlind(b).Replace(ctx, key, tag, body)
}

// fails returns an error instead of calling a method, for keys with a prefix.
func fails(method, prefix string, err error) func(drivers.Bucket) drivers.Bucket {
	return intercepted(func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if c.Method == method && strings.HasPrefix(c.Key, prefix) {
			return err
		}
		return do(ctx)
	})
}

// loses calls a method and loses the answer of a call that succeeded.
func loses(method, suffix string) func(drivers.Bucket) drivers.Bucket {
	return intercepted(func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		err := do(ctx)
		if c.Method == method && strings.HasSuffix(c.Key, suffix) && err == nil {
			return drivers.ErrBusy
		}
		return err
	})
}

func intercepted(f drivertest.Intercept) func(drivers.Bucket) drivers.Bucket {
	return func(b drivers.Bucket) drivers.Bucket { return drivertest.Wrap(b, f) }
}

// slow accepts one write of a key per second, like Cloudflare R2. Writes that it
// refuses do not count.
func slow() func(drivers.Bucket) drivers.Bucket {
	var mu sync.Mutex
	last := map[string]time.Time{}
	return intercepted(func(ctx context.Context, c drivertest.Call, do func(context.Context) error) error {
		if !slices.Contains([]string{"Create", "Replace", "DeleteIf"}, c.Method) {
			return do(ctx)
		}
		mu.Lock()
		defer mu.Unlock()
		if time.Since(last[c.Key]) < time.Second {
			return drivers.ErrBusy
		}
		err := do(ctx)
		if err == nil {
			last[c.Key] = time.Now()
		}
		return err
	})
}

// unlisted lists no uploads.
type unlisted struct{ drivers.Bucket }

func (unlisted) Uploads(context.Context, string) iter.Seq2[drivers.Upload, error] {
	return func(func(drivers.Upload, error) bool) {}
}

// hoarder keeps the parts of completed uploads.
type hoarder struct {
	drivers.Bucket
	kept []drivers.Upload
}

func (b *hoarder) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc uint32) (drivers.Object, error) {
	o, err := b.Bucket.Complete(ctx, u, parts, crc)
	if err == nil {
		b.kept = append(b.kept, u)
	}
	return o, err
}

func (b *hoarder) Uploads(ctx context.Context, prefix string) iter.Seq2[drivers.Upload, error] {
	return func(yield func(drivers.Upload, error) bool) {
		for _, u := range b.kept {
			if strings.HasPrefix(u.Key, prefix) && !yield(u, nil) {
				return
			}
		}
		b.Bucket.Uploads(ctx, prefix)(yield)
	}
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

// unpinned completes with the part that was put last.
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
		return errDenied
	}
	return b.Bucket.Delete(ctx, keys...)
}

// signer is a bucket with signed URLs that a server of the test answers,
// according to its flaws.
type signer struct {
	drivers.Bucket
	url string
}

func (b signer) SignGet(_ context.Context, key string, opts drivers.SignOptions) (drivers.Signed, error) {
	expires := time.Now().Add(opts.Expires)
	headers := url.Values{"type": {opts.ContentType}, "disposition": {opts.ContentDisposition}}.Encode()
	return drivers.Signed{
		URL:     fmt.Sprintf("%s/%s?expires=%d&for=%s&%s", b.url, key, expires.UnixMilli(), key, headers),
		Expires: expires,
	}, nil
}

// flaws are the flaws that a server of signed URLs can have.
type flaws struct {
	bare    bool // serves URLs without a signature
	others  bool // accepts a signature for any key
	forever bool // ignores expiry
	whole   bool // ignores ranges
	stored  bool // ignores the headers that the URL asks for
}

func serveSigned(t *testing.T, b drivers.Bucket, f flaws) drivers.Bucket {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := strings.TrimPrefix(r.URL.Path, "/")
		expires, _ := strconv.ParseInt(r.FormValue("expires"), 10, 64)
		allowed := (f.others || r.FormValue("for") == key) && (f.forever || time.Now().UnixMilli() <= expires)
		if r.URL.RawQuery == "" {
			allowed = f.bare
		}
		if !allowed {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if f.whole {
			r.Header.Del("Range")
		}
		if !f.stored {
			w.Header().Set("Content-Type", r.FormValue("type"))
			w.Header().Set("Content-Disposition", r.FormValue("disposition"))
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(secret))
	}))
	t.Cleanup(server.Close)
	return signer{b, server.URL}
}

func TestPresigned(t *testing.T) {
	const get, refused = "presigned GET", "presigned GET, tampered or expired"
	for _, tc := range []struct {
		name  string
		flaws flaws
		want  map[string]Status // of steps that are not ok
		says  string
	}{
		{"good", flaws{}, nil, ""},
		{"no ranges", flaws{whole: true}, map[string]Status{get: Warning}, "returned 200 for a Range"},
		{"its own headers", flaws{stored: true}, map[string]Status{get: Warning}, "the signed URL requests Content-"},
		{"a public bucket", flaws{bare: true}, map[string]Status{refused: Failed}, "without its signature returned 200"},
		{"one signature for all keys", flaws{others: true}, map[string]Status{refused: Failed}, "for another object returned 200"},
		{"never expires", flaws{forever: true}, map[string]Status{refused: Failed}, "after it expired returned 200"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			results := Run(t.Context(), serveSigned(t, openMemory(t, memory.S3()), tc.flaws), "s3")
			stepOf(t, results, get)
			stepOf(t, results, refused)
			for _, r := range results {
				want := cmp.Or(tc.want[r.Step], OK)
				if r.Status != want {
					t.Errorf("%s: %s (%s), want %s", r.Step, r.Status, r.Detail, want)
				}
				if want != OK && !strings.Contains(r.Detail, tc.says) {
					t.Errorf("%s: %s, want that it %s", r.Step, r.Detail, tc.says)
				}
				if strings.Contains(r.Detail, "expires=") {
					t.Errorf("%s shows a signed URL: %s", r.Step, r.Detail)
				}
			}
		})
	}
}
