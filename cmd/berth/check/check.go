// Package check proves, step by step, that a bucket does what berth needs of
// it: the bucket itself (Run), what it is set to do by itself (Settings), and
// the CDNs before it (Redirects). It works on an open bucket through the
// driver's contract alone, under keys of its own that it deletes again, and can
// run beside live traffic.
package check

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/berthhq/berth/drivers"
)

// Status is how a step went.
type Status string

const (
	// OK says that the bucket does it.
	OK Status = "ok"

	// Failed says that it doesn't, and berth can't be trusted on it.
	Failed Status = "failed"

	// Warning says that berth works, but not as well as it could.
	Warning Status = "warning"

	// Skipped says that the store has no such thing, and berth does without.
	Skipped Status = "skipped"
)

// Result is what one step found.
type Result struct {
	Step   string `json:"step"`
	Status Status `json:"status"`
	Detail string `json:"detail,omitempty"` // what was seen

	// Of a step that did not go well: what that means for berth, and what
	// mends it.
	Breaks string `json:"breaks,omitempty"`
	Mend   string `json:"mend,omitempty"`
}

// Passed says that no step failed.
func Passed(results []Result) bool {
	for _, r := range results {
		if r.Status == Failed {
			return false
		}
	}
	return true
}

const (
	stepTimeout  = 2 * time.Minute  // for one step
	fetchTimeout = 30 * time.Second // for one request by URL
)

// step is one thing to prove. run returns what was seen; a finding if that is
// worth a warning; errors.ErrUnsupported if the store has no such thing.
type step struct {
	name   string
	breaks string
	mend   string
	needs  permission
	run    func(ctx context.Context, b *bench) (string, error)
}

// finding is an error that berth can live with.
type finding struct {
	error
}

// skipped is an error that says why there is nothing to prove.
type skipped struct {
	error
}

// bench is what steps work on.
type bench struct {
	drivers.Bucket
	client *http.Client // without any credentials
	root   string       // of the keys of this run
	used   []string
}

// checkPrefix begins all keys but those that are for CDNs.
const checkPrefix = "meta/check/"

func newBench(bucket drivers.Bucket) *bench {
	return &bench{
		Bucket: bucket,
		client: &http.Client{Timeout: fetchTimeout, Transport: &http.Transport{
			Proxy:             http.ProxyFromEnvironment,
			DisableKeepAlives: true, // each request stands for another client
		}},
		root: checkPrefix + rand.Text() + "/",
	}
}

// key makes a key that no other run uses, and has it deleted at the end.
func (b *bench) key(name string) string {
	k := b.root + name
	b.used = append(b.used, k)
	return k
}

// Opened is the result of opening the bucket, before all other steps. The error
// of a driver names the setting that mends it.
func Opened(err error) Result {
	this := step{
		name:   "open",
		breaks: "Nothing works: berth serve ends with the same error.",
		mend:   "Look at the setting that the error names.",
	}
	return this.result("reachable, and keeps to create-only and compare-and-swap", err, "")
}

// Run takes all steps, also after one failed, and cleans up. driver is the name
// of the driver, for the permissions that are named.
func Run(ctx context.Context, bucket drivers.Bucket, driver string) []Result {
	b := newBench(bucket)
	var results []Result
	for _, s := range steps {
		results = append(results, s.take(ctx, b, driver))
	}
	return append(results, cleanUp.take(context.WithoutCancel(ctx), b, driver))
}

func (s step) take(ctx context.Context, b *bench, driver string) Result {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	seen, err := s.run(ctx, b)
	return s.result(seen, err, s.needs.of(driver))
}

// result is what a step found. The permission is one that the step needs.
func (s step) result(seen string, err error, permission string) Result {
	r := Result{Step: s.name, Status: OK, Detail: seen}
	_, worth := errors.AsType[finding](err)
	why, nothing := errors.AsType[skipped](err)
	switch {
	case err == nil:
		return r
	case nothing:
		return Result{Step: s.name, Status: Skipped, Detail: why.Error()}
	case errors.Is(err, errors.ErrUnsupported):
		return Result{Step: s.name, Status: Skipped, Detail: "this store has no such thing, and berth does without"}
	case worth:
		r.Status = Warning
	default:
		r.Status = Failed
	}
	r.Detail, r.Breaks, r.Mend = err.Error(), s.breaks, s.mend
	if permission != "" {
		r.Mend += fmt.Sprintf(" It needs the permission %s.", permission)
	}
	return r
}

// permission is what a step needs, by the names that each cloud gives it.
type permission struct {
	s3, gcs, azure string
}

func (p permission) of(driver string) string {
	switch driver {
	case "s3":
		return p.s3
	case "gcs":
		return p.gcs
	case "azure":
		return p.azure
	default:
		return ""
	}
}

const azureBlobs = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/"

var (
	toWrite  = permission{"s3:PutObject", "storage.objects.create", azureBlobs + "write"}
	toRead   = permission{"s3:GetObject", "storage.objects.get", azureBlobs + "read"}
	toList   = permission{"s3:ListBucket", "storage.objects.list", azureBlobs + "read"}
	toDelete = permission{"s3:DeleteObject", "storage.objects.delete", azureBlobs + "delete"}
	toUpload = permission{"s3:PutObject and s3:AbortMultipartUpload", "storage.objects.create and storage.objects.delete", azureBlobs + "write"}
)

var cleanUp = step{
	name:   "clean up",
	breaks: "Nothing, but a few small objects under meta/check/ stay in the bucket.",
	mend:   "Allow deleting; the collector needs it too.",
	needs:  toDelete,
	run: func(ctx context.Context, b *bench) (string, error) {
		if err := b.Delete(ctx, b.used...); err != nil {
			return "", finding{err}
		}
		return fmt.Sprintf("%d keys deleted", len(b.used)), nil
	},
}
