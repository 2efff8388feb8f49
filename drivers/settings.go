package drivers

import (
	"strings"
	"time"
)

// Settings are what a store is set to do with the objects of a bucket by
// itself. Each driver of a cloud has a function Inspect that reads them; no
// other call needs them, or the permissions that reading them takes.
type Settings struct {
	// Lifecycle are the rules that touch keys of this bucket.
	Lifecycle Setting[[]Rule]

	// Versioning is whether replaced and deleted objects stay as versions.
	Versioning Setting[bool]

	// SoftDelete is how long what was deleted is kept, and paid for.
	SoftDelete Setting[time.Duration]

	// PartsAreObjects says that the parts of an upload are objects under
	// PartsPrefix until it is completed, to which rules apply as to others.
	PartsAreObjects bool

	// PartsKept is how long after the last part the store drops an upload that
	// nobody completes; zero if it keeps it for good.
	PartsKept time.Duration
}

// Setting is one that was asked for. Value counts only if Err is nil.
type Setting[T any] struct {
	Value T

	// Err says why Value is not known. It is an errors.ErrUnsupported if the
	// store has no such setting, or none that a client of its objects can see.
	Err error

	// Permission is what reading it takes, by the vendor's name.
	Permission string
}

// RuleAction is what a Rule does.
type RuleAction string

// The actions that matter to berth.
const (
	RuleExpire       RuleAction = "expire"        // deletes objects
	RuleArchive      RuleAction = "archive"       // moves them to where nobody reads them until they are restored
	RuleCool         RuleAction = "cool"          // moves them to where reading them costs more
	RuleAbortUploads RuleAction = "abort-uploads" // drops multipart uploads that were not completed
	RuleDropVersions RuleAction = "drop-versions" // deletes versions of objects that were replaced or deleted
)

// Rule is one that the store applies to objects, uploads or versions of some
// age. Rules that are switched off, or can't match anything that berth writes,
// are not given.
type Rule struct {
	ID     string // as people know it; may be empty
	Action RuleAction
	Prefix string        // of the keys that it applies to, all if empty
	Age    time.Duration // zero for at once, and for a date
	Class  string        // where RuleArchive and RuleCool move objects to

	// Narrowed says that there are more conditions than prefix and age, so that
	// it may apply to some of these objects only.
	Narrowed bool
}

// Touches says whether the rule applies to any keys with this prefix.
func (r Rule) Touches(prefix string) bool {
	return strings.HasPrefix(r.Prefix, prefix) || strings.HasPrefix(prefix, r.Prefix)
}

// Covers says whether the rule applies to all keys with this prefix.
func (r Rule) Covers(prefix string) bool {
	return !r.Narrowed && strings.HasPrefix(prefix, r.Prefix)
}

// RulePrefix is the prefix of keys that a rule applies to whose own prefix is of
// names in a bucket where names begin with bucketPrefix. It reports false if
// the rule applies to no key.
func RulePrefix(bucketPrefix, rulePrefix string) (prefix string, ok bool) {
	if strings.HasPrefix(bucketPrefix, rulePrefix) {
		return "", true
	}
	return strings.CutPrefix(rulePrefix, bucketPrefix)
}
