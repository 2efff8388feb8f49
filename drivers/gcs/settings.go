package gcs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	raw "google.golang.org/api/storage/v1"

	"github.com/berthhq/berth/drivers/inspect"
)

// Inspect returns the bucket's settings. If the store refuses to return them,
// each setting has that error. Inspect itself returns an error only if cfg is
// not valid.
func Inspect(ctx context.Context, cfg Config) (inspect.Settings, error) {
	b, err := open(ctx, cfg)
	if err != nil {
		return inspect.Settings{}, fmt.Errorf("gcs: inspect: %w", err)
	}
	defer b.Close() //nolint:errcheck // it closes connections only
	attrs, err := b.store.raw.Buckets.Get(cfg.Bucket).Fields("lifecycle", "versioning", "softDeletePolicy",
		"retentionPolicy", "defaultEventBasedHold", "billing").Context(ctx).Do()
	if err != nil {
		if status(err) == http.StatusForbidden {
			err = errors.New("access is denied")
		} else {
			err = cfg.explain(cfg.classify(ctx, err, nil))
		}
		attrs = new(raw.Bucket)
	}
	const permission = "storage.buckets.get"
	s := inspect.Settings{
		Lifecycle:       inspect.Setting[[]inspect.Rule]{Err: err, Permission: permission},
		Versioning:      inspect.Setting[bool]{Err: err, Permission: permission, Value: attrs.Versioning != nil && attrs.Versioning.Enabled},
		SoftDelete:      inspect.Setting[time.Duration]{Err: err, Permission: permission},
		Retention:       inspect.Setting[time.Duration]{Err: err, Permission: permission},
		Held:            inspect.Setting[bool]{Err: err, Permission: permission, Value: attrs.DefaultEventBasedHold},
		RequesterPays:   inspect.Setting[bool]{Err: err, Permission: permission, Value: attrs.Billing != nil && attrs.Billing.RequesterPays},
		Hierarchical:    b.store.hierarchical(ctx),
		PartsAreObjects: true,
	}
	if p := attrs.SoftDeletePolicy; p != nil {
		s.SoftDelete.Value = time.Duration(p.RetentionDurationSeconds) * time.Second
	}
	if p := attrs.RetentionPolicy; p != nil {
		s.Retention.Value = time.Duration(p.RetentionPeriod) * time.Second
	}
	if attrs.Lifecycle != nil {
		for _, r := range attrs.Lifecycle.Rule {
			s.Lifecycle.Value = append(s.Lifecycle.Value, rulesOf(r, b.store.prefix)...)
		}
	}
	return s, nil
}

// rulesOf returns a rule of the bucket as one rule for each of its prefixes that
// can match keys after the bucket's own prefix.
// https://cloud.google.com/storage/docs/lifecycle
func rulesOf(r *raw.BucketLifecycleRule, bucketPrefix string) []inspect.Rule {
	rule, ok := ruleOf(r)
	if !ok {
		return nil
	}
	prefixes := r.Condition.MatchesPrefix
	if len(prefixes) == 0 {
		prefixes = []string{""}
	}
	var rules []inspect.Rule
	for _, p := range prefixes {
		if rule.Prefix, ok = inspect.RulePrefix(bucketPrefix, p); ok {
			rules = append(rules, rule)
		}
	}
	return rules
}

// ruleOf returns a rule of the bucket without its prefixes. It returns false if
// the rule never affects berth.
func ruleOf(r *raw.BucketLifecycleRule) (inspect.Rule, bool) {
	if r.Action == nil || r.Condition == nil {
		return inspect.Rule{}, false
	}
	c := r.Condition
	if c.DaysSinceCustomTime != 0 || c.CustomTimeBefore != "" {
		return inspect.Rule{}, false // berth never sets these times, so the conditions never hold
	}
	rule := inspect.Rule{Class: r.Action.StorageClass, Narrowed: isNarrowed(c)}
	const day = 24 * time.Hour
	if c.Age != nil {
		rule.Age = time.Duration(*c.Age) * day
	}
	switch action := r.Action.Type; {
	case action == "Delete" && isForNoncurrent(c):
		rule.Action = inspect.RuleDropVersions
		rule.Age = max(rule.Age, time.Duration(c.DaysSinceNoncurrentTime)*day)
		rule.Narrowed = rule.Narrowed || c.NumNewerVersions > 1 || c.NoncurrentTimeBefore != ""
	case action == "Delete":
		rule.Action = inspect.RuleExpire
	case action == "SetStorageClass" && !isForNoncurrent(c):
		rule.Action = inspect.RuleCool // on GCS, objects of all classes can be read immediately
	default: // AbortIncompleteMultipartUpload affects uploads of the XML API only
		return inspect.Rule{}, false
	}
	return rule, true
}

// isNarrowed reports whether there are conditions besides prefix and age.
func isNarrowed(c *raw.BucketLifecycleRuleCondition) bool {
	return c.CreatedBefore != "" || c.MatchesPattern != "" || len(c.MatchesStorageClass) > 0 || len(c.MatchesSuffix) > 0 ||
		c.SizeAboveBytes != 0 || c.SizeBelowBytes != 0
}

// isForNoncurrent reports whether there is a condition that holds only for
// noncurrent versions.
func isForNoncurrent(c *raw.BucketLifecycleRuleCondition) bool {
	return c.DaysSinceNoncurrentTime != 0 || c.NoncurrentTimeBefore != "" || c.NumNewerVersions != 0 || c.IsLive != nil && !*c.IsLive
}
