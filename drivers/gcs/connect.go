package gcs

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	"cloud.google.com/go/auth/httptransport"

	"github.com/berthhq/berth/drivers/presign"
)

// storeWatch separates requests to the store from requests to IAM. IAM's
// answers contain no information about the bucket and the store's clock.
type storeWatch struct {
	store, others http.RoundTripper
	host          string // of the store
}

func (w storeWatch) RoundTrip(req *http.Request) (*http.Response, error) {
	if strings.EqualFold(req.URL.Host, w.host) {
		return w.store.RoundTrip(req)
	}
	return w.others.RoundTrip(req)
}

// scope is the scope of the tokens; IAM decides what they allow.
const scope = "https://www.googleapis.com/auth/cloud-platform"

// connect returns a client that authenticates, and the signer for its
// credentials. The clock follows the answers of the store to this client.
func connect(ctx context.Context, cfg *Config, clock *presign.Clock) (*http.Client, signer, error) {
	endpoint, err := url.Parse(cfg.endpoint())
	if err != nil {
		return nil, nil, fmt.Errorf("gcs.Config.Endpoint: %w", err)
	}
	watched := cfg.Transport
	if cfg.Watch != nil {
		watched = cfg.Watch(watched)
	}
	base := storeWatch{store: bucketWatch{clock.Watch(watched)}, others: cfg.Transport, host: endpoint.Host}
	if cfg.anonymous() {
		return &http.Client{Transport: base}, noSigner("no credentials are used at " + cfg.Endpoint), nil
	}
	creds, err := findCredentials(cfg)
	if err != nil {
		return nil, nil, err
	}
	hc, err := httptransport.NewClient(&httptransport.Options{
		Credentials:      creds,
		BaseRoundTripper: base,
		UniverseDomain:   cfg.universe(),
		DisableTelemetry: true,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("gcs.Config.CredentialsFile: %w", err)
	}
	creds.TokenProvider = &identity{TokenProvider: creds.TokenProvider, name: cfg.credentialsName()} // outside of the client's cache
	s, err := newSigner(ctx, cfg, creds, hc)
	if err != nil {
		return nil, nil, err
	}
	return hc, s, nil
}

func findCredentials(cfg *Config) (*auth.Credentials, error) {
	opts := &credentials.DetectOptions{Scopes: []string{scope}, UniverseDomain: cfg.UniverseDomain}
	if cfg.CredentialsFile == "" {
		creds, err := credentials.DetectDefault(opts)
		if err != nil {
			return nil, fmt.Errorf("gcs.Config.CredentialsFile: it is empty, and there are no Application Default Credentials: "+
				"name a file, or run where a service account is attached: %w", err)
		}
		return creds, nil
	}
	data, err := os.ReadFile(cfg.CredentialsFile)
	if err != nil {
		return nil, fmt.Errorf("gcs.Config.CredentialsFile: %w", err)
	}
	var file struct {
		Type credentials.CredType `json:"type"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("gcs.Config.CredentialsFile: %s: %w", cfg.CredentialsFile, err)
	}
	creds, err := credentials.NewCredentialsFromJSON(file.Type, data, opts)
	if err != nil {
		return nil, fmt.Errorf("gcs.Config.CredentialsFile: %s: %w", cfg.CredentialsFile, err)
	}
	return creds, nil
}
