package check

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/inspect"
)

// Lifetimes are the times for which berth needs what an upload has stored.
type Lifetimes struct {
	Session time.Duration // upload.session_lifetime
	Request time.Duration // limits.request; a request can outlive its session
}

// Settings returns the results for settings of a bucket. A setting fails if it
// would lose blobs or uploads. It is a warning if it costs money or could not be
// read.
func Settings(s inspect.Settings, l Lifetimes) []Result {
	results := []Result{
		abandonedUploads(s, l),
		keptObjects(s),
		versions(s),
		softDelete(s),
	}
	return append(append(results, obstacles(s)...), ofS3(s)...)
}

// unread returns the result of a step with a setting that could not be read.
func unread[T any](s step, setting inspect.Setting[T]) Result {
	if errors.Is(setting.Err, errors.ErrUnsupported) {
		return Result{Step: s.name, Status: Skipped, Detail: strings.TrimPrefix(setting.Err.Error(), errors.ErrUnsupported.Error()+": ")}
	}
	s.breaks = "Nothing by itself, but nobody has looked: " + lower(s.breaks)
	s.mend = "Let berth check read the setting, or look yourself: " + lower(s.mend)
	return s.result("", finding{fmt.Errorf("can't be read: %w", setting.Err)}, setting.Permission)
}

func lower(sentence string) string { return strings.ToLower(sentence[:1]) + sentence[1:] }

// abandonedUploads checks that the store drops uploads that no client completes,
// but only when berth no longer needs them.
func abandonedUploads(s inspect.Settings, l Lifetimes) Result {
	this := step{
		name:   "abandoned uploads",
		breaks: "The parts of uploads that nobody completes are stored and paid for until berth's collector finds them.",
		mend: fmt.Sprintf("Add a lifecycle rule that aborts incomplete multipart uploads after %d days (AbortIncompleteMultipartUpload). "+
			"Other stores than Amazon's may drop uploads by a setting of their own, which can't be read here and must leave them "+
			"upload.session_lifetime (MinIO: api stale_uploads_expiry, 24h by default).", days(l.Session+l.Request)+2),
	}
	if s.PartsAreObjects {
		this.mend = fmt.Sprintf("Add a lifecycle rule that deletes objects under %s (after storage.prefix) of an age of %d days.", drivers.PartsPrefix, days(l.Session+l.Request)+2)
	}
	short := this
	short.breaks = "Uploads that are not done lose what they have sent."
	short.mend = "Make the rule wait for longer than upload.session_lifetime and limits.request together, or leave out what berth stores."

	dropped := "" // what drops them, and when
	if s.PartsKept > 0 {
		if s.PartsKept < l.Session {
			short.mend = "Set upload.session_lifetime to less."
			return short.result("", fmt.Errorf("the store drops parts %s, and uploads live %v", after(s.PartsKept), l.Session))
		}
		dropped = fmt.Sprintf("the store drops their parts %s", after(s.PartsKept))
	}
	for _, r := range s.Lifecycle.Value {
		drops := r.Action == inspect.RuleAbortUploads
		where := drivers.BulkPrefix
		if s.PartsAreObjects {
			drops, where = r.Action == inspect.RuleExpire, drivers.PartsPrefix
		}
		// Parts of different classes cannot be composed.
		ends := drops || s.PartsAreObjects && r.Action == inspect.RuleCool
		switch {
		case !ends || !r.Touches(where):
		case r.Age < l.Session:
			return short.result("", fmt.Errorf("%s ends uploads %s, and they live %v", title(r), after(r.Age), l.Session))
		case r.Age < l.Session+l.Request:
			return short.result("", finding{fmt.Errorf("%s ends uploads %s, and their last request may end %v later than their %v",
				title(r), after(r.Age), l.Request, l.Session)})
		case drops && r.Covers(where):
			dropped = fmt.Sprintf("%s drops them %s", title(r), after(r.Age))
		}
	}
	switch {
	case dropped != "":
		return this.result(dropped, nil)
	case s.Lifecycle.Err != nil:
		return unread(this, s.Lifecycle)
	default:
		return this.result("", finding{errors.New("no lifecycle rule drops them")})
	}
}

// isOurs reports whether a rule may apply to keys that berth needs. A bucket can
// have rules for other keys, and no process needs what check leaves behind.
func isOurs(r inspect.Rule) bool {
	ours := []string{catalog.AliasesPrefix, catalog.BlobsPrefix, catalog.MetaPrefix, catalog.UploadsPrefix, drivers.BulkPrefix, drivers.PartsPrefix}
	return slices.ContainsFunc(ours, r.Touches) && !strings.HasPrefix(r.Prefix, catalog.CheckPrefix)
}

// keptObjects checks that no rule deletes or archives what berth has stored.
func keptObjects(s inspect.Settings) Result {
	this := step{
		name:   "lifecycle rules",
		breaks: "Blobs vanish, or their records do, while repositories still name them.",
		mend:   "Narrow the rule to a prefix that berth does not use, or delete it: only berth knows what is unused.",
	}
	if s.Lifecycle.Err != nil {
		return unread(this, s.Lifecycle)
	}
	cool := ""
	for _, r := range s.Lifecycle.Value {
		switch {
		case !isOurs(r):
		case s.PartsAreObjects && strings.HasPrefix(r.Prefix, drivers.PartsPrefix): // see abandonedUploads
		case r.Action == inspect.RuleExpire:
			return this.result("", fmt.Errorf("%s deletes objects%s %s", title(r), under(r), after(r.Age)))
		case r.Action == inspect.RuleArchive:
			this.breaks = "Blobs that old, or their records, can't be read until somebody restores them."
			this.mend = "Move objects to a class that is read at once, or leave the rule out."
			return this.result("", fmt.Errorf("%s moves objects%s to %s %s", title(r), under(r), r.Class, after(r.Age)))
		case r.Action == inspect.RuleCool && !strings.HasPrefix(r.Prefix, drivers.BulkPrefix):
			cool = fmt.Sprintf("%s moves all%s to %s %s", title(r), under(r), r.Class, after(r.Age))
		}
	}
	if cool != "" {
		this.breaks = "Nothing, but records are small and read all the time, and each read of one costs more there."
		this.mend = fmt.Sprintf("Narrow the rule to the prefix %s.", drivers.BulkPrefix)
		return this.result("", finding{errors.New(cool)})
	}
	return this.result("none takes what is in use", nil)
}

// versions checks that the bucket keeps no versions, or has a rule that drops
// them. berth tracks itself what is in use, and never reads an old version.
func versions(s inspect.Settings) Result {
	this := step{
		name:   "versions",
		breaks: "Nothing, but what berth replaces and deletes stays, and is paid for.",
		mend: "Switch versioning off, or add a lifecycle rule that drops versions which are not current " +
			"(NoncurrentVersionExpiration, daysSinceNoncurrentTime, or version.delete of a management policy).",
	}
	if s.Versioning.Err != nil {
		return unread(this, s.Versioning)
	}
	kept := "they are kept"
	switch {
	case s.Suspended:
		kept = "versioning is suspended: versions from before are kept, and deletions leave markers"
	case !s.Versioning.Value:
		return this.result("none are kept", nil)
	}
	for _, r := range s.Lifecycle.Value {
		if r.Action == inspect.RuleDropVersions && r.Covers("") {
			return this.result(fmt.Sprintf("%s drops them %s", title(r), after(r.Age)), nil)
		}
	}
	if s.Lifecycle.Err != nil {
		return this.result("", finding{errors.New(kept + "; whether a rule drops them can't be read")}, s.Lifecycle.Permission)
	}
	return this.result("", finding{errors.New(kept + ", and no lifecycle rule drops all of them")})
}

func softDelete(s inspect.Settings) Result {
	this := step{
		name:   "soft delete",
		breaks: "Nothing, but what berth replaces and deletes is paid for that much longer.",
		mend:   "Switch soft delete off, or shorten it, unless you want it against accidents.",
	}
	if s.PartsAreObjects {
		// Sources that a compose deletes are neither kept nor charged for:
		// https://cloud.google.com/storage/docs/composite-objects.
		this.breaks = "Nothing, but the parts of aborted uploads, replaced records and deleted blobs are paid for that much longer. " +
			"Parts that a blob was composed of are not kept."
	}
	switch kept := s.SoftDelete.Value; {
	case s.SoftDelete.Err != nil:
		return unread(this, s.SoftDelete)
	case kept > 0:
		return this.result("", finding{fmt.Errorf("what is deleted is kept for %d more days", days(kept))})
	default:
		return this.result("off", nil)
	}
}

func title(r inspect.Rule) string {
	if r.ID == "" {
		return "a lifecycle rule"
	}
	return fmt.Sprintf("the lifecycle rule %q", r.ID)
}

func under(r inspect.Rule) string {
	if r.Prefix == "" {
		return ""
	}
	return " under " + r.Prefix
}

// after returns a phrase for the age at which a rule acts.
func after(age time.Duration) string {
	switch n := days(age); n {
	case 0:
		return "at once"
	case 1:
		return "after a day"
	default:
		return fmt.Sprintf("after %d days", n)
	}
}

// days returns a time in days, rounded up.
func days(d time.Duration) int {
	const day = 24 * time.Hour
	return int((d + day - 1) / day)
}
