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

// Lifetimes limit how long berth needs the parts of an upload.
type Lifetimes struct {
	Session time.Duration // upload.session_lifetime
	Request time.Duration // limits.request; a request can outlive its session
}

// Settings returns the results for the settings of a bucket. A setting has failed
// if blobs or uploads would be lost. It is a warning if it costs money or could
// not be read.
func Settings(s inspect.Settings, l Lifetimes) []Result {
	results := []Result{
		abandonedUploads(s, l),
		keptObjects(s),
		versions(s),
		softDelete(s),
	}
	return append(append(results, obstacles(s)...), ofS3(s)...)
}

// unread returns the result of a step for a setting that could not be read.
func unread[T any](s step, setting inspect.Setting[T]) Result {
	if errors.Is(setting.Err, errors.ErrUnsupported) {
		return Result{Step: s.name, Status: Skipped, Detail: strings.TrimPrefix(setting.Err.Error(), errors.ErrUnsupported.Error()+": ")}
	}
	s.impact = "Unknown, because the setting was not read. At worst: " + lower(s.impact)
	s.fix = "Grant berth check the permission to read the setting, or check it yourself. If it is wrong: " + lower(s.fix)
	return s.result("", warning{fmt.Errorf("cannot be read: %w", setting.Err)}, setting.Permission)
}

// lower returns a sentence that starts with a lower case letter.
func lower(sentence string) string { return strings.ToLower(sentence[:1]) + sentence[1:] }

// abandonedUploads checks that the store deletes uploads that no client completes,
// but not before berth stops needing them.
func abandonedUploads(s inspect.Settings, l Lifetimes) Result {
	this := step{
		name:   "abandoned uploads",
		impact: "The parts of uploads that no client completes cost money until berth's collector finds them.",
		fix: fmt.Sprintf("Add a lifecycle rule that aborts incomplete multipart uploads after %d days (AbortIncompleteMultipartUpload). "+
			"Stores other than Amazon S3 may delete uploads by a setting that berth check can't read. It must keep them for at least "+
			"upload.session_lifetime (MinIO: api stale_uploads_expiry, 24h by default).", days(l.Session+l.Request)+2),
	}
	if s.PartsAreObjects {
		this.fix = fmt.Sprintf("Add a lifecycle rule that deletes objects under %s (after storage.prefix) at an age of %d days.", drivers.PartsPrefix, days(l.Session+l.Request)+2)
	}
	short := this
	short.impact = "Uploads in progress lose the bytes that clients have sent."
	short.fix = "Increase the age in the rule to more than upload.session_lifetime plus limits.request, or exclude berth's objects from the rule."

	deletedBy := "" // what deletes abandoned uploads, and when
	if s.PartsKept > 0 {
		if s.PartsKept < l.Session {
			short.fix = "Reduce upload.session_lifetime."
			return short.result("", fmt.Errorf("the store deletes parts %s, but uploads live for %v", after(s.PartsKept), l.Session))
		}
		deletedBy = fmt.Sprintf("the store deletes their parts %s", after(s.PartsKept))
	}
	for _, r := range s.Lifecycle.Value {
		ends, deletesAll := effectOnUploads(r, s.PartsAreObjects)
		switch {
		case !ends:
		case r.Age < l.Session:
			return short.result("", fmt.Errorf("%s ends uploads %s, but they live for %v", title(r), after(r.Age), l.Session))
		case r.Age < l.Session+l.Request:
			return short.result("", warning{fmt.Errorf("%s ends uploads %s, but their last request may run until %v after their lifetime of %v",
				title(r), after(r.Age), l.Request, l.Session)})
		case deletesAll:
			deletedBy = fmt.Sprintf("%s deletes them %s", title(r), after(r.Age))
		}
	}
	switch {
	case deletedBy != "":
		return this.result(deletedBy, nil)
	case s.Lifecycle.Err != nil:
		return unread(this, s.Lifecycle)
	default:
		return this.result("", warning{errors.New("no lifecycle rule deletes them")})
	}
}

// effectOnUploads reports whether a rule ends uploads in progress, and whether it
// deletes all abandoned uploads.
func effectOnUploads(r inspect.Rule, partsAreObjects bool) (ends, deletesAll bool) {
	deletes, prefix := r.Action == inspect.RuleAbortUploads, drivers.BulkPrefix
	if partsAreObjects {
		deletes, prefix = r.Action == inspect.RuleExpire, drivers.PartsPrefix
	}
	// Parts of different classes cannot be composed.
	ends = deletes || partsAreObjects && r.Action == inspect.RuleCool
	return ends && r.Touches(prefix), deletes && r.Covers(prefix)
}

// isOurs reports whether a rule can apply to keys that berth needs. Rules for
// other keys are fine, and so are rules for objects that a killed berth check leaves.
func isOurs(r inspect.Rule) bool {
	ours := []string{catalog.AliasesPrefix, catalog.BlobsPrefix, catalog.MetaPrefix, catalog.UploadsPrefix, drivers.BulkPrefix, drivers.PartsPrefix}
	return slices.ContainsFunc(ours, r.Touches) && !strings.HasPrefix(r.Prefix, catalog.CheckPrefix)
}

// keptObjects checks that no rule deletes or archives berth's objects.
func keptObjects(s inspect.Settings) Result {
	this := step{
		name:   "lifecycle rules",
		impact: "Blobs or their records disappear while repositories still link to them.",
		fix:    "Restrict the rule to a prefix that berth does not use, or delete it. Only berth can tell which blobs are unused.",
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
			this.impact = "Blobs of that age, or their records, can't be read until an operator restores them."
			this.fix = "Move objects to a class that can be read immediately, or delete the rule."
			return this.result("", fmt.Errorf("%s moves objects%s to %s %s", title(r), under(r), r.Class, after(r.Age)))
		case r.Action == inspect.RuleCool && !strings.HasPrefix(r.Prefix, drivers.BulkPrefix):
			cool = fmt.Sprintf("%s moves all objects%s to %s %s", title(r), under(r), r.Class, after(r.Age))
		}
	}
	if cool != "" {
		this.impact = "Higher costs: records are small and read often, and each read costs more in that class."
		this.fix = fmt.Sprintf("Restrict the rule to the prefix %s.", drivers.BulkPrefix)
		return this.result("", warning{errors.New(cool)})
	}
	return this.result("none affects objects that berth uses", nil)
}

// versions checks that the bucket keeps no versions, or has a rule that deletes
// them. berth never reads an old version.
func versions(s inspect.Settings) Result {
	this := step{
		name:   "versions",
		impact: "Higher costs: objects that berth replaces or deletes stay as old versions.",
		fix: "Switch versioning off, or add a lifecycle rule that deletes noncurrent versions " +
			"(NoncurrentVersionExpiration, daysSinceNoncurrentTime, or version.delete of a management policy).",
	}
	if s.Versioning.Err != nil {
		return unread(this, s.Versioning)
	}
	kept := "old versions are kept"
	switch {
	case s.Suspended:
		kept = "versioning is suspended: older versions are kept, and deletions leave markers"
	case !s.Versioning.Value:
		return this.result("off", nil)
	}
	for _, r := range s.Lifecycle.Value {
		if r.Action == inspect.RuleDropVersions && r.Covers("") {
			return this.result(fmt.Sprintf("%s deletes them %s", title(r), after(r.Age)), nil)
		}
	}
	if s.Lifecycle.Err != nil {
		return this.result("", warning{errors.New(kept + "; whether a rule deletes them cannot be read")}, s.Lifecycle.Permission)
	}
	return this.result("", warning{errors.New(kept + ", and no lifecycle rule deletes all of them")})
}

// softDelete checks that deleted objects are not kept.
func softDelete(s inspect.Settings) Result {
	this := step{
		name:   "soft delete",
		impact: "Higher costs: objects that berth replaces or deletes are kept, and charged for, during that time.",
		fix:    "Switch soft delete off or shorten it, unless you want it as a protection against accidents.",
	}
	if s.PartsAreObjects {
		// Sources that a compose deletes are neither kept nor charged for:
		// https://cloud.google.com/storage/docs/composite-objects.
		this.impact = "Higher costs: parts of aborted uploads, replaced records and deleted blobs are kept, and charged for, during that time. " +
			"Parts that a blob was composed of are not kept."
	}
	switch kept := s.SoftDelete.Value; {
	case s.SoftDelete.Err != nil:
		return unread(this, s.SoftDelete)
	case kept > 0:
		return this.result("", warning{fmt.Errorf("deleted objects are kept for %d more days", days(kept))})
	default:
		return this.result("off", nil)
	}
}

// title returns a phrase for a rule.
func title(r inspect.Rule) string {
	if r.ID == "" {
		return "a lifecycle rule"
	}
	return fmt.Sprintf("the lifecycle rule %q", r.ID)
}

// under returns a phrase for the prefix of a rule.
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
		return "immediately"
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
