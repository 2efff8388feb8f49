// Package check tests, step by step, whether berth can use a bucket: the bucket
// itself (Run), its settings (Settings), and the CDNs in front of it
// (Redirects). It uses an open bucket only through the driver's contract, under
// keys of its own that it deletes at the end, and can run beside live traffic.
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
	// OK is the status if the bucket does what the step needs.
	OK Status = "ok"

	// Failed is the status if the bucket does not, so that berth must not be
	// used on it.
	Failed Status = "failed"

	// Warning is the status if berth works, but not as well as it could.
	Warning Status = "warning"

	// Skipped is the status if the store has no such feature, and berth does not
	// need it.
	Skipped Status = "skipped"

	// Busy is the status if the store throttles or is unavailable, so that the
	// step has no outcome.
	Busy Status = "busy"
)

// Result is the result of one step.
type Result struct {
	Step   string `json:"step"`
	Status Status `json:"status"`
	Detail string `json:"detail,omitempty"` // what the step found

	// Breaks is the consequence for berth, and Mend the way to fix it, of a step
	// that failed, warns or found the store busy.
	Breaks string `json:"breaks,omitempty"`
	Mend   string `json:"mend,omitempty"`
}

// Passed reports whether no step failed and none found the store busy.
func Passed(results []Result) bool {
	return !slices.ContainsFunc(results, func(r Result) bool { return r.Status == Failed || r.Status == Busy })
}

const (
	stepTimeout  = 2 * time.Minute  // for one step
	fetchTimeout = 30 * time.Second // for one request by URL
)

// step is one property to test. run returns a description of what it found. It
// returns a finding for a warning, and errors.ErrUnsupported if the store has no
// such feature.
type step struct {
	name   string
	breaks string
	mend   string
	needs  []permissions
	run    func(ctx context.Context, b *bench) (string, error)
}

// finding is an error that results in a warning: berth works in spite of it.
type finding struct {
	error
}

// skipped is the reason why a step has nothing to test.
type skipped struct {
	error
}

// bench is the bucket under test, with the state that steps share.
type bench struct {
	drivers.Bucket
	through []drivers.Bucket // the same bucket, opened by further endpoints
	driver  string           // empty if results name no permissions
	client  *http.Client     // without any credentials
	root    string           // prefix of this run's keys, except those under data/
	used    []string
	uploads []drivers.Upload

	completed drivers.Upload // by a step, if any
}

func newBench(bucket drivers.Bucket, driver string) *bench {
	return &bench{
		Bucket: bucket,
		driver: driver,
		client: &http.Client{Timeout: fetchTimeout, Transport: &http.Transport{
			Proxy:             http.ProxyFromEnvironment,
			DisableKeepAlives: true, // each request represents another client
		}},
		root: catalog.CheckPrefix + rand.Text() + "/",
	}
}

// at returns the bucket opened by endpoint i, modulo the number of endpoints.
func (b *bench) at(i int) drivers.Bucket {
	if i %= b.endpoints(); i > 0 {
		return b.through[i-1]
	}
	return b.Bucket
}

func (b *bench) endpoints() int { return 1 + len(b.through) }

// key returns a key that no other run uses. The last step deletes it.
func (b *bench) key(name string) string {
	k := b.root + name
	b.used = append(b.used, k)
	return k
}

// dataKey returns a key for a blob with this content, so that the store uses the
// storage class of blobs. The last step deletes it. The key has the form for
// bytes with a digest known before they were stored, so that the collector
// deletes the object if it is left behind.
func (b *bench) dataKey(content []byte) string {
	k := catalog.NewDataKey(digest.FromBytes(content))
	b.used = append(b.used, k)
	return k
}

// upload starts an upload. The last step aborts it, even if it is completed.
func (b *bench) upload(ctx context.Context, key string) (drivers.Upload, error) {
	u, err := b.StartUpload(ctx, key)
	if err == nil {
		b.uploads = append(b.uploads, u)
	}
	return u, err
}

// Opened returns the result of opening the bucket, before all other steps. The
// error of a driver names the setting to fix.
func Opened(err error) Result {
	this := step{
		name:   "open",
		breaks: "Nothing works: berth serve ends with the same error.",
		mend:   "Look at the setting that the error names.",
	}
	return this.result("reachable, and keeps to create-only and compare-and-swap", err)
}

// Run runs all steps, even after one failed, deletes what they left and returns
// their results. driver is the name of the driver; it selects the permissions
// that results name and the exceptions for its store. through is the same
// bucket, opened by further endpoints: races and listings use all of them.
func Run(ctx context.Context, bucket drivers.Bucket, driver string, through ...drivers.Bucket) []Result {
	b := newBench(bucket, driver)
	b.through = through
	var results []Result
	for _, s := range steps {
		results = append(results, s.take(ctx, b))
	}
	return append(results, cleanUp.take(context.WithoutCancel(ctx), b))
}

func (s step) take(ctx context.Context, b *bench) Result {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	seen, err := s.run(ctx, b)
	return s.result(seen, err, names(b.driver, s.needs)...)
}

// result returns the result of a step that needs these permissions.
func (s step) result(seen string, err error, permissions ...string) Result {
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
	case errors.Is(err, drivers.ErrBusy):
		return Result{
			Step: s.name, Status: Busy, Detail: err.Error(),
			Breaks: "Nothing is known, since the store was busy or down. At worst: " + lower(s.breaks),
			Mend:   "Run berth check again when the store is up, and has less to do.",
		}
	default:
		r.Status = Failed
	}
	r.Detail, r.Breaks, r.Mend = err.Error(), s.breaks, s.mend+sentence(permissions)
	return r
}

var cleanUp = step{
	name:   "clean up",
	breaks: "Nothing, but a few small objects under meta/check/ and data/, or the parts of an upload, stay in the bucket.",
	mend:   "Allow deleting and aborting; the collector needs them too.",
	needs:  []permissions{toAbort, toDeleteMany},
	run: func(ctx context.Context, b *bench) (string, error) {
		var failed error
		for _, u := range b.uploads {
			failed = cmp.Or(failed, b.Abort(ctx, u))
		}
		if failed = cmp.Or(failed, b.Delete(ctx, b.used...)); failed != nil {
			return "", finding{failed}
		}
		return fmt.Sprintf("%d keys deleted", len(b.used)), nil
	},
}
