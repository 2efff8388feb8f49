package s3

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/drivertest/s3double"
)

// TestOpenAdvice opens buckets with a wrong configuration: the error names the
// setting and wraps no sentinel about a key.
func TestOpenAdvice(t *testing.T) {
	s := emulator.VersityGW(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	good := newBucketOf(t, s)
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no bucket":           {func(c *Config) { c.Bucket = "" }, "s3.Config.Bucket is empty"},
		"wrong bucket":        {func(c *Config) { c.Bucket = "nowhere" }, `s3.Config.Bucket: bucket "nowhere" does not exist`},
		"invalid bucket name": {func(c *Config) { c.Bucket = "b" }, `s3.Config.Bucket: "b" is not the name of a bucket`},
		"directory bucket":    {func(c *Config) { c.Bucket = "b--usw2-az1--x-s3" }, "s3.Config.Bucket"},
		"wrong key id":        {func(c *Config) { c.AccessKeyID = "nobody" }, "s3.Config.AccessKeyID"},
		"wrong secret":        {func(c *Config) { c.SecretAccessKey = "wrong" }, "s3.Config.SecretAccessKey"},
		"half a key":          {func(c *Config) { c.SecretAccessKey = "" }, "s3.Config.SecretAccessKey"},
		"no credentials":      {func(c *Config) { c.AccessKeyID, c.SecretAccessKey = "", "" }, "no credentials"},
		"no region":           {func(c *Config) { c.Region, c.Endpoint = "", "" }, "s3.Config.Region"},
		"bad endpoint":        {func(c *Config) { c.Endpoint = "s3.example.com" }, "s3.Config.Endpoint"},
		"no such host":        {func(c *Config) { c.Endpoint = "http://nowhere.invalid" }, "s3.Config.Endpoint"},
		"bad public endpoint": {func(c *Config) { c.PublicEndpoint = "cdn" }, "s3.Config.PublicEndpoint"},
		"bad checksum":        {func(c *Config) { c.Checksum = "md5" }, "s3.Config.Checksum"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			test.change(&cfg)
			_, err := Open(t.Context(), cfg)
			wantNoClaim(t, err, "Open")
			wantText(t, err, test.want, "Open")
		})
	}
}

// TestOpenRefused opens a bucket in a store that refuses requests: the error
// names the setting and wraps no sentinel about a key.
func TestOpenRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		play interceptor
		want string
	}{
		"denied":                  {refuseAll("", http.StatusForbidden, "AccessDenied"), "s3:PutObject"},
		"missing keys are denied": {refuseAll("HeadObject", http.StatusForbidden, "AccessDenied"), "s3:ListBucket"},
		"expired":                 {refuseAll("", http.StatusBadRequest, "ExpiredToken"), "s3.Config.SessionToken"},
		"clock":                   {refuseAll("", http.StatusForbidden, "RequestTimeTooSkewed"), "clock"},
		"other region": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("x-amz-bucket-region", "eu-west-1")
			return refuse(w, http.StatusMovedPermanently, "PermanentRedirect")
		}, "is in eu-west-1, not us-east-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, cfg := newProxy(t)
			proxy.intercept(test.play)
			_, err := Open(t.Context(), cfg)
			wantNoClaim(t, err, "Open")
			wantText(t, err, test.want, "Open")
		})
	}
}

// TestOpenDown opens a store that is down, which is a temporary error. Open
// returns it without waiting for the store to recover.
func TestOpenDown(t *testing.T) {
	t.Parallel()
	down := httptest.NewServer(nil)
	down.Close()
	start := time.Now()
	_, err := Open(t.Context(), Config{
		Bucket: "b", Endpoint: down.URL, PathStyle: true, AccessKeyID: "id", SecretAccessKey: "secret", Retries: -1,
	})
	wantBusy(t, err, "Open of a store that is down")
	wantText(t, err, "s3.Config.Endpoint", "Open of a store that is down")
	if took := time.Since(start); took > busyTries*busyPause {
		t.Errorf("Open of a store that is down took %v, want less than %v", took, busyTries*busyPause)
	}
}

// TestEndpointOfEnvironment checks that an endpoint from the environment is
// used and logged.
func TestEndpointOfEnvironment(t *testing.T) {
	noCredentials(t)
	store := s3double.New(t, s3double.Knobs{})
	cfg := newBucketOfDouble(store)
	if _, log := openLogged(t, cfg); log != "" {
		t.Errorf("with Config.Endpoint the log is:\n%s", log)
	}
	t.Setenv("AWS_ENDPOINT_URL_S3", cfg.Endpoint)
	cfg.Endpoint = ""
	_, log := openLogged(t, cfg)
	wantLog(t, log, "endpoint="+store.Endpoint())
}
