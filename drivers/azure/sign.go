package azure

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"

	"github.com/berthhq/berth/drivers"
)

// signer signs URLs with a shared access signature: a service SAS with the
// account key, or a user delegation SAS with a key that the service issues to
// the identity.
type signer struct {
	account   *account
	container string
	public    *url.URL
	delegated *delegation // nil without an identity
}

// SignGet returns a URL of the blob at the public endpoint, signed by the
// store's clock. It returns errors.ErrUnsupported if the credential is itself a
// SAS. With an identity a URL expires no later than the user delegation key,
// which is valid for at least 6 days.
//
// The SAS starts 15 minutes before it is signed, so that it is valid immediately
// even if the clocks differ. An account with a SAS expiration policy refuses a
// SAS without a start, or with more time from start to expiry than the limit:
// https://learn.microsoft.com/azure/storage/common/sas-expiration-policy.
func (b *bucket) SignGet(ctx context.Context, key string, opts drivers.SignOptions) (drivers.Signed, error) {
	if err := check(ctx, key); err != nil {
		return drivers.Signed{}, failed("sign", key, err)
	}
	s, err := b.sign.get(ctx, b.store.blobName(key), b.clock.Now(), opts)
	if err != nil {
		return drivers.Signed{}, b.store.failed(ctx, "sign", key, err)
	}
	s.Expires = b.clock.Local(s.Expires)
	return s, nil
}

func (s *signer) get(ctx context.Context, blob string, now time.Time, opts drivers.SignOptions) (drivers.Signed, error) {
	expires := now.Add(opts.Expires)
	if opts.Window > 0 {
		now = now.Truncate(opts.Window)
		expires = now.Add(opts.Window + opts.Expires)
	}
	values := sas.BlobSignatureValues{
		Version:            string(s.account.version),
		Protocol:           sas.ProtocolHTTPS,
		StartTime:          now.Add(-keySkew).UTC().Truncate(time.Second),
		ExpiryTime:         expires.UTC().Truncate(time.Second),
		Permissions:        (&sas.BlobPermissions{Read: true}).String(),
		ContainerName:      s.container,
		BlobName:           blob,
		ContentType:        opts.ContentType,
		ContentDisposition: opts.ContentDisposition,
	}
	if s.public.Scheme == "http" {
		values.Protocol = sas.ProtocolHTTPSandHTTP
	}
	var query sas.QueryParameters
	var err error
	switch {
	case s.account.key != nil:
		query, err = values.SignWithSharedKey(s.account.key)
	case s.delegated == nil:
		err = fmt.Errorf("%s cannot sign URLs: %w", s.account.credential, errors.ErrUnsupported)
	case accountOf(s.account.endpoint) != s.account.name:
		// The SDK signs for the account that the host names.
		err = fmt.Errorf("the host of azure.Config.Endpoint does not start with the account %q: %w", s.account.name, errors.ErrUnsupported)
	case s.account.version < delegationVersion:
		err = fmt.Errorf("azure.Config.APIVersion: an identity can sign URLs only from version %s on: %w", delegationVersion, errors.ErrUnsupported)
	default:
		var key delegatedKey
		if key, err = s.delegated.key(ctx, now); err != nil {
			break
		}
		if values.ExpiryTime.After(key.expires) {
			values.ExpiryTime = key.expires
		}
		if start := key.expires.Add(-keyLife); values.StartTime.Before(start) {
			values.StartTime = start
		}
		query, err = values.SignWithUserDelegation(key.credential)
	}
	if err != nil {
		return drivers.Signed{}, err
	}
	u := s.public.JoinPath(s.container, blob)
	u.RawQuery = query.Encode()
	return drivers.Signed{URL: u.String(), Expires: values.ExpiryTime}, nil
}

// delegation requests user delegation keys and keeps the newest. A key belongs
// to the UTC day of the signing time. All replicas request the same times, so
// replicas of one identity get the same key and sign the same URLs.
//
// One caller at a time makes the request. Other callers wait for it only if
// they have no valid key. After a failure all callers get its error until
// keyPause is over: a service that is down does not delay reads.
type delegation struct {
	account *account
	service *service.Client
	newest  atomic.Pointer[delegatedKey]

	turn   chan struct{} // holds one token; its holder may request a key and use the fields below
	failed error         // of the last request, until pause is over
	pause  time.Time
}

type delegatedKey struct {
	day        time.Time
	expires    time.Time
	credential *service.UserDelegationCredential
}

const (
	keyPeriod = 24 * time.Hour
	keyLife   = 7 * 24 * time.Hour // the maximum of the service
	keySkew   = 15 * time.Minute   // possible difference between the clocks of this machine and the service
	keyPause  = 30 * time.Second   // between a failure and the next request
	keyWait   = 15 * time.Second   // limit for the service's answer, with all attempts
)

func newDelegation(a *account, s *service.Client) *delegation {
	d := &delegation{account: a, service: s, turn: make(chan struct{}, 1)}
	d.turn <- struct{}{}
	return d
}

// key returns the key for URLs signed at a time. While there is no key of that
// day, it returns one of an earlier day if it is valid for two more days.
func (d *delegation) key(ctx context.Context, at time.Time) (delegatedKey, error) {
	day := at.UTC().Truncate(keyPeriod)
	kept := d.newest.Load()
	if kept != nil && !kept.day.Before(day) {
		return *kept, nil
	}
	if kept != nil && at.Before(kept.expires.Add(-2*keyPeriod)) {
		select {
		case <-d.turn:
		default:
			return *kept, nil
		}
	} else {
		kept = nil
		select {
		case <-d.turn:
		case <-ctx.Done():
			return delegatedKey{}, ctx.Err()
		}
	}
	defer func() { d.turn <- struct{}{} }()
	if newest := d.newest.Load(); newest != nil && !newest.day.Before(day) { // meanwhile
		return *newest, nil
	}

	err := d.failed
	if !time.Now().Before(d.pause) {
		// This caller may leave, but the callers that wait need the result.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keyWait)
		defer cancel()
		var key delegatedKey
		if key, err = d.request(ctx, day); err == nil {
			d.newest.Store(&key)
			return key, nil
		}
		d.failed, d.pause = err, time.Now().Add(keyPause)
	}
	if kept != nil {
		return *kept, nil
	}
	return delegatedKey{}, fmt.Errorf("user delegation key: %w", err)
}

// request requests the key of a day. It requires a separate right:
// https://learn.microsoft.com/rest/api/storageservices/get-user-delegation-key.
func (d *delegation) request(ctx context.Context, day time.Time) (delegatedKey, error) {
	start := day.Add(-keySkew)
	key := delegatedKey{day: day, expires: start.Add(keyLife)}
	var err error
	key.credential, err = d.service.GetUserDelegationCredential(ctx, service.KeyInfo{
		Start: new(start.Format(sas.TimeFormat)), Expiry: new(key.expires.Format(sas.TimeFormat)),
	}, nil)
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		err = d.account.refused(e, d.account.toSign())
	}
	return key, err
}
