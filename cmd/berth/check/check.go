// Package check proves, step by step, that a bucket does what berth needs of
// it: the bucket itself (Run), what it is set to do by itself (Settings), and
// the CDNs before it (Redirects). It works on an open bucket through the
// driver's contract alone, under keys of its own that it deletes again, and can
// run beside live traffic.
package check

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
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

	// Busy says that the store throttles or is unavailable, so that nothing is
	// known.
	Busy Status = "busy"
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

// Passed says that no step failed, and none found the store busy.
func Passed(results []Result) bool {
	return !slices.ContainsFunc(results, func(r Result) bool { return r.Status == Failed || r.Status == Busy })
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
	needs  []permissions
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
	through []drivers.Bucket // the same bucket, by further endpoints
	driver  string           // empty where no permissions are named
	client  *http.Client     // without any credentials
	root    string           // of the keys of this run but those under data/
	used    []string
	uploads []drivers.Upload

	completed drivers.Upload // by a step, if any
}

// checkPrefix begins all keys but those under data/.
const checkPrefix = "meta/check/"

func newBench(bucket drivers.Bucket, driver string) *bench {
	return &bench{
		Bucket: bucket,
		driver: driver,
		client: &http.Client{Timeout: fetchTimeout, Transport: &http.Transport{
			Proxy:             http.ProxyFromEnvironment,
			DisableKeepAlives: true, // each request stands for another client
		}},
		root: checkPrefix + rand.Text() + "/",
	}
}

// at returns the bucket by one of the endpoints, in turn.
func (b *bench) at(i int) drivers.Bucket {
	if i %= b.endpoints(); i > 0 {
		return b.through[i-1]
	}
	return b.Bucket
}

func (b *bench) endpoints() int { return 1 + len(b.through) }

// key makes a key that no other run uses, and has it deleted at the end.
func (b *bench) key(name string) string {
	k := b.root + name
	b.used = append(b.used, k)
	return k
}

// dataKey makes the key of a blob with this content, by which the store gives
// it the class of blobs, and has it deleted at the end. It is that of bytes
// whose digest was known before they were stored, so that the collector takes
// it if it is left behind.
func (b *bench) dataKey(content []byte) string {
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	var id [16]byte
	rand.Read(id[:])
	k := drivers.BulkPrefix + "sha256/" + digest[:2] + "/" + digest + "/" + hex.EncodeToString(id[:])
	b.used = append(b.used, k)
	return k
}

// upload begins an upload, and has it aborted at the end, completed or not.
func (b *bench) upload(ctx context.Context, key string) (drivers.Upload, error) {
	u, err := b.StartUpload(ctx, key)
	if err == nil {
		b.uploads = append(b.uploads, u)
	}
	return u, err
}

// Opened is the result of opening the bucket, before all other steps. The error
// of a driver names the setting that mends it.
func Opened(err error) Result {
	this := step{
		name:   "open",
		breaks: "Nothing works: berth serve ends with the same error.",
		mend:   "Look at the setting that the error names.",
	}
	return this.result("reachable, and keeps to create-only and compare-and-swap", err)
}

// Run takes all steps, also after one failed, and cleans up. driver is the name
// of the driver, for the permissions that are named and for what its store does
// by itself. through is the same bucket, opened by further endpoints: races are
// run, and listings read, by all of them.
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

// result is what a step found. The permissions are those that the step takes.
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
