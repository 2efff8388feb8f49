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

// Inspect returns the bucket's settings. If reading them is refused, each
// setting has that error. The error that Inspect returns is one of the
// configuration.
func Inspect(ctx context.Context, cfg Config) (inspect.Settings, error) {
	b, err := open(ctx, cfg)
	if err != nil {
		return inspect.Settings{}, fmt.Errorf("gcs: inspect: %w", err)
	}
	defer b.Close() //nolint:errcheck // it closes connections only
	attrs, err := b.raw.Buckets.Get(cfg.Bucket).Fields("lifecycle", "versioning", "softDeletePolicy",
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
		Hierarchical:    b.hierarchical(ctx),
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
			s.Lifecycle.Value = append(s.Lifecycle.Value, b.rules(r)...)
		}
	}
	return s, nil
}

// hierarchical returns whether the bucket has a hierarchical namespace. It
// needs only the permission to list objects.
// https://cloud.google.com/storage/docs/json_api/v1/buckets/getStorageLayout
func (b *bucket) hierarchical(ctx context.Context) inspect.Setting[bool] {
	s := inspect.Setting[bool]{Permission: "storage.objects.list"}
	layout, err := b.raw.Buckets.GetStorageLayout(b.cfg.Bucket).Prefix(b.prefix).Context(ctx).Do()
	if err != nil {
		s.Err = b.cfg.classify(ctx, err, nil)
		return s
	}
	s.Value = layout.HierarchicalNamespace != nil && layout.HierarchicalNamespace.Enabled
	return s
}

// rules returns a rule of the bucket as one rule for each of its prefixes.
// https://cloud.google.com/storage/docs/lifecycle
func (b *bucket) rules(r *raw.BucketLifecycleRule) []inspect.Rule {
	if r.Action == nil || r.Condition == nil {
		return nil
	}
	c := r.Condition
	if c.DaysSinceCustomTime != 0 || c.CustomTimeBefore != "" {
		return nil // berth never sets these times, so the conditions never hold
	}
	// Each of these conditions holds only for noncurrent versions.
	old := c.DaysSinceNoncurrentTime != 0 || c.NoncurrentTimeBefore != "" || c.NumNewerVersions != 0 || c.IsLive != nil && !*c.IsLive
	rule := inspect.Rule{
		Class: r.Action.StorageClass,
		Narrowed: c.CreatedBefore != "" || c.MatchesPattern != "" || len(c.MatchesStorageClass) > 0 || len(c.MatchesSuffix) > 0 ||
			c.SizeAboveBytes != 0 || c.SizeBelowBytes != 0,
	}
	const day = 24 * time.Hour
	if c.Age != nil {
		rule.Age = time.Duration(*c.Age) * day
	}
	switch {
	case r.Action.Type == "Delete" && old:
		rule.Action = inspect.RuleDropVersions
		rule.Age = max(rule.Age, time.Duration(c.DaysSinceNoncurrentTime)*day)
		rule.Narrowed = rule.Narrowed || c.NumNewerVersions > 1 || c.NoncurrentTimeBefore != ""
	case r.Action.Type == "Delete":
		rule.Action = inspect.RuleExpire
	case r.Action.Type == "SetStorageClass" && !old:
		rule.Action = inspect.RuleCool // objects of all classes can be read immediately here
	default: // AbortIncompleteMultipartUpload is about uploads of the XML API
		return nil
	}
	prefixes := c.MatchesPrefix
	if len(prefixes) == 0 {
		prefixes = []string{""}
	}
	var rules []inspect.Rule
	for _, p := range prefixes {
		var ok bool
		if rule.Prefix, ok = inspect.RulePrefix(b.prefix, p); ok {
			rules = append(rules, rule)
		}
	}
	return rules
}
