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

	"github.com/berthhq/berth/drivers"
)

// Inspect reads what the bucket is set to do by itself, in two requests. What
// it may not read is an error in its place; the one that it returns is of the
// configuration.
func Inspect(ctx context.Context, cfg Config) (drivers.Settings, error) {
	b, _, err := connect(ctx, cfg)
	if err != nil {
		return drivers.Settings{}, err
	}
	defer b.closeIdle()
	return drivers.Settings{
		Lifecycle:  b.lifecycle(ctx),
		Versioning: b.versioning(ctx),
		SoftDelete: drivers.Setting[time.Duration]{Err: fmt.Errorf("%w: S3 has versions only", errors.ErrUnsupported)},
	}, nil
}

func (b *bucket) versioning(ctx context.Context) drivers.Setting[bool] {
	out, err := b.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: b.bucketName()})
	s := drivers.Setting[bool]{Permission: "s3:GetBucketVersioning", Err: b.unread(ctx, err)}
	if err == nil {
		s.Value = out.Status == types.BucketVersioningStatusEnabled
	}
	return s
}

func (b *bucket) lifecycle(ctx context.Context) drivers.Setting[[]drivers.Rule] {
	s := drivers.Setting[[]drivers.Rule]{Permission: "s3:GetLifecycleConfiguration"}
	out, err := b.client.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: b.bucketName()})
	switch {
	case err == nil:
		for i := range out.Rules {
			s.Value = append(s.Value, b.rules(&out.Rules[i])...)
		}
	case code(err) != "NoSuchLifecycleConfiguration":
		s.Err = b.unread(ctx, err)
	}
	return s
}

// unread says why a setting could not be read.
func (b *bucket) unread(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	switch status(err) {
	case http.StatusForbidden:
		return fmt.Errorf("access is denied (%s)", code(err))
	case http.StatusNotImplemented, http.StatusMethodNotAllowed, http.StatusBadRequest:
		if b.advice(err) == "" { // else it is not about the setting
			return fmt.Errorf("%w: this store answers %s", errors.ErrUnsupported, code(err))
		}
	}
	return b.classify(ctx, err)
}

// rules are what a rule of the bucket does, one for each of its actions.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html
func (b *bucket) rules(r *types.LifecycleRule) []drivers.Rule {
	prefix := aws.ToString(r.Prefix) //nolint:staticcheck // old configurations have it there
	narrowed, tagged := false, false
	if f := r.Filter; f != nil {
		prefix += aws.ToString(f.Prefix)
		narrowed = f.ObjectSizeGreaterThan != nil || f.ObjectSizeLessThan != nil
		tagged = f.Tag != nil
		if f.And != nil {
			prefix += aws.ToString(f.And.Prefix)
			narrowed = narrowed || f.And.ObjectSizeGreaterThan != nil || f.And.ObjectSizeLessThan != nil
			tagged = tagged || len(f.And.Tags) > 0
		}
	}
	keys, ok := drivers.RulePrefix(b.prefix, prefix)
	if !ok || tagged || r.Status != types.ExpirationStatusEnabled { // berth's objects have no tags
		return nil
	}
	var rules []drivers.Rule
	add := func(action drivers.RuleAction, days *int32, narrowed bool, class string) {
		rules = append(rules, drivers.Rule{
			ID: aws.ToString(r.ID), Action: action, Prefix: keys, Age: 24 * time.Hour * time.Duration(aws.ToInt32(days)),
			Class: class, Narrowed: narrowed,
		})
	}
	if a := r.AbortIncompleteMultipartUpload; a != nil {
		add(drivers.RuleAbortUploads, a.DaysAfterInitiation, narrowed, "")
	}
	if e := r.Expiration; e != nil && (e.Days != nil || e.Date != nil) {
		add(drivers.RuleExpire, e.Days, narrowed, "")
	}
	if e := r.NoncurrentVersionExpiration; e != nil {
		add(drivers.RuleDropVersions, e.NoncurrentDays, narrowed || e.NewerNoncurrentVersions != nil, "")
	}
	for _, t := range r.Transitions {
		// All other classes are read at once. What is small stays out of them,
		// and records are.
		if t.StorageClass == types.TransitionStorageClassGlacier || t.StorageClass == types.TransitionStorageClassDeepArchive {
			add(drivers.RuleArchive, t.Days, narrowed, string(t.StorageClass))
		}
	}
	return rules
}
