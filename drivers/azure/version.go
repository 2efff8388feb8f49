package azure

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/berthhq/berth/drivers"
)

// version is a version of the service's protocol. Versions are dates, and later
// ones are greater.
// https://learn.microsoft.com/rest/api/storageservices/versioning-for-the-azure-storage-services
type version string

const (
	// leastVersion is the first version for which the SDK signs URLs with an
	// account key. It changed the data that is signed.
	leastVersion version = "2020-12-06"

	// startFromVersion is the first version with lists that start at a name.
	startFromVersion version = "2026-02-06"

	// delegationVersion is the first version for which the SDK signs URLs with
	// a user delegation key.
	delegationVersion version = "2026-04-06"
)

// newestVersion returns the SDK's own version.
func newestVersion() version { return version(sas.Version) }

// version returns the configured service version, or the SDK's if there is
// none.
func (cfg Config) version() (version, error) {
	v := version(cfg.APIVersion)
	if v == "" {
		return newestVersion(), nil
	}
	if _, err := time.Parse(time.DateOnly, cfg.APIVersion); err != nil || v < leastVersion || v > newestVersion() {
		return "", fmt.Errorf("azure.Config.APIVersion: %q, want a date from %s to %s", cfg.APIVersion, leastVersion, newestVersion())
	}
	return v, nil
}

// Do replaces the SDK's version by v before the request is signed.
func (v version) Do(req *policy.Request) (*http.Response, error) {
	const name = "x-ms-version" // as the SDK writes it
	header := req.Raw().Header
	for key := range header {
		if strings.EqualFold(key, name) {
			delete(header, key)
		}
	}
	header[name] = []string{string(v)}
	return req.Next()
}

// badHeader returns the error for an answer that refuses a header of the
// request.
func (a *account) badHeader(e *azcore.ResponseError, answer string) error {
	var body struct{ HeaderName, HeaderValue string }
	if e.RawResponse != nil {
		if p, err := runtime.Payload(e.RawResponse); err == nil {
			_ = xml.Unmarshal(p, &body) // without a body, as to HEAD, the name stays empty
		}
	}
	switch strings.ToLower(body.HeaderName) {
	case "x-ms-version":
		return fmt.Errorf("%w: azure.Config.Endpoint: this endpoint doesn't support service version %s; "+
			"set azure.Config.APIVersion to a version that it supports, from %s on (%s)", drivers.ErrRefused, a.version, leastVersion, answer)
	case "x-ms-access-tier":
		return fmt.Errorf("%w: azure.Config.AccessTier: account %q has no tier %s, at least in service version %s (%s)",
			drivers.ErrRefused, a.name, body.HeaderValue, a.version, answer)
	case "":
		return fmt.Errorf("%s to a header, which may be that of service version %s (see azure.Config.APIVersion)", answer, a.version)
	default:
		return fmt.Errorf("%s to the header %s", answer, body.HeaderName)
	}
}
