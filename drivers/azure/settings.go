package azure

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/berthhq/berth/drivers"
)

// stagedKept is how long the service keeps staged blocks after the last came:
// https://learn.microsoft.com/rest/api/storageservices/put-block.
const stagedKept = 7 * 24 * time.Hour

// Inspect reads what the account and its container are set to do by themselves,
// as far as the blob service tells; lifecycle management is Azure Resource
// Manager's. To see whether there are versions it makes a blob under parts/, and
// deletes it again. What it may not read is an error in its place; the one that
// it returns is of the configuration.
func Inspect(ctx context.Context, cfg Config) (drivers.Settings, error) {
	b, err := newBucket(cfg)
	if err != nil {
		return drivers.Settings{}, fmt.Errorf("azure: %w", err)
	}
	defer b.client.CloseIdleConnections()
	return drivers.Settings{
		Lifecycle: drivers.Setting[[]drivers.Rule]{Err: fmt.Errorf(
			"%w: the blob service does not tell its rules; look with: az storage account management-policy show --account-name %s",
			errors.ErrUnsupported, b.account.name)},
		Versioning: b.versioning(ctx),
		SoftDelete: b.softDelete(ctx),
		PartsKept:  stagedKept,
	}, nil
}

// softDelete asks for the properties of the service. With an identity that
// takes a role on the account, and with a SAS one of the account.
// https://learn.microsoft.com/rest/api/storageservices/get-blob-service-properties
func (b *bucket) softDelete(ctx context.Context) drivers.Setting[time.Duration] {
	s := drivers.Setting[time.Duration]{Permission: "Microsoft.Storage/storageAccounts/blobServices/read"}
	if b.sas != "" {
		s.Permission = "r of an account SAS for the resource type s"
	}
	p, err := b.service.GetProperties(ctx, nil)
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok && e.StatusCode == http.StatusForbidden {
		s.Err = fmt.Errorf("access is denied (%s)", e.ErrorCode)
		return s
	}
	s.Err = b.explain(ctx, err)
	if d := p.DeleteRetentionPolicy; d != nil && d.Enabled != nil && *d.Enabled && d.Days != nil {
		s.Value = time.Duration(*d.Days) * 24 * time.Hour
	}
	return s
}

// versioning looks at a blob, which has a version where blobs have any.
// https://learn.microsoft.com/azure/storage/blobs/versioning-overview
func (b *bucket) versioning(ctx context.Context) drivers.Setting[bool] {
	s := drivers.Setting[bool]{Permission: "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write"}
	key := probePrefix + rand.Text()
	o, err := b.create(ctx, key, drivers.NewBody([]byte(rand.Text())))
	if err == nil {
		p, lookErr := b.blob(key).GetProperties(ctx, nil)
		s.Value, err = p.VersionID != nil, lookErr
		if deleteErr := b.deleteIf(ctx, key, o.Tag); err == nil {
			err = deleteErr
		}
	}
	s.Err = b.explain(ctx, err)
	return s
}
