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
	"github.com/berthhq/berth/drivers/inspect"
)

// stagedKept is how long the service keeps staged blocks after the last one was staged:
// https://learn.microsoft.com/rest/api/storageservices/put-block.
const stagedKept = 7 * 24 * time.Hour

// Inspect returns the settings of the account and its container that the blob
// service reports. Lifecycle rules belong to Azure Resource Manager. To find out
// whether blobs have versions, Inspect creates a blob under parts/ and deletes
// it. If the service refuses to return a setting, its Err is set. Inspect itself
// returns an error only if cfg is not valid.
func Inspect(ctx context.Context, cfg Config) (inspect.Settings, error) {
	b, err := newBucket(cfg)
	if err != nil {
		return inspect.Settings{}, fmt.Errorf("azure: %w", err)
	}
	defer b.client.CloseIdleConnections()
	return inspect.Settings{
		Lifecycle: inspect.Setting[[]inspect.Rule]{Err: fmt.Errorf(
			"%w: the blob service does not return its rules; show them with: az storage account management-policy show --account-name %s",
			errors.ErrUnsupported, b.store.name)},
		Versioning: b.versioning(ctx),
		SoftDelete: b.softDelete(ctx),
		PartsKept:  stagedKept,
	}, nil
}

// softDelete reads the properties of the service. An identity needs a
// role on the account for this, and a SAS must be an account SAS.
// https://learn.microsoft.com/rest/api/storageservices/get-blob-service-properties
func (b *bucket) softDelete(ctx context.Context) inspect.Setting[time.Duration] {
	s := inspect.Setting[time.Duration]{Permission: "Microsoft.Storage/storageAccounts/blobServices/read"}
	if b.store.sas != "" {
		s.Permission = "r of an account SAS for the resource type s"
	}
	p, err := b.service.GetProperties(ctx, nil)
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok && e.StatusCode == http.StatusForbidden {
		s.Err = fmt.Errorf("access is denied (%s)", e.ErrorCode)
		return s
	}
	s.Err = b.store.explain(ctx, err)
	if d := p.DeleteRetentionPolicy; d != nil && d.Enabled != nil && *d.Enabled && d.Days != nil {
		s.Value = time.Duration(*d.Days) * 24 * time.Hour
	}
	return s
}

// versioning reads the properties of a new blob, which has a version id if
// versioning is on.
// https://learn.microsoft.com/azure/storage/blobs/versioning-overview
func (b *bucket) versioning(ctx context.Context) inspect.Setting[bool] {
	s := inspect.Setting[bool]{Permission: "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write"}
	key := probePrefix + rand.Text()
	o, err := b.store.create(ctx, key, drivers.NewBody([]byte(rand.Text())))
	if err == nil {
		p, readErr := b.store.blob(key).GetProperties(ctx, nil)
		s.Value, err = p.VersionID != nil, readErr
		if deleteErr := b.store.deleteIf(ctx, key, o.Tag); err == nil {
			err = deleteErr
		}
	}
	s.Err = b.store.explain(ctx, err)
	return s
}
