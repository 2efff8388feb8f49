package config

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/cmd/berth/server"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/redirect"
)

// listening returns the section listen.
func listening(c *Config) any { return fmt.Sprintf("%s h2c %t", c.Address, c.Server.H2C) }

// accepted are valid configurations, and fields of theirs.
var accepted = []struct {
	name, file string
	env        []string
	get        func(*Config) any
	want       any
}{
	{"digits stay as written", "storage: {s3: {access_key_id: 012345, secret_access_key: 0x10}}", nil,
		func(c *Config) any { return c.Storage.S3.AccessKeyID + " " + c.Storage.S3.SecretAccessKey }, "012345 0x10"},
	{"empty file", "# nothing\n", nil, func(c *Config) any { return c.Address }, "127.0.0.1:5000"},
	{"empty key and section", "listen:\nstorage:\nredirect: {cdn: {}, rules: []}\n", nil, func(c *Config) any { return c.Address }, "127.0.0.1:5000"},
	{"address in a map", "listen: {address: ':1', h2c: true}\nauth: {kind: none}", nil, listening, ":1 h2c true"},
	{"map without an address", "listen: {address: , h2c: true}", nil, listening, "127.0.0.1:5000 h2c true"},
	{"address, and a variable for the map", "listen: ':1'", []string{"BERTH_LISTEN_H2C=true", "BERTH_AUTH_KIND=none"}, listening, ":1 h2c true"},
	{"variables for both", "listen: {address: ':1', h2c: true}", []string{"BERTH_LISTEN=:2", "BERTH_LISTEN_H2C=false", "BERTH_AUTH_KIND=none"}, listening, ":2 h2c false"},
	{"headers", "storage: {s3: {headers: {X-Tigris-Consistent: true, X-B: 'a, b'}}}", []string{"BERTH_STORAGE_S3_HEADERS_X_B=c"}, func(c *Config) any {
		return c.Storage.S3.Headers["X-Tigris-Consistent"] + " " + c.Storage.S3.Headers["X-B"]
	}, "true c"},
	{"no headers", "storage: {s3: {headers: {}}}", nil, func(c *Config) any { return len(c.Storage.S3.Headers) }, 0},
	{"equal parts", "storage: {s3: {equal_parts: false}}", nil, func(c *Config) any { return *c.Storage.S3.EqualParts }, false},
	{"equal parts by default", "storage: {s3: {equal_parts: auto}}", nil, func(c *Config) any { return c.Storage.S3.EqualParts == nil }, true},
	{"no retries", "storage: {s3: {retries: 0}}", nil, func(c *Config) any { return c.Storage.S3.Retries }, -1},
	{"no cache of manifests", "manifests: {cache_memory: 0}", nil, func(c *Config) any { return c.Blobs.Manifests.CacheMemory }, int64(-1)},
	{"manifests", "manifests: {max_size: 8MiB, memory: 1GiB, sparse_indexes: true}", nil, func(c *Config) any { return c.Blobs.Manifests }, blobstore.ManifestConfig{
		MaxSize: 8 << 20, Memory: 1 << 30, CacheMemory: 64 << 20, SparseIndexes: true, ImmutableTags: []blobstore.ImmutableTags{},
	}},
	{"immutable tags", "manifests:\n  immutable_tags:\n  - {repository: library/**, tags: ['*']}\n  - tags: [v*, latest]\n",
		[]string{"BERTH_MANIFESTS_IMMUTABLE_TAGS_1_REPOSITORY=a/*"}, func(c *Config) any { return c.Blobs.Manifests.ImmutableTags },
		[]blobstore.ImmutableTags{{Repository: "library/**", Tags: []string{"*"}}, {Repository: "a/*", Tags: []string{"v*", "latest"}}}},
	{"no cache", "cache: {entries: 0}", nil, func(c *Config) any { return c.Blobs.Cache.Entries }, -1},
	{"slashes around the prefix", "storage: {prefix: /a/b/}", nil, func(c *Config) any {
		s := c.Storage
		return []string{s.Filesystem.Prefix, s.S3.Prefix, s.GCS.Prefix, s.Azure.Prefix}
	}, []string{"a/b", "a/b", "a/b", "a/b"}},
	{"no deletes", "delete: {enabled: false}", nil, func(c *Config) any { return c.API.DisableDelete }, true},
	{"bytes", "upload: {max_blob_size: 5000}", nil, func(c *Config) any { return c.Blobs.Upload.MaxBlobSize }, int64(5000)},
	{"empty variable", "public_url: http://x", []string{"BERTH_PUBLIC_URL="}, func(c *Config) any { return c.API.PublicURL + c.Redirect.PublicURL }, ""},
	{"Kubernetes Services called berth and berth-s3", "", []string{"BERTH_SERVICE_HOST=10.0.0.1", "BERTH_SERVICE_PORT=5000",
		"BERTH_SERVICE_PORT_HTTP=5000", "BERTH_PORT=tcp://10.0.0.1:5000", "BERTH_PORT_5000_TCP=x", "BERTH_PORT_5000_TCP_ADDR=x",
		"BERTH_S3_SERVICE_HOST=10.0.0.2", "BERTH_S3_PORT_9000_TCP_PROTO=tcp"}, func(c *Config) any { return c.Address }, "127.0.0.1:5000"},
	{"variable that a key is in", "redirect: {cdn: {edge: {kind: nginx, base_url: 'https://x', keys: [{env: BERTH_EDGE_KEY}]}}}",
		[]string{"BERTH_EDGE_KEY=0123456789abcdef"}, func(c *Config) any { return c.Redirect.CDN["edge"].Keys }, []redirect.Key{{Env: "BERTH_EDGE_KEY"}}},
	{"CDN that takes no keys", "redirect: {cdn: {a: {kind: plain, base_url: 'https://x', keys: []}, b: {kind: plain, base_url: 'https://x', keys: }}}", nil,
		func(c *Config) any { return len(c.Redirect.CDN) }, 2},
	{"days of an account key", "storage: {driver: azure, azure: {account: a, container: c}}\nredirect: {expiry: 166h}", []string{"BERTH_STORAGE_AZURE_SHARED_KEY=a2V5"},
		func(c *Config) any { return c.Redirect.Expiry }, 166 * time.Hour},
	{"days of an identity", "storage: {driver: azure, azure: {account: a, container: c}}\nredirect: {expiry: 143h, window: 1h}", nil,
		func(c *Config) any { return c.Redirect.Expiry }, 143 * time.Hour},
	{"trusted proxies", "trusted_proxies: [10.0.0.0/8, '::1']\nredirect: {trusted_proxies: 0}", nil,
		func(c *Config) any { return c.Redirect.TrustedNetworks }, []string{"10.0.0.0/8", "::1"}},
	{"trusted proxies in a variable", "", []string{"BERTH_TRUSTED_PROXIES=10.0.0.0/8, ::1"},
		func(c *Config) any { return c.Redirect.TrustedNetworks }, []string{"10.0.0.0/8", "::1"}},
	{"origins", "http: {cors: {origins: ['https://a.example', 'http://localhost:3000', 'http://[::1]:8080'], credentials: true}}", nil,
		func(c *Config) any { return c.Server.CORS }, server.CORS{Origins: []string{"https://a.example", "http://localhost:3000", "http://[::1]:8080"}, Credentials: true, MaxAge: time.Hour}},
	{"every origin", "http: {cors: {origins: ['*']}}", nil, func(c *Config) any { return c.Server.CORS.Origins }, []string{"*"}},
	{"rule for all networks", "redirect: {rules: [{from: [], target: direct}]}", nil,
		func(c *Config) any { return c.Redirect.Rules }, []redirect.Rule{{Target: "direct"}}},
	{"rules", "redirect:\n  cdn:\n    edge: {base_url: https://x, keys: [{env: K}, {file: f}]}\n" +
		"  rules:\n  - {from: [10.0.0.0/8, '::/0'], target: cdn:edge}\n  - target: direct\n",
		[]string{"BERTH_REDIRECT_CDN_EDGE_KIND=nginx", "BERTH_REDIRECT_CDN_EDGE_KEYS_1_FILE=", "BERTH_REDIRECT_CDN_EDGE_KEYS_1_VALUE=0123456789abcdef",
			"BERTH_REDIRECT_RULES_0_MIN_SIZE=1GiB", "K=0123456789abcdef"},
		func(c *Config) any { return c.Redirect }, redirect.Config{
			Expiry: 20 * time.Minute, Window: 5 * time.Minute, Default: "presign",
			CDN: map[string]redirect.CDN{"edge": {Kind: "nginx", BaseURL: "https://x",
				Keys: []redirect.Key{{Env: "K"}, {Value: "0123456789abcdef"}}}},
			Rules: []redirect.Rule{{From: []string{"10.0.0.0/8", "::/0"}, MinSize: 1 << 30, Target: "cdn:edge"}, {Target: "direct"}},
		}},
}

// TestAccepted checks the fields of valid configurations.
func TestAccepted(t *testing.T) {
	for _, tt := range accepted {
		t.Run(tt.name, func(t *testing.T) {
			c, err := loadText(t, tt.file, tt.env)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, tt.get(c)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// optionsSigner records the options that it is called with.
type optionsSigner struct{ opts drivers.SignOptions }

func (s *optionsSigner) SignGet(_ context.Context, _ string, opts drivers.SignOptions) (drivers.Signed, error) {
	s.opts = opts
	return drivers.Signed{URL: "https://bucket.example/x", Expires: time.Now().Add(opts.Expires)}, nil
}
