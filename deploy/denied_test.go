package deploy_test

import (
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/cmd/berth/check"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/azure"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/gcs"
	"github.com/berthhq/berth/drivers/s3"
)

// denial is a transport between a driver and its store. It refuses the requests
// that need one permission.
type denial struct {
	permissions permissionsOf
	base        http.RoundTripper

	permission string
	on         atomic.Bool
}

func (d *denial) RoundTrip(req *http.Request) (*http.Response, error) {
	names, _ := d.permissions(req)
	if d.on.Load() && slices.ContainsFunc(names, func(name string) bool { return withoutResource(name) == d.permission }) {
		if req.Body != nil {
			req.Body.Close()
		}
		return forbidden(req), nil
	}
	resp, err := d.base.RoundTrip(req)
	// Without permission to list, S3 does not report that an object is absent:
	// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
	reads := req.Method == http.MethodGet || req.Method == http.MethodHead
	if d.on.Load() && d.permission == "s3:ListBucket" && reads && err == nil && resp.StatusCode == http.StatusNotFound {
		resp.Body.Close()
		return forbidden(req), nil
	}
	return resp, err
}

// withoutResource returns a permission without the resource that it is granted
// on.
func withoutResource(permission string) string {
	name, _, _ := strings.Cut(permission, " on ")
	return name
}

// forbidden returns a response that each of the clouds could send. Google's SDK
// does not need a body.
func forbidden(req *http.Request) *http.Response {
	body := "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
	if req.Method == http.MethodHead {
		body = ""
	}
	return &http.Response{
		StatusCode: http.StatusForbidden, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{"Content-Type": {"application/xml"}, "X-Ms-Error-Code": {"AuthorizationPermissionMismatch"}},
		Body:   io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// wantNamed runs "berth check" with all permissions, and once without each. The
// steps that fail without a permission must be the steps whose results name it.
func wantNamed(t *testing.T, driver string, permissions []string, open func(t *testing.T, permission string) (drivers.Bucket, *denial)) {
	t.Helper()
	results := checkWithout(t, driver, permissions, open)
	needed, named := map[string][]string{}, map[string][]string{} // permissions by step
	for step, allowed := range results[""] {
		if allowed.Status == check.Failed || allowed.Status == check.Busy {
			t.Errorf("result with all permissions = %+v, want success", allowed)
		}
		for _, permission := range permissions {
			if r := results[permission][step]; r.Status != allowed.Status {
				needed[step] = append(needed[step], permission)
			}
			names := func(steps map[string]check.Result) bool { return namesPermission(steps[step], permission) }
			if slices.ContainsFunc(slices.Collect(maps.Values(results)), names) {
				named[step] = append(named[step], permission)
			}
		}
	}
	if len(needed) == 0 {
		t.Error("no step needs any permission")
	}
	if diff := cmp.Diff(needed, named); diff != "" {
		t.Errorf("permissions that the steps need and name (-needed +named):\n%s", diff)
	}
}

// checkWithout runs "berth check" once for each permission that is denied, and
// for "", which denies none. It returns the results by permission and step.
func checkWithout(t *testing.T, driver string, permissions []string,
	open func(t *testing.T, permission string) (drivers.Bucket, *denial)) map[string]map[string]check.Result {
	t.Helper()
	var mu sync.Mutex
	results := map[string]map[string]check.Result{}
	var wg sync.WaitGroup
	for _, permission := range slices.Concat([]string{""}, permissions) {
		b, d := open(t, permission)
		d.on.Store(true) // only now, because Open needs some of them too
		wg.Go(func() {
			steps := map[string]check.Result{}
			for _, r := range check.Run(t.Context(), b, driver) {
				steps[r.Step] = r
			}
			mu.Lock()
			defer mu.Unlock()
			results[permission] = steps
		})
	}
	wg.Wait()
	return results
}

// namesPermission reports whether the result names the permission as needed.
func namesPermission(r check.Result, permission string) bool {
	_, needs, _ := strings.Cut(r.Fix, "It needs the permission")
	words := strings.FieldsFunc(needs, func(r rune) bool { return strings.ContainsRune(" ,()", r) })
	return slices.Contains(words, permission) || strings.HasSuffix(needs, " "+permission+".")
}

// TestCheckNamesPermissions checks that "berth check" names the permissions that
// its steps need.
func TestCheckNamesPermissions(t *testing.T) {
	t.Run("s3", func(t *testing.T) {
		open := func(t *testing.T, server *emulator.S3, cfg s3.Config, permission string) (drivers.Bucket, *denial) {
			d := &denial{permissions: s3Permissions, base: ownTransport(), permission: permission}
			cfg.Bucket, cfg.Region, cfg.PathStyle = server.Bucket(t), server.Region, true
			cfg.Endpoint, cfg.AccessKeyID, cfg.SecretAccessKey = inFrontOf(t, server.Endpoint, d), server.AccessKeyID, server.SecretAccessKey
			b, err := s3.Open(t.Context(), cfg)
			return opened(t, b, err), d
		}
		permissions := []string{
			"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListBucket", "s3:ListBucketMultipartUploads",
		}
		server := emulator.VersityGW(t)
		wantNamed(t, "s3", permissions, func(t *testing.T, permission string) (drivers.Bucket, *denial) {
			return open(t, server, s3.Config{}, permission)
		})
		server = emulator.MinIO(t)
		wantNamed(t, "s3", []string{"s3:ListMultipartUploadParts"}, func(t *testing.T, permission string) (drivers.Bucket, *denial) {
			return open(t, server, s3.Config{SSE: "aws:kms", KMSKeyID: emulator.MinIOKey}, permission)
		})
	})

	t.Run("gcs", func(t *testing.T) {
		server := emulator.FakeGCS(t)
		open := func(t *testing.T, cfg gcs.Config, d *denial) drivers.Bucket {
			cfg.Bucket, cfg.Endpoint, cfg.CredentialsFile, cfg.Transport = server.Bucket(t), server.Endpoint, server.CredentialsFile, d
			cfg.PublicEndpoint = inFrontOf(t, server.Endpoint, d)
			b, err := gcs.Open(t.Context(), cfg)
			return opened(t, b, err)
		}
		permissions := []string{"storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list"}
		wantNamed(t, "gcs", permissions, func(t *testing.T, permission string) (drivers.Bucket, *denial) {
			d := &denial{permissions: gcsPermissions, base: ownTransport(), permission: permission}
			return open(t, gcs.Config{}, d), d
		})
		wantNamed(t, "gcs", []string{"iam.serviceAccounts.signBlob"}, func(t *testing.T, permission string) (drivers.Bucket, *denial) {
			d := &denial{permissions: gcsPermissions, base: iam{ownTransport()}, permission: permission}
			return open(t, gcs.Config{SignAs: "signer@test.iam.gserviceaccount.com"}, d), d
		})
	})

	t.Run("azure", func(t *testing.T) {
		open := func(t *testing.T, server *emulator.Azure, cfg azure.Config, permission string) (drivers.Bucket, *denial) {
			d := &denial{permissions: azurePermissions(server.Account), base: server.Transport, permission: permission}
			endpoint, err := url.Parse(server.Endpoint)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Account, cfg.Endpoint, cfg.Container, cfg.Transport = server.Account, server.Endpoint, server.Container(t), d
			cfg.PublicEndpoint = inFrontOf(t, endpoint.Scheme+"://"+endpoint.Host, d) + endpoint.Path
			b, err := azure.Open(t.Context(), cfg)
			return opened(t, b, err), d
		}
		permissions := []string{azureService + "containers/blobs/read", azureService + "containers/blobs/write", azureService + "containers/blobs/delete"}
		server := emulator.Azurite(t)
		wantNamed(t, "azure", permissions, func(t *testing.T, permission string) (drivers.Bucket, *denial) {
			return open(t, server, azure.Config{SharedKey: server.SharedKey}, permission)
		})
		setManagedIdentity(t)
		server = emulator.AzuriteOAuth(t)
		wantNamed(t, "azure", []string{azureService + "generateUserDelegationKey/action"}, func(t *testing.T, permission string) (drivers.Bucket, *denial) {
			return open(t, server, azure.Config{}, permission)
		})
	})
}

// opened returns b, and closes it when the test ends.
func opened(t *testing.T, b drivers.Bucket, err error) drivers.Bucket {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // frees connections only
	return b
}
