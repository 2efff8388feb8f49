// Package inspect describes what a store does to the objects of a bucket by
// itself: lifecycle rules, versions, locks. The cloud drivers read these settings,
// and "berth check" reports those that do not suit berth.
package inspect

import (
	"strings"
	"time"
)

// Settings are the settings of one bucket. Each cloud driver has a function
// Inspect that reads them. No other call needs them, or the permissions for
// reading them.
type Settings struct {
	// Lifecycle holds the rules that apply to keys of this bucket.
	Lifecycle Setting[[]Rule]

	// Versioning reports whether replaced and deleted objects stay as versions.
	Versioning Setting[bool]

	// Suspended reports whether versioning was on before and is off now: versions
	// from before stay, and deletions leave markers. Versioning is false then.
	Suspended bool

	// SoftDelete is how long deleted objects are kept and charged for.
	SoftDelete Setting[time.Duration]

	// Tiering holds the rules, other than those of Lifecycle, by which the store
	// moves objects that were not read to tiers in which they must be restored.
	// For this setting and those that follow, the zero Setting means that the
	// store does not have it.
	Tiering Setting[[]Rule]

	// Lock is the lock on versions of objects.
	Lock Setting[Lock]

	// Payment reports whether requests by another account than the bucket's must
	// name that account as the payer, and berth's requests do not.
	Payment Setting[bool]

	// Retention is how long new objects can be neither replaced nor deleted.
	Retention Setting[time.Duration]

	// Held reports whether new objects can be neither replaced nor deleted until
	// an operator releases them.
	Held Setting[bool]

	// RequesterPays reports whether every request must name a project that pays.
	RequesterPays Setting[bool]

	// Hierarchical reports whether the store keeps a folder for each "/" in a key,
	// and keeps it when the objects in it are gone.
	Hierarchical Setting[bool]

	// PartsAreObjects reports whether the parts of an upload are objects under
	// PartsPrefix until it is completed. Rules apply to them as to other objects.
	PartsAreObjects bool

	// PartsKept is how long after its last part the store keeps an upload that is
	// not completed. Zero means forever.
	PartsKept time.Duration
}

// Setting is one setting of a store. Value is valid only if Err is nil.
type Setting[T any] struct {
	Value T

	// Err is the reason why Value is unknown. It is errors.ErrUnsupported if the
	// store does not have the setting, or does not return it to clients.
	Err error

	// Permission is the vendor's name of the permission to read the setting.
	Permission string
}

// Lock describes a lock on the versions of objects (S3 Object Lock).
type Lock struct {
	Enabled   bool
	Retention time.Duration // of new versions; zero for none
	Unchecked bool          // berth's writes have no checksum, which such a bucket requires
}

// RuleAction is the effect of a Rule.
type RuleAction string

// The actions that matter to berth.
const (
	RuleExpire       RuleAction = "expire"        // deletes objects
	RuleArchive      RuleAction = "archive"       // moves objects to a class in which they must be restored before they can be read
	RuleCool         RuleAction = "cool"          // moves objects to a class in which reading costs more
	RuleAbortUploads RuleAction = "abort-uploads" // drops multipart uploads that were not completed
	RuleDropVersions RuleAction = "drop-versions" // deletes versions of objects that were replaced or deleted
)

// Rule is a rule that the store applies to objects, uploads or versions of a
// certain age. Inspect leaves out disabled rules, and rules that cannot match any
// of berth's keys.
type Rule struct {
	ID     string // the name for operators; may be empty
	Action RuleAction
	Prefix string        // of the keys that it applies to; empty for all
	Age    time.Duration // zero if it applies immediately, or on a date
	Class  string        // the class to which RuleArchive and RuleCool move objects

	// Narrowed reports whether the rule has conditions besides prefix and age, so
	// that it may apply to only some of these objects.
	Narrowed bool
}

// Touches reports whether the rule may apply to some keys with this prefix.
func (r Rule) Touches(prefix string) bool {
	return strings.HasPrefix(r.Prefix, prefix) || strings.HasPrefix(prefix, r.Prefix)
}

// Covers reports whether the rule applies to all keys with this prefix.
func (r Rule) Covers(prefix string) bool {
	return !r.Narrowed && strings.HasPrefix(prefix, r.Prefix)
}

// RulePrefix converts the prefix of a rule, which refers to names in the bucket,
// to a prefix of berth's keys, which come after bucketPrefix in those names. It
// returns false if the rule applies to none of berth's keys.
func RulePrefix(bucketPrefix, rulePrefix string) (prefix string, ok bool) {
	if strings.HasPrefix(bucketPrefix, rulePrefix) {
		return "", true
	}
	return strings.CutPrefix(rulePrefix, bucketPrefix)
}
