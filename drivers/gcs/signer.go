package gcs

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/compute/metadata"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
	"google.golang.org/api/iamcredentials/v1"
	"google.golang.org/api/option"

	"github.com/berthhq/berth/drivers"
)

const (
	// maxLifetime is the maximum lifetime of a V4 signature, and
	// maxManagedLifetime that of a signature by a key that Google manages and
	// rotates:
	// https://cloud.google.com/storage/docs/access-control/signed-urls and
	// https://cloud.google.com/storage/docs/authentication/creating-signatures.
	maxLifetime        = 7 * 24 * time.Hour
	maxManagedLifetime = 12 * time.Hour

	// keptSignatures is the number of IAM's signatures that are cached: each
	// costs a request.
	keptSignatures = 10_000
)

// A signer signs with the RSA key of a service account, PKCS #1 v1.5 over
// SHA-256.
type signer interface {
	// account returns the service account's e-mail address. It returns
	// errors.ErrUnsupported if there is no account that can sign.
	account() (string, error)
	sign(ctx context.Context, data []byte) ([]byte, error)
	lifetime() time.Duration
}

// credentialsFile is the part of JSON credentials that concerns signing.
type credentialsFile struct {
	ClientEmail      string `json:"client_email"`
	PrivateKey       string `json:"private_key"`
	ImpersonationURL string `json:"service_account_impersonation_url"`
}

// newSigner returns a signer that uses the credentials' private key. If they have
// none, IAM signs for their account. If they have no account either, the signer
// returns errors.ErrUnsupported.
func newSigner(ctx context.Context, cfg *Config, creds *auth.Credentials, hc *http.Client) (signer, error) {
	var file credentialsFile
	isFile := len(creds.JSON()) > 0 // otherwise they are the metadata server's
	if isFile {
		if err := json.Unmarshal(creds.JSON(), &file); err != nil {
			return nil, fmt.Errorf("gcs.Config.CredentialsFile: %w", err)
		}
	}
	email := cmp.Or(cfg.SignAs, file.ClientEmail, file.impersonated())
	switch {
	case file.PrivateKey != "" && email == file.ClientEmail:
		key, err := parseKey(file.PrivateKey)
		if err != nil {
			return nil, fmt.Errorf("gcs.Config.CredentialsFile: private_key: %w", err)
		}
		return keySigner{email, key}, nil
	case email == "" && isFile:
		return noSigner("gcs.Config.SignAs: it is empty, and the credentials belong to no service account"), nil
	case email == "":
		var err error
		if email, err = metadataAccount(ctx); err != nil {
			return nil, fmt.Errorf("gcs.Config.SignAs: it is empty, and the metadata server did not return the account: %w", err)
		}
		if email == "" {
			return noSigner("gcs.Config.SignAs: it is empty, and the metadata server has no service account"), nil
		}
	}
	service, err := iamcredentials.NewService(ctx, option.WithHTTPClient(hc), option.WithEndpoint("https://iamcredentials."+cfg.universe()+"/"))
	if err != nil {
		return nil, err
	}
	return newIAMSigner(email, service)
}

// impersonated returns the account that the credentials impersonate, or "". Its
// URL ends in /serviceAccounts/<email>:generateAccessToken.
func (f credentialsFile) impersonated() string {
	_, rest, _ := strings.Cut(f.ImpersonationURL, "/serviceAccounts/")
	email, _, _ := strings.Cut(rest, ":")
	return email
}

// metadataAccount returns the service account of the machine. It returns "" if
// there is none, or only the pool of a workload identity.
func metadataAccount(ctx context.Context) (string, error) {
	email, err := metadata.NewClient(nil).EmailWithContext(ctx, "default")
	if _, none := errors.AsType[metadata.NotDefinedError](err); none {
		return "", nil
	}
	if err != nil || !strings.Contains(email, "@") {
		return "", err
	}
	return email, nil
}

// parseKey returns the RSA key in a PEM file.
func parseKey(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("it is not PEM")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	if key, ok := key.(*rsa.PrivateKey); ok {
		return key, nil
	}
	return nil, errors.New("it is not an RSA key")
}

// keySigner signs with a private key.
type keySigner struct {
	email string
	key   *rsa.PrivateKey
}

func (s keySigner) account() (string, error) { return s.email, nil }
func (s keySigner) lifetime() time.Duration  { return maxLifetime }

func (s keySigner) sign(_ context.Context, data []byte) ([]byte, error) {
	sum := sha256.Sum256(data)
	return rsa.SignPKCS1v15(nil, s.key, crypto.SHA256, sum[:])
}

// iamSigner is a signer that has IAM sign. It caches signatures, and concurrent
// callers share one request. Two processes may get different signatures, by two
// keys of the account. After a failure it makes no request until iamPause is
// over, so that reads do not wait while IAM is down.
type iamSigner struct {
	email   string
	service *iamcredentials.Service
	kept    *lru.Cache[string, []byte]
	flights singleflight.Group
	failure atomic.Pointer[iamFailure] // the last one
}

func newIAMSigner(email string, service *iamcredentials.Service) (*iamSigner, error) {
	kept, err := lru.New[string, []byte](keptSignatures)
	if err != nil {
		return nil, err
	}
	return &iamSigner{email: email, service: service, kept: kept}, nil
}

// iamFailure is an error that sign returns again until a time.
type iamFailure struct {
	err   error
	until time.Time
}

const (
	iamTimeout = 15 * time.Second // for a signature, with all attempts
	iamPause   = 5 * time.Second
)

func (s *iamSigner) account() (string, error) { return s.email, nil }
func (s *iamSigner) lifetime() time.Duration  { return maxManagedLifetime }

func (s *iamSigner) sign(ctx context.Context, data []byte) ([]byte, error) {
	if signature, ok := s.kept.Get(string(data)); ok {
		return signature, nil
	}
	if f := s.failure.Load(); f != nil && time.Now().Before(f.until) {
		return nil, f.err
	}
	// The flight continues after this request ends: other callers may have
	// joined it.
	flight := s.flights.DoChan(string(data), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), iamTimeout)
		defer cancel()
		signature, err := s.signBlob(ctx, data)
		if err != nil {
			s.failure.Store(&iamFailure{err, time.Now().Add(iamPause)})
			return nil, err
		}
		s.kept.Add(string(data), signature)
		return signature, nil
	})
	select {
	case landed := <-flight:
		signature, _ := landed.Val.([]byte)
		return signature, landed.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// signBlob returns a signature by IAM:
// https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/signBlob.
func (s *iamSigner) signBlob(ctx context.Context, data []byte) ([]byte, error) {
	call := s.service.Projects.ServiceAccounts.SignBlob("projects/-/serviceAccounts/"+s.email,
		&iamcredentials.SignBlobRequest{Payload: base64.StdEncoding.EncodeToString(data)}).Context(ctx)
	var answer *iamcredentials.SignBlobResponse
	err := retry(ctx, func() (err error) {
		answer, err = call.Do()
		return err
	})
	if err != nil {
		return nil, s.explain(err)
	}
	signature, err := base64.StdEncoding.DecodeString(answer.SignedBlob)
	if err != nil {
		return nil, fmt.Errorf("signBlob as %s: %w", s.email, err)
	}
	return signature, nil
}

// explain returns an error of IAM wrapped with its sentinel and advice. None of
// IAM's errors is about the key of the signed URL: 404 means that the account
// does not exist.
func (s *iamSigner) explain(err error) error {
	switch a := reasonsOf(err); {
	case a.disabled():
		return fmt.Errorf("%w: gcs.Config.SignAs: the API by which IAM signs is disabled: %s: %w",
			drivers.ErrRefused, a.enable("iamcredentials.googleapis.com"), err)
	case a.scope():
		return fmt.Errorf("%w: gcs.Config.SignAs: the credentials' tokens have a scope that does not cover signing: "+
			"give the virtual machine the access scope cloud-platform, or use other credentials: %w", drivers.ErrRefused, err)
	case status(err) == http.StatusForbidden && a.sentinel() == nil, status(err) == http.StatusNotFound:
		return fmt.Errorf("%w: gcs.Config.SignAs: grant iam.serviceAccounts.signBlob on the service account %s itself, if there is such an account: %w",
			drivers.ErrRefused, s.email, err)
	}
	err = fmt.Errorf("signBlob as %s: %w", s.email, err)
	if sentinel := trouble(err); sentinel != nil {
		return fmt.Errorf("%w: %w", sentinel, err)
	}
	return err
}

// noSigner is the reason why URLs cannot be signed.
type noSigner string

func (s noSigner) account() (string, error) {
	return "", fmt.Errorf("%w: %s", errors.ErrUnsupported, string(s))
}
func (s noSigner) lifetime() time.Duration { return 0 }

func (s noSigner) sign(context.Context, []byte) ([]byte, error) {
	return nil, errors.ErrUnsupported
}
