// Package check tests in steps whether berth can use a bucket: the bucket itself
// (Run), its settings (Settings), its signed URLs (Presigned) and the CDNs in
// front of it (Redirects). It uses an open bucket only through the driver's
// contract, creates objects only under keys that nothing else uses, and deletes
// them at the end. It can run beside live traffic.
package check

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
)

// Status is the outcome of a step.
type Status string

const (
	// OK means that the bucket has the property that the step tests.
	OK Status = "ok"

	// Failed means that it does not, so berth must not use the bucket.
	Failed Status = "failed"

	// Warning means that berth works, but not as well as it could.
	Warning Status = "warning"

	// Skipped means that the store does not have the feature, and that berth
	// does not need it.
	Skipped Status = "skipped"

	// Busy means that the store was throttling or unavailable, so the step has
	// no outcome.
	Busy Status = "busy"
)

// Result is the result of one step.
type Result struct {
	Step   string `json:"step"`
	Status Status `json:"status"`
	Detail string `json:"detail,omitempty"` // what the step found

	// Impact is the consequence for berth, and Fix is what to do about it. Both
	// are empty if Status is OK or Skipped.
	Impact string `json:"impact,omitempty"`
	Fix    string `json:"fix,omitempty"`
}

// Passed reports whether no result is Failed or Busy.
func Passed(results []Result) bool {
	return !slices.ContainsFunc(results, func(r Result) bool { return r.Status == Failed || r.Status == Busy })
}

const (
	stepTimeout  = 2 * time.Minute  // for one step
	fetchTimeout = 30 * time.Second // for one request by URL
)

// step tests one property of the bucket. run returns a description of what it
// found. Its error is a warning if berth works anyway, a skipped if the step has
// nothing to test, and errors.ErrUnsupported if the store does not have the
// feature.
type step struct {
	name   string
	impact string
	fix    string
	needs  []permissions
	run    func(ctx context.Context, b *run) (string, error)
}

// warning is an error that berth can work with.
type warning struct {
	error
}

// skipped is the reason that a step has nothing to test.
type skipped struct {
	error
}

// run is the bucket under test and the state that the steps of a run share.
type run struct {
	drivers.Bucket
	through []drivers.Bucket // the same bucket, opened by further endpoints
	driver  string           // selects the permissions in results; none if it is empty
	client  *http.Client     // sends no credentials
	root    string           // prefix of this run's keys, except those under data/
	used    []string         // keys to delete at the end
	uploads []drivers.Upload // to abort at the end

	completed drivers.Upload // zero if no step has completed one
}

func newRun(bucket drivers.Bucket, driver string) *run {
	return &run{
		Bucket: bucket,
		driver: driver,
		client: &http.Client{Timeout: fetchTimeout, Transport: &http.Transport{
			Proxy:             http.ProxyFromEnvironment,
			DisableKeepAlives: true, // each request stands for another client
		}},
		root: catalog.CheckPrefix + rand.Text() + "/",
	}
}

// at returns the bucket as opened through endpoint i modulo the number of
// endpoints.
func (b *run) at(i int) drivers.Bucket {
	if i %= b.endpoints(); i > 0 {
		return b.through[i-1]
	}
	return b.Bucket
}

func (b *run) endpoints() int { return 1 + len(b.through) }

// key returns a key that no other run uses. cleanUp deletes it.
func (b *run) key(name string) string {
	k := b.root + name
	b.used = append(b.used, k)
	return k
}

// dataKey returns a key for the bytes of a blob, so that the store uses the
// storage class of blobs. cleanUp deletes it. If this process dies first, the
// collector deletes the object, because the key contains the digest of content.
func (b *run) dataKey(content []byte) string {
	k := catalog.NewDataKey(digest.FromBytes(content))
	b.used = append(b.used, k)
	return k
}

// upload starts an upload. cleanUp aborts it, even if it is completed by then.
func (b *run) upload(ctx context.Context, key string) (drivers.Upload, error) {
	u, err := b.StartUpload(ctx, key)
	if err == nil {
		b.uploads = append(b.uploads, u)
	}
	return u, err
}

// Opened returns the result of opening the bucket, the first step. err is the
// error of the driver's Open, which names the setting to fix.
func Opened(err error) Result {
	this := step{
		name:   "open",
		impact: "Nothing works: berth serve fails with the same error.",
		fix:    "Correct the setting that the error names.",
	}
	return this.result("reachable; enforces create-only writes and compare-and-swap", err)
}

// Run runs all steps, even after a step has failed, deletes their objects and
// returns the results. driver is the name of the driver. It selects the
// permissions in results and the exceptions for the driver's store. through is
// the same bucket opened through further endpoints, which races and listings use
// too.
func Run(ctx context.Context, bucket drivers.Bucket, driver string, through ...drivers.Bucket) []Result {
	b := newRun(bucket, driver)
	b.through = through
	var results []Result
	for _, s := range steps {
		results = append(results, s.execute(ctx, b))
	}
	return append(results, cleanUp.execute(context.WithoutCancel(ctx), b))
}

// execute runs the step and returns its result.
func (s step) execute(ctx context.Context, b *run) Result {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	found, err := s.run(ctx, b)
	return s.result(found, err, names(b.driver, s.needs)...)
}

// result returns the result of a step that found this or returned this error. The
// step needs these permissions.
func (s step) result(found string, err error, permissions ...string) Result {
	r := Result{Step: s.name, Status: OK, Detail: found}
	_, isWarning := errors.AsType[warning](err)
	reason, isSkipped := errors.AsType[skipped](err)
	switch {
	case err == nil:
		return r
	case isSkipped:
		return Result{Step: s.name, Status: Skipped, Detail: reason.Error()}
	case errors.Is(err, errors.ErrUnsupported):
		return Result{Step: s.name, Status: Skipped, Detail: "the store does not have this feature, and berth does not need it"}
	case isWarning:
		r.Status = Warning
	case errors.Is(err, drivers.ErrBusy):
		return Result{
			Step: s.name, Status: Busy, Detail: err.Error(),
			Impact: "Unknown, because the store was busy or down. At worst: " + lower(s.impact),
			Fix:    "Run berth check again when the store is up and less busy.",
		}
	default:
		r.Status = Failed
	}
	r.Detail, r.Impact, r.Fix = err.Error(), s.impact, s.fix+sentence(permissions)
	return r
}

var cleanUp = step{
	name:   "clean up",
	impact: "A few small objects under meta/check/ and data/, or the parts of an upload, stay in the bucket.",
	fix:    "Allow deleting objects and aborting uploads. The collector needs both too.",
	needs:  []permissions{toAbort, toDeleteMany},
	run: func(ctx context.Context, b *run) (string, error) {
		var failed error
		for _, u := range b.uploads {
			failed = cmp.Or(failed, b.Abort(ctx, u))
		}
		if failed = cmp.Or(failed, b.Delete(ctx, b.used...)); failed != nil {
			return "", warning{failed}
		}
		return fmt.Sprintf("%d keys deleted", len(b.used)), nil
	},
}
