package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/berthhq/berth/drivers/inspect"
)

// Inspect returns the settings by which the bucket changes or protects objects on
// its own. If a setting cannot be read, its Err is set. Inspect itself returns an
// error only if cfg is not valid or there are no credentials.
func Inspect(ctx context.Context, cfg Config) (inspect.Settings, error) {
	c, err := connect(ctx, cfg)
	if err != nil {
		return inspect.Settings{}, err
	}
	defer c.closeIdle()
	i := inspector{c.store}
	s := inspect.Settings{
		Lifecycle:  i.lifecycle(ctx),
		SoftDelete: inspect.Setting[time.Duration]{Err: fmt.Errorf("%w: S3 has versions only", errors.ErrUnsupported)},
		Tiering:    i.tiering(ctx),
		Lock:       i.lock(ctx),
	}
	s.Versioning, s.Suspended = i.versioning(ctx)
	if cfg.RequestPayer == "" {
		s.Payment = i.payment(ctx)
	}
	return s, nil
}

// inspector reads settings of a bucket.
type inspector struct {
	store *store
}

func (i inspector) versioning(ctx context.Context) (s inspect.Setting[bool], suspended bool) {
	out, err := i.store.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: i.store.bucket()})
	s = inspect.Setting[bool]{Permission: "s3:GetBucketVersioning", Err: i.unread(ctx, err)}
	if err != nil {
		return s, false
	}
	s.Value = out.Status == types.BucketVersioningStatusEnabled
	return s, out.Status == types.BucketVersioningStatusSuspended
}

// tiering returns the archive tiers of S3 Intelligent-Tiering that are switched
// on. Objects in its other tiers can be read immediately.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/intelligent-tiering-overview.html
func (i inspector) tiering(ctx context.Context) inspect.Setting[[]inspect.Rule] {
	s := inspect.Setting[[]inspect.Rule]{Permission: "s3:GetIntelligentTieringConfiguration"}
	in := &s3.ListBucketIntelligentTieringConfigurationsInput{Bucket: i.store.bucket()}
	for {
		page, err := i.store.client.ListBucketIntelligentTieringConfigurations(ctx, in)
		if err != nil {
			s.Err = i.unread(ctx, err)
			return s
		}
		for n := range page.IntelligentTieringConfigurationList {
			s.Value = append(s.Value, i.tiers(&page.IntelligentTieringConfigurationList[n])...)
		}
		if !aws.ToBool(page.IsTruncated) {
			return s
		}
		if aws.ToString(page.NextContinuationToken) == "" {
			s.Err = errTruncated
			return s
		}
		in.ContinuationToken = page.NextContinuationToken
	}
}

// tiers returns the rules of one configuration, one for each tier.
func (i inspector) tiers(c *types.IntelligentTieringConfiguration) []inspect.Rule {
	prefix, tagged := "", false
	if f := c.Filter; f != nil {
		prefix, tagged = aws.ToString(f.Prefix), f.Tag != nil
		if f.And != nil {
			prefix += aws.ToString(f.And.Prefix)
			tagged = tagged || len(f.And.Tags) > 0
		}
	}
	keys, ok := inspect.RulePrefix(i.store.prefix, prefix)
	if !ok || tagged || c.Status != types.IntelligentTieringStatusEnabled { // berth's objects have no tags
		return nil
	}
	var rules []inspect.Rule
	for _, t := range c.Tierings {
		rules = append(rules, inspect.Rule{
			ID: aws.ToString(c.Id), Action: inspect.RuleArchive, Prefix: keys,
			Age: 24 * time.Hour * time.Duration(aws.ToInt32(t.Days)), Class: string(t.AccessTier),
		})
	}
	return rules
}

// lock returns the state of Object Lock and the default retention of new
// versions.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
func (i inspector) lock(ctx context.Context) inspect.Setting[inspect.Lock] {
	s := inspect.Setting[inspect.Lock]{Permission: "s3:GetBucketObjectLockConfiguration"}
	out, err := i.store.client.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: i.store.bucket()})
	switch {
	case code(err) == "ObjectLockConfigurationNotFoundError":
		return s
	case err != nil:
		s.Err = i.unread(ctx, err)
		return s
	}
	c := out.ObjectLockConfiguration
	if c == nil || c.ObjectLockEnabled != types.ObjectLockEnabledEnabled {
		return s
	}
	s.Value = inspect.Lock{Enabled: true, Unchecked: !i.store.cfg.sendsChecksums()}
	if c.Rule != nil && c.Rule.DefaultRetention != nil {
		const day = 24 * time.Hour
		kept := c.Rule.DefaultRetention
		s.Value.Retention = day*time.Duration(aws.ToInt32(kept.Days)) + 365*day*time.Duration(aws.ToInt32(kept.Years))
	}
	return s
}

// payment returns whether the bucket is a Requester Pays bucket.
func (i inspector) payment(ctx context.Context) inspect.Setting[bool] {
	out, err := i.store.client.GetBucketRequestPayment(ctx, &s3.GetBucketRequestPaymentInput{Bucket: i.store.bucket()})
	s := inspect.Setting[bool]{Permission: "s3:GetBucketRequestPayment", Err: i.unread(ctx, err)}
	if err == nil {
		s.Value = out.Payer == types.PayerRequester
	}
	return s
}

func (i inspector) lifecycle(ctx context.Context) inspect.Setting[[]inspect.Rule] {
	s := inspect.Setting[[]inspect.Rule]{Permission: "s3:GetLifecycleConfiguration"}
	out, err := i.store.client.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: i.store.bucket()})
	switch {
	case err == nil:
		for n := range out.Rules {
			s.Value = append(s.Value, i.rules(&out.Rules[n])...)
		}
	case code(err) != "NoSuchLifecycleConfiguration":
		s.Err = i.unread(ctx, err)
	}
	return s
}

// unread returns the reason why a setting could not be read.
func (i inspector) unread(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	switch status(err) {
	case http.StatusForbidden:
		return fmt.Errorf("access is denied (%s)", code(err))
	case http.StatusNotImplemented, http.StatusMethodNotAllowed, http.StatusBadRequest:
		if i.store.advice(err) == "" { // otherwise the error is not about the setting
			return fmt.Errorf("%w: this store answers %s", errors.ErrUnsupported, code(err))
		}
	}
	return i.store.classify(ctx, err)
}

// filter returns the prefix of the objects that a rule applies to, and whether
// it is narrowed by their sizes or tags.
func filter(r *types.LifecycleRule) (prefix string, bySize, byTag bool) {
	prefix = aws.ToString(r.Prefix) //nolint:staticcheck // old configurations have it there
	f := r.Filter
	if f == nil {
		return prefix, false, false
	}
	prefix += aws.ToString(f.Prefix)
	bySize = f.ObjectSizeGreaterThan != nil || f.ObjectSizeLessThan != nil
	byTag = f.Tag != nil
	if and := f.And; and != nil {
		prefix += aws.ToString(and.Prefix)
		bySize = bySize || and.ObjectSizeGreaterThan != nil || and.ObjectSizeLessThan != nil
		byTag = byTag || len(and.Tags) > 0
	}
	return prefix, bySize, byTag
}

// rules converts a rule of the bucket to one rule for each of its actions.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html
func (i inspector) rules(r *types.LifecycleRule) []inspect.Rule {
	prefix, narrowed, tagged := filter(r)
	keys, ok := inspect.RulePrefix(i.store.prefix, prefix)
	if !ok || tagged || r.Status != types.ExpirationStatusEnabled { // berth's objects have no tags
		return nil
	}
	var rules []inspect.Rule
	add := func(action inspect.RuleAction, days *int32, narrowed bool, class string) {
		rules = append(rules, inspect.Rule{
			ID: aws.ToString(r.ID), Action: action, Prefix: keys, Age: 24 * time.Hour * time.Duration(aws.ToInt32(days)),
			Class: class, Narrowed: narrowed,
		})
	}
	if a := r.AbortIncompleteMultipartUpload; a != nil {
		add(inspect.RuleAbortUploads, a.DaysAfterInitiation, narrowed, "")
	}
	if e := r.Expiration; e != nil && (e.Days != nil || e.Date != nil) {
		add(inspect.RuleExpire, e.Days, narrowed, "")
	}
	if e := r.NoncurrentVersionExpiration; e != nil {
		add(inspect.RuleDropVersions, e.NoncurrentDays, narrowed || e.NewerNoncurrentVersions != nil, "")
	}
	for _, t := range r.Transitions {
		// Objects in any other class can be read immediately. Small objects,
		// such as records, are not moved to those classes.
		if t.StorageClass == types.TransitionStorageClassGlacier || t.StorageClass == types.TransitionStorageClassDeepArchive {
			add(inspect.RuleArchive, t.Days, narrowed, string(t.StorageClass))
		}
	}
	return rules
}
