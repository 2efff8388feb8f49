package azure

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"

	"github.com/berthhq/berth/drivers"
)

// signer makes URLs that carry a shared access signature: of the service, by
// the account key, or of user delegation, by a key that the service lends to
// the identity.
type signer struct {
	account   *account
	container string
	public    *url.URL
	delegated *delegation // nil without an identity
}

// SignGet makes a URL of the blob at the public endpoint. It reports
// errors.ErrUnsupported where the credential is itself a SAS. With an identity
// a URL doesn't outlive the lent key, which is good for 6 days at least.
func (b *bucket) SignGet(ctx context.Context, key string, opts drivers.SignOptions) (drivers.Signed, error) {
	if err := check(ctx, key); err != nil {
		return drivers.Signed{}, failed("sign", key, err)
	}
	s, err := b.sign.get(ctx, b.blobName(key), time.Now(), opts)
	if err != nil {
		return drivers.Signed{}, failed("sign", key, b.explain(ctx, err))
	}
	return s, nil
}

func (s *signer) get(ctx context.Context, blob string, now time.Time, opts drivers.SignOptions) (drivers.Signed, error) {
	expires := now.Add(opts.Expires)
	if opts.Window > 0 {
		now = now.Truncate(opts.Window)
		expires = now.Add(opts.Window + opts.Expires)
	}
	values := sas.BlobSignatureValues{
		Protocol:           sas.ProtocolHTTPS,
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
		err = fmt.Errorf("%s can sign nothing: %w", s.account.credential, errors.ErrUnsupported)
	case accountOf(s.account.endpoint) != s.account.name:
		// The SDK takes the account that it signs for from the host.
		err = fmt.Errorf("the host of storage.azure.endpoint does not begin with the account %q: %w", s.account.name, errors.ErrUnsupported)
	default:
		var key delegatedKey
		if key, err = s.delegated.key(ctx, now); err != nil {
			break
		}
		if values.ExpiryTime.After(key.expires) {
			values.ExpiryTime = key.expires
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

// delegation lends user delegation keys and keeps the newest. A key belongs to
// the day, by UTC, in which the signing time lies. All replicas ask for the
// same times, so that those of one identity get the same key, and sign the same
// URLs.
type delegation struct {
	service *service.Client
	turn    chan struct{} // holds one token: whoever has it may use newest
	newest  delegatedKey
}

type delegatedKey struct {
	day        time.Time
	expires    time.Time
	credential *service.UserDelegationCredential
}

const (
	keyPeriod = 24 * time.Hour
	keyLife   = 7 * 24 * time.Hour // the most that the service lends
	keySkew   = 15 * time.Minute   // that the clocks of this machine and the service may differ
)

func newDelegation(s *service.Client) *delegation {
	d := &delegation{service: s, turn: make(chan struct{}, 1)}
	d.turn <- struct{}{}
	return d
}

// key is the key for what is signed at a time. If the service can't be asked
// for the day's, the one before still serves, for at least as long again as a
// day.
func (d *delegation) key(ctx context.Context, at time.Time) (delegatedKey, error) {
	select {
	case <-d.turn:
	case <-ctx.Done():
		return delegatedKey{}, ctx.Err()
	}
	defer func() { d.turn <- struct{}{} }()
	day := at.UTC().Truncate(keyPeriod)
	if d.newest.credential != nil && !d.newest.day.Before(day) {
		return d.newest, nil
	}
	start := day.Add(-keySkew)
	key := delegatedKey{day: day, expires: start.Add(keyLife)}
	var err error
	key.credential, err = d.service.GetUserDelegationCredential(ctx, service.KeyInfo{
		Start: new(start.Format(sas.TimeFormat)), Expiry: new(key.expires.Format(sas.TimeFormat)),
	}, nil)
	switch {
	case err == nil:
		d.newest = key
		return key, nil
	case d.newest.credential != nil && at.Before(d.newest.expires.Add(-2*keyPeriod)):
		return d.newest, nil
	default:
		return delegatedKey{}, fmt.Errorf("user delegation key: %w", err)
	}
}
