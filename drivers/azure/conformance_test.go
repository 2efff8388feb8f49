package azure

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/memory"
)

// gaps are the cases that Azurite 3.37.0 does not support, each with the reason.
var gaps = map[string]string{
	"UploadHidden":  emptyTaken + "; TestAzurite/StagedBlocksAreHidden has the rest of the case",
	"CompleteTaken": emptyTaken + "; TestAzurite/CompleteTaken has the rest of the case",
	"SignHost":      hostUnsigned,
}

// hostUnsigned is true because the account is signed and the host is not:
// https://learn.microsoft.com/rest/api/storageservices/create-service-sas.
const hostUnsigned = "a SAS is valid on any host that leads to its account; TestAzurite/SignAnyHost checks that"

const emptyTaken = "Put Blob with If-None-Match: * returns 409 BlobAlreadyExists if there are only staged blocks"

// Azurite does not enforce the following rules of the service, so no test here
// covers them:
//   - The service drops staged blocks after a week, and at a Put Blob of their blob.
//   - It answers a range that starts at the end with 416 InvalidRange. Azurite
//     returns 206 without bytes, which the driver recognizes by the size.
//   - It returns 503 ServerBusy. errors_test.go has a double for that.
//   - It checks the roles of identities.
//   - Names have at most 254 segments and do not end with a dot.

// eachRequest are cases that together make each kind of request, and those that
// sign. The kinds of credentials differ in nothing else.
var eachRequest = []string{
	"Create", "Replace", "Delete", "List", "Upload", "Uploads", "CompleteAborted", "Sign", "SignWindow", "SignTampered", "SignExpired",
}

// TestConformance runs the suite with each kind of credential: all cases with the
// shared key, and eachRequest with the others, because Azurite is slow. For the
// same reason the listings of several pages, and the upload of many parts, are
// small, and races have few participants. TestLongConformance has large ones, and all
// cases.
func TestConformance(t *testing.T) {
	t.Run("Azurite", func(t *testing.T) {
		server := emulator.Azurite(t)
		t.Run("shared key", func(t *testing.T) {
			t.Parallel()
			cfg := configOf(t, server)
			cfg.pageSize = 50
			drivertest.Run(t, suite(cfg, drivertest.Suite{Keys: 110, Parts: 60, Workers: 4, Steps: 60, Gaps: gaps}))
		})
		t.Run("SAS", func(t *testing.T) {
			t.Parallel()
			cfg := configOf(t, server)
			cfg.SharedKey, cfg.SAS = "", containerSAS(t, cfg)
			drivertest.Run(t, suite(cfg, drivertest.Suite{Cases: eachRequest, Workers: 4, Gaps: gaps}))
		})
	})
	t.Run("identity", func(t *testing.T) {
		t.Parallel()
		cfg := byIdentity(configOf(t, emulator.AzuriteOAuth(t)))
		drivertest.Run(t, suite(cfg, drivertest.Suite{Cases: eachRequest, Workers: 4, Gaps: gaps}))
	})
	t.Run("service", func(t *testing.T) {
		cfg := Config{
			ConnectionString: os.Getenv("BERTH_TEST_AZURE_CONNECTION_STRING"), Account: os.Getenv("BERTH_TEST_AZURE_ACCOUNT"),
			Container: os.Getenv("BERTH_TEST_AZURE"),
		}
		if cfg.Container == "" {
			t.Skip("NOT TESTED ON THE SERVICE ITSELF: BERTH_TEST_AZURE names no container " +
				"(with BERTH_TEST_AZURE_CONNECTION_STRING, or BERTH_TEST_AZURE_ACCOUNT and an identity in the environment)")
		}
		drivertest.Run(t, suite(cfg, drivertest.Suite{
			Keys: 6000, Parts: 2000,
			Gaps: map[string]string{
				"Keys":     "the service accepts names of at most 254 segments that don't end with a dot",
				"SignHost": hostUnsigned,
			},
		}))
	})
}

// TestLongConformance runs the suite with long listings and many parts.
func TestLongConformance(t *testing.T) {
	if os.Getenv("BERTH_TEST_LONG") == "" {
		t.Skip("lists 1,100 keys and stores 2,000 parts: set BERTH_TEST_LONG=1 (or run make test-long)")
	}
	server := emulator.Azurite(t)
	t.Run("shared key", func(t *testing.T) {
		cfg := configOf(t, server)
		cfg.pageSize = 250
		drivertest.Run(t, suite(cfg, drivertest.Suite{Keys: 1100, Parts: 2000, Gaps: gaps}))
	})
	t.Run("SAS", func(t *testing.T) {
		cfg := configOf(t, server)
		cfg.SharedKey, cfg.SAS = "", containerSAS(t, cfg)
		cfg.pageSize = 50
		drivertest.Run(t, suite(cfg, drivertest.Suite{Keys: 110, Parts: 20, Gaps: gaps}))
	})
	t.Run("identity", func(t *testing.T) {
		cfg := byIdentity(configOf(t, emulator.AzuriteOAuth(t)))
		cfg.pageSize = 50
		drivertest.Run(t, suite(cfg, drivertest.Suite{Keys: 110, Parts: 20, Gaps: gaps}))
	})
}

// TestAzurite runs tests on one server, each in a container of its own.
func TestAzurite(t *testing.T) {
	server := emulator.Azurite(t)
	for name, test := range map[string]func(*testing.T, Config){
		"CompleteTaken":                 testCompleteTaken,
		"CorruptedOnTheWay":             testCorruptedOnTheWay,
		"Inspect":                       testInspect,
		"InspectVersions":               testInspectVersions,
		"LostResponses":                 testLostResponses,
		"LostResponsesAndAnotherWriter": testLostResponsesAndAnotherWriter,
		"OpenNamesField":                testOpenNamesField,
		"Pages":                         testPages,
		"SASExpires":                    testSASExpires,
		"SignAnyHost":                   testSignAnyHost,
		"SignPublicEndpoint":            testSignPublicEndpoint,
		"SignUnderPolicy":               testSignUnderPolicy,
		"StagedBlocksAreHidden":         testStagedBlocksAreHidden,
		"VersionRefused":                testVersionRefused,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, configOf(t, server))
		})
	}
}

// suite runs each case under an unused prefix of cfg's container.
func suite(cfg Config, s drivertest.Suite) drivertest.Suite {
	s.Like = memory.Azure()
	s.Client = &http.Client{Transport: cfg.Transport}
	s.New = func(t *testing.T) drivertest.Opener {
		cfg := cfg
		cfg.Prefix = "test/" + rand.Text()
		opener := func(ctx context.Context) (drivers.Bucket, error) { return Open(ctx, cfg) }
		t.Cleanup(func() { empty(t, opener) })
		return opener
	}
	return s
}

// empty deletes all blobs.
func empty(t *testing.T, open drivertest.Opener) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	b, err := open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var keys []string
	for o, err := range b.List(ctx, "", "", 0) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	if err := b.Delete(ctx, keys...); err != nil {
		t.Fatal(err)
	}
}

// configOf returns the configuration for a new container of the server.
func configOf(t *testing.T, s *emulator.Azure) Config {
	t.Helper()
	return Config{
		Account: s.Account, SharedKey: s.SharedKey, Endpoint: s.Endpoint, Container: s.Container(t), Transport: s.Transport,
	}
}

// token is an identity for a service that does not check signatures of tokens.
type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	expires := time.Now().Add(time.Hour)
	var parts []string
	for _, part := range []map[string]any{
		{"alg": "RS256", "typ": "JWT"},
		{
			"aud": "https://storage.azure.com", "iss": "https://sts.windows.net/00000000-0000-0000-0000-000000000001/",
			"oid": "00000000-0000-0000-0000-000000000002", "tid": "00000000-0000-0000-0000-000000000001",
			"iat": time.Now().Unix() - 60, "nbf": time.Now().Unix() - 60, "exp": expires.Unix(),
		},
	} {
		data, err := json.Marshal(part)
		if err != nil {
			return azcore.AccessToken{}, err
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(data))
	}
	parts = append(parts, base64.RawURLEncoding.EncodeToString([]byte("signature")))
	return azcore.AccessToken{Token: strings.Join(parts, "."), ExpiresOn: expires}, nil
}
