package check

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/berthhq/berth/drivers"
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

// TestGoodStores checks that all steps pass, or are skipped for a reason.
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
	for o, err := range b.List(t.Context(), "", "", 0) {
		t.Errorf("left behind: %v, %v", o.Key, err)
	}
	for u, err := range b.Uploads(t.Context(), "") {
		t.Errorf("left behind: %+v, %v", u, err)
	}
}

// TestBadStores runs stores that have one flaw each, which one step must report.
// Time passes only when all racers wait, so all of them have checked when a store
// that checks and then writes starts to write.
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
		{"create checks, then writes", "create-only, raced", Failed, func(b drivers.Bucket) drivers.Bucket { return checkThenCreate{b} }},
		{"create loses responses", "create-only, raced", Busy, loses("Create", "/create")},
		{"replace ignores the tag", "compare-and-swap, raced", Failed, func(b drivers.Bucket) drivers.Bucket { return tagBlind{b} }},
		{"replace checks, then writes", "compare-and-swap, raced", Failed, func(b drivers.Bucket) drivers.Bucket { return checkThenReplace{b} }},
		{"replace loses responses", "compare-and-swap, raced", Busy, loses("Replace", "")},
		{"replace is busy", "compare-and-swap, raced", Busy, fails("Replace", "", drivers.ErrBusy)},
		{"delete ignores the tag", "conditional delete", Failed, func(b drivers.Bucket) drivers.Bucket { return deleteBlind{b} }},
		{"delete is busy", "conditional delete", Busy, fails("DeleteIf", "", drivers.ErrBusy)},
		{"lists too little", "list after write", Failed, func(b drivers.Bucket) drivers.Bucket { return forgetful{b} }},
		{"no ranges", "ranged reads", Failed, func(b drivers.Bucket) drivers.Bucket { return rangeless{b} }},
		{"no uploads", "multipart upload", Failed, func(b drivers.Bucket) drivers.Bucket { return partless{b} }},
		{"data can't be uploaded", "multipart upload", Failed, fails("StartUpload", "data/", errBadClass)},
		{"completes with the latest part", "a replaced part is refused", Failed, func(b drivers.Bucket) drivers.Bucket { return &unpinned{Bucket: b} }},
		{"uploads can't be listed", "uploads listed and aborted", Failed, fails("Uploads", "", errDenied)},
		{"uploads are not listed", "uploads listed and aborted", Warning, func(b drivers.Bucket) drivers.Bucket { return unlisted{b} }},
		{"parts stay when an upload is completed", "uploads listed and aborted", Warning, func(b drivers.Bucket) drivers.Bucket { return &hoarder{Bucket: b} }},
		{"abort is denied", "uploads listed and aborted", Failed, fails("Abort", "meta/", errDenied)},
		{"abort does nothing", "uploads listed and aborted", Warning, fails("Abort", "", nil)},
		{"the clock is slow", "clock", Warning, func(b drivers.Bucket) drivers.Bucket { return late{b} }},
		{"deletion is denied", "clean up", Warning, func(b drivers.Bucket) drivers.Bucket { return undeletable{b} }},
		{"abort is denied", "clean up", Warning, fails("Abort", "data/", errDenied)},
	} {
		t.Run(tc.name+": "+tc.step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				results := Run(t.Context(), tc.bad(openMemory(t, memory.S3())), "s3")
				if passed := Passed(results); passed != (tc.status == Warning) {
					t.Errorf("Passed(%+v) = %t", results, passed)
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

// stepOf returns the result of a step.
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

// TestDenied checks that the result of a failed step names the permissions that
// the step needs. Tests of package deploy check that the permissions are correct.
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
				t.Errorf("%s: %+v, want a failure with a fix that ends with %q", driver, r, end)
			}
		}
	}
}

// TestUploadsEnd checks that no upload is left behind when a step fails.
func TestUploadsEnd(t *testing.T) {
	for name, bad := range map[string]func(drivers.Bucket) drivers.Bucket{
		"PutPart fails":         func(b drivers.Bucket) drivers.Bucket { return unstored{b} },
		"parts are mixed up":    func(b drivers.Bucket) drivers.Bucket { return &unpinned{Bucket: b} },
		"listing uploads fails": fails("Uploads", "", errDenied),
	} {
		t.Run(name, func(t *testing.T) {
			b := openMemory(t, memory.S3())
			Run(t.Context(), bad(b), "s3")
			nothingLeft(t, b)
		})
	}
}
