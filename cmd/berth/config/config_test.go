package config

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/cmd/berth/server"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/azure"
	"github.com/berthhq/berth/drivers/filesystem"
	"github.com/berthhq/berth/drivers/s3"
	"github.com/berthhq/berth/redirect"
)

func TestDefaults(t *testing.T) {
	got := mustLoad(t, "", nil)
	want := &Config{
		Address: "127.0.0.1:5000",
		Server: server.Config{
			CORS:         server.CORS{MaxAge: time.Hour},
			RequestLimit: 6 * time.Hour, Shutdown: 20 * time.Second,
		},
		Blobs: blobstore.Config{
			InlineMax: 16 << 10,
			Upload: blobstore.UploadConfig{
				Memory: 256 << 20, PartSize: 16 << 20, ParallelParts: 4, SessionLifetime: 144 * time.Hour, MaxWaiting: 4096,
			},
			Cache:        blobstore.CacheConfig{Entries: 100_000, TTL: time.Minute},
			RequestLimit: 6 * time.Hour,
			Grace:        24 * time.Hour,
		},
		Storage: Storage{
			Driver:     "filesystem",
			Filesystem: filesystem.Config{Root: "./berth-data"},
			S3:         s3.Config{Checksum: "crc32c", Retries: 2, Connections: 256},
		},
		Redirect:  redirect.Config{Expiry: 20 * time.Minute, Window: 5 * time.Minute, Default: "presign"},
		Telemetry: Telemetry{LogLevel: "info", LogFormat: "text"},
	}
	if diff := cmp.Diff(want, got, ignoreTable(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

// TestTable checks the table: every field has a key, no two keys share a flag or
// a variable, and all defaults are allowed.
func TestTable(t *testing.T) {
	table := keys(sample(anyName))
	seen := map[string]string{}
	for _, k := range table {
		names := []string{k.name, k.env()}
		if k.flag != "" {
			names = append(names, "--"+k.flag)
		}
		for _, name := range names {
			if seen[name] != "" {
				t.Errorf("%s and %s are both %s", k.name, seen[name], name)
			}
			seen[name] = k.name
		}
		if def := k.value.String(); !k.value.set(def) {
			t.Errorf("%s: its default %q is not accepted: want %s", k.name, def, k.value.wants())
		}
		if k.help == "" || k.value.wants() == "" {
			t.Errorf("%s says nothing about itself", k.name)
		}
		if foreign.MatchString(k.env()) {
			t.Errorf("%s: %s is ignored as somebody else's", k.name, k.env())
		}
	}
}

func TestEveryKeyFromFileAndEnvironment(t *testing.T) {
	// A value for every key that is not its default.
	values := map[string]string{"listen": ":0", "limits.shutdown": "5s", "limits.drain": "5s", "storage.prefix": "a/b", "storage.s3.sse": "aws:kms", "storage.s3.checksum": "none", "storage.s3.request_payer": "requester", "storage.azure.access_tier": "Cool",
		"storage.driver": "memory", "delete.enabled": "false", "redirect.rules[0].target": "cdn:edge", "redirect.rules[0].from": "10.0.0.0/8",
		"redirect.cdn.edge.kind": "nginx", "redirect.cdn.edge.base_url": "https://cdn.example.net", "public_url": "https://example.com",
		"redirect.expiry": "10m", "redirect.window": "10s",
		"telemetry.log_level": "warn", "telemetry.log_format": "json", "gc.grace": "13h",
		"upload.max_blob_size": "5GiB", "storage.inline_max": "1KiB", "upload.part_size": "8MiB", "upload.memory": "128MiB"}
	for _, k := range keys(sample("edge")) {
		candidates := []string{values[k.name], "https://example.com", "true", "7", "7MiB", "1h1m"}
		for _, text := range candidates {
			if text != "" && text != k.value.String() && k.value.set(text) {
				values[k.name] = text
				break
			}
		}
		if values[k.name] == "" {
			t.Fatalf("no value to try for %s: want %s", k.name, k.value.wants())
		}
	}
	shape := "storage: {s3: {headers: {edge: x}}}\nredirect: {cdn: {edge: {keys: [{id: x}]}}, rules: [{target: presign}]}\n"
	var env []string
	for _, k := range keys(&Config{}) {
		if k.secretIn != "" {
			values[k.name] = "" // TestSecretFiles tests files
		}
	}
	for name, text := range values {
		env = append(env, key{name: name}.env()+"="+text)
	}
	fromEnv := mustFill(t, shape, env)
	for _, k := range fromEnv.table {
		if k.value.String() != values[k.name] || k.origin != "environment "+k.env() {
			t.Errorf("%s is %q from %s, want %q from the environment", k.name, k.value, k.origin, values[k.name])
		}
	}
	for _, setting := range env {
		name, _, _ := strings.Cut(setting, "=")
		if err := os.Unsetenv(name); err != nil { // t.Setenv restores it at the end of the test
			t.Fatal(err)
		}
	}

	var file bytes.Buffer
	if err := (&Config{table: shown(fromEnv.table)}).WriteYAML(&file); err != nil {
		t.Fatal(err)
	}
	fromFile := mustFill(t, file.String(), nil)
	if diff := cmp.Diff(fromEnv, fromFile, ignoreTable()); diff != "" {
		t.Errorf("from the environment and, printed, from a file (-env +file):\n%s\n%s", diff, &file)
	}
	for _, k := range fromFile.table {
		if !strings.HasPrefix(k.origin, "test.yaml:") {
			t.Errorf("%s comes from %s, want test.yaml", k.name, k.origin)
		}
	}
}

// shown returns the table without secrets, so that WriteYAML redacts nothing.
func shown(table []key) []key {
	var all []key
	for _, k := range table {
		k.secret = false
		all = append(all, k)
	}
	return all
}

func TestRefused(t *testing.T) {
	tests := []struct {
		name, file string
		env        []string
		want       []string // one for each problem; "..." stands for the text of a library
	}{
		{"unknown key", "storage:\n  s3:\n    buckt: x\n", nil,
			[]string{"test.yaml:3: there is no key storage.s3.buckt; did you mean storage.s3.bucket?"}},
		{"key in the wrong place", "bucket: x\n", nil,
			[]string{"test.yaml:1: there is no key bucket; did you mean storage.s3.bucket?"}},
		{"unknown section without keys", "storag: {}\nfoo:\n", nil,
			[]string{"test.yaml:2: there is no key foo", "test.yaml:1: there is no key storag"}},
		{"key as a section", "listen: {port: 1}\n", nil,
			[]string{"test.yaml:1: there is no key listen.port"}},
		{"key of a map that is not there", "listen: {addresses: ':1'}\n", nil,
			[]string{"test.yaml:1: there is no key listen.addresses; did you mean listen.address?"}},
		{"bad address in a map", "listen: {address: x, h2c: on}\n", nil, []string{
			`listen: "x" (test.yaml:1): want host:port, such as 127.0.0.1:5000, or :5000 for all interfaces`,
			`listen.h2c: "on" (test.yaml:1): want true or false`,
		}},
		{"section as a key", "storage: s3\n", nil,
			[]string{"test.yaml:1: storage: want keys and values below it, such as storage.driver"}},
		{"section as a list", "storage: {azure: [a, b]}\n", nil,
			[]string{"test.yaml:1: storage.azure: want keys and values below it, such as storage.azure.account"}},
		{"capital letters", "Listen: :1\n", nil,
			[]string{"test.yaml:1: there is no key Listen; did you mean listen?"}},
		{"unknown variable", "", []string{"BERTH_STORAGE_S3_BUCKT=x", "HOME=/"},
			[]string{"environment BERTH_STORAGE_S3_BUCKT: there is no such key; did you mean BERTH_STORAGE_S3_BUCKET?"}},
		{"variable without its section", "", []string{"BERTH_BUCKET=x"},
			[]string{"environment BERTH_BUCKET: there is no such key; did you mean BERTH_STORAGE_S3_BUCKET?"}},
		{"bad values, all of them said", "upload: {memory: lots, parallel_parts: 0}\n", []string{"BERTH_DELETE_ENABLED=yes"},
			[]string{
				`upload.memory: "lots" (test.yaml:1): want a size from 16MiB to 1TiB, such as 16MiB (units: B, KiB, MiB, GiB, TiB, PiB)`,
				`upload.parallel_parts: "0" (test.yaml:1): want a whole number from 1 to 64`,
				`delete.enabled: "yes" (environment BERTH_DELETE_ENABLED): want true or false`,
			}},
		{"empty variable", "", []string{"BERTH_CACHE_TTL="},
			[]string{`cache.ttl: "" (environment BERTH_CACHE_TTL): want a time from 1s to 24h, such as 20m (units: ms, s, m, h)`}},
		{"choice", "storage: {driver: ftp}", nil,
			[]string{`storage.driver: "ftp" (test.yaml:1): want one of filesystem, s3, gcs, azure, memory`}},
		{"redacted secret", "storage: {s3: {secret_access_key: REDACTED}}", nil,
			[]string{"storage.s3.secret_access_key: \"REDACTED\" (test.yaml:1): want the secret, not what `berth config` shows in its place"}},
		{"secrets in URLs", "public_url: https://me:secret@registry.example.com", []string{"BERTH_STORAGE_AZURE_ENDPOINT=https://a.example.com/?sig=secret", "BERTH_STORAGE_S3_ENDPOINT=s3.example.com?secret", "BERTH_STORAGE_GCS_ENDPOINT=https://g.example.com/#secret"}, []string{
			`public_url: "https://REDACTED@registry.example.com" (test.yaml:1): want a URL such as https://registry.example.com, without user, query or fragment`,
			`storage.s3.endpoint: "REDACTED" (environment BERTH_STORAGE_S3_ENDPOINT): want a URL such as https://registry.example.com, without user, query or fragment`,
			`storage.gcs.endpoint: "https://g.example.com/#REDACTED" (environment BERTH_STORAGE_GCS_ENDPOINT): want a URL such as https://registry.example.com, without user, query or fragment`,
			`storage.azure.endpoint: "https://a.example.com/?REDACTED" (environment BERTH_STORAGE_AZURE_ENDPOINT): want a URL such as https://registry.example.com, without user, query or fragment`,
		}},
		{"no expiry", "redirect: {expiry: 0s}", nil,
			[]string{`redirect.expiry: "0s" (test.yaml:1): want a time from 1s to 168h, such as 20m (units: ms, s, m, h)`}},
		{"list for a value", "listen: [a, b]", nil,
			[]string{`listen: "a,b" (test.yaml:1): want host:port, such as 127.0.0.1:5000, or :5000 for all interfaces`}},
		{"grace", "gc: {grace: 3h}", nil,
			[]string{"gc.grace: ..."}},
		{"part of memory", "upload: {memory: 64MiB}", nil,
			[]string{"upload.part_size: ..."}},
		{"azure", "storage: {driver: azure}\nupload: {session_lifetime: 145h}", nil, []string{
			"storage.azure.container...",
			"upload.session_lifetime: 145h: want at most 144h with azure, which drops the parts of an unfinished upload after a week",
		}},
		{"no origins", "http: {cors: {origins: ['https://a.example/', 'https://A.example', 'a.example', 'https://*.example', 'https://a.example:443', 'null', 'https://u@a.example', '']}}", nil, []string{
			`test.yaml: line 1: http.cors.origins: an item of the list is empty`,
		}},
		{"no origins in a variable", "", []string{"BERTH_HTTP_CORS_ORIGINS=https://a.example/,https://A.example,a.example,https://*.example,https://a.example:443,null,https://u@a.example"}, []string{
			`http.cors.origins: "https://a.example/": want an origin as browsers send it, such as https://ui.example.com or http://localhost:3000, or * alone`,
			`http.cors.origins: "https://A.example": want an origin as browsers send it, such as https://ui.example.com or http://localhost:3000, or * alone`,
			`http.cors.origins: "a.example": want an origin as browsers send it, such as https://ui.example.com or http://localhost:3000, or * alone`,
			`http.cors.origins: "https://*.example": want an origin as browsers send it, such as https://ui.example.com or http://localhost:3000, or * alone`,
			`http.cors.origins: "https://a.example:443": want an origin as browsers send it, such as https://ui.example.com or http://localhost:3000, or * alone`,
			`http.cors.origins: "null": want an origin as browsers send it, such as https://ui.example.com or http://localhost:3000, or * alone`,
			`http.cors.origins: "https://u@a.example": want an origin as browsers send it, such as https://ui.example.com or http://localhost:3000, or * alone`,
		}},
		{"credentials for every origin", "http: {cors: {origins: ['*', 'https://a.example'], credentials: true}}", nil, []string{
			`http.cors.origins: * is every origin: want it alone`,
			`http.cors.credentials: want origins by name, not *: any page could use the credentials of its visitors`,
		}},
		{"credentials for no origin", "http: {cors: {credentials: true}}", nil, []string{
			`http.cors.credentials: requires http.cors.origins, which is empty`,
		}},
		{"azure by an identity", "storage: {driver: azure, azure: {account: a, container: c}}\nredirect: {expiry: 144h}", nil, []string{
			"redirect.expiry: 144h0m0s and a window of 5m0s make 144h5m0s, and URLs that the store signs live 144h0m0s at most",
		}},
		{"s3", "storage: {driver: s3, s3: {access_key_id: a, kms_key_id: k}}", nil, []string{
			"storage.s3.bucket...",
		}},
		{"redirect", "redirect: {rules: [{target: cdn:edge, min_size: 1}, {target: nowhere}]}", nil, []string{
			`redirect.rules[0].target: there is no redirect.cdn.edge (defined: none)`,
			`redirect.rules[1].target: "nowhere" is not one of presign, direct, cdn:<name>`,
		}},
		{"unknown key in a list", "redirect: {rules: [{target: direct}, {taget: direct}]}", nil, []string{
			`test.yaml:1: there is no key redirect.rules[1].taget; did you mean redirect.rules[1].target?`,
		}},
		{"lists that are none", "redirect:\n  cdn:\n    a: {kind: nginx, base_url: 'https://x', keys: {file: f, id: a}}\n" +
			"    b: {kind: nginx, base_url: 'https://x', keys: [secret]}\n  rules: {target: direct}\n", nil, []string{
			`test.yaml:3: redirect.cdn.a.keys: want a list of keys and values`,
			`test.yaml:4: redirect.cdn.b.keys: want a list of keys and values`,
			`test.yaml:5: redirect.rules: want a list of keys and values`,
		}},
		{"CDN without settings", "redirect: {cdn: {edge: {}, other: {kind: }}}", nil, []string{
			`redirect.cdn.edge.base_url: "" is not an absolute http or https URL`,
			`redirect.cdn.edge.kind: "" is not one of akamai, cloudcdn, cloudflare, cloudfront, frontdoor, mediacdn, nginx, plain`,
			`redirect.cdn.other.base_url: "" is not an absolute http or https URL`,
			`redirect.cdn.other.kind: "" is not one of akamai, cloudcdn, cloudflare, cloudfront, frontdoor, mediacdn, nginx, plain`,
		}},
		{"CDN without keys", "redirect: {cdn: {edge: {kind: nginx, base_url: 'https://x', keys: []}}}", nil, []string{
			`redirect.cdn.edge.keys: a CDN of kind nginx needs at least one`,
		}},
		{"trusted proxies, both ways", "trusted_proxies: [10.0.0.0/8]\nredirect: {trusted_proxies: 1}", nil, []string{
			`trusted_proxies: redirect.trusted_proxies, its older form, is set as well: set one of them`,
		}},
		{"trusted proxies that are no network", "", []string{"BERTH_TRUSTED_PROXIES=10.0.0.0/33"}, []string{
			`trusted_proxies: "10.0.0.0/33" is neither a network such as 10.0.0.0/8 nor an address`,
		}},
		{"network that is nothing", "redirect: {rules: [{from: [''], target: direct}]}", nil, []string{
			`test.yaml: line 1: redirect.rules[0].from: an item of the list is empty`,
		}},
		{"network that is blank", "redirect: {rules: [{from: [' '], target: direct}]}", nil, []string{
			`test.yaml: line 1: redirect.rules[0].from: an item of the list is empty`,
		}},
		{"network that is nothing, in a variable", "redirect: {rules: [{target: direct}]}", []string{"BERTH_REDIRECT_RULES_0_FROM=10.0.0.0/8,"}, []string{
			`redirect.rules[0].from: "10.0.0.0/8," (environment BERTH_REDIRECT_RULES_0_FROM): want a list such as [a, b], without empty words`,
		}},
		{"variables of no entry", "", []string{"BERTH_REDIRECT_CDN_EDGE_KIND=plain", "BERTH_REDIRECT_RULES_0_TARGET=direct"}, []string{
			"environment BERTH_REDIRECT_CDN_EDGE_KIND: there is no such key; variables set keys of entries that the file has, and make none",
			"environment BERTH_REDIRECT_RULES_0_TARGET: there is no such key; variables set keys of entries that the file has, and make none",
		}},
		{"variables that are none of an entry's", "redirect: {cdn: {edge: {kind: plain, base_url: 'https://x'}}}", []string{"BERTH_REDIRECT_CDN_EDGE_COMPRESSION=on", "BERTH_REDIRECT_CDN_EDGE_KINDS=plain"}, []string{
			"environment BERTH_REDIRECT_CDN_EDGE_COMPRESSION: there is no such key; variables set keys of entries that the file has, and make none",
			"environment BERTH_REDIRECT_CDN_EDGE_KINDS: there is no such key; did you mean BERTH_REDIRECT_CDN_EDGE_KIND?",
		}},
		{"variable of no key", "redirect: {cdn: {edge: {kind: nginx, base_url: 'https://x', keys: [{env: BERTH_EDGE_KEY}]}}}", []string{"BERTH_EDGE_KEYS=secret"}, []string{
			"environment BERTH_EDGE_KEYS: there is no such key; did you mean BERTH_EDGE_KEY?",
		}},
		{"name of a CDN", "redirect: {cdn: {Edge: {kind: plain}}}", nil, []string{
			`redirect.cdn: name "Edge": want a-z, then a-z, 0-9, and - between them`,
			`test.yaml:1: there is no key redirect.cdn.Edge.kind`,
		}},
		{"twice", "listen: :1\nlisten: :2\n", nil, []string{"test.yaml: line 2: listen is given twice"}},
		{"alias", "a: &a {b: *a}", nil, []string{"test.yaml: line 1: a: anchors and aliases are not understood"}},
		{"two documents", "listen: :1\n---\nlisten: :2\n", nil, []string{"test.yaml: want one YAML document, and nothing after it"}},
		{"not a mapping", "- a\n", nil, []string{"test.yaml: line 1: want keys and values, such as listen: 127.0.0.1:5000"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := loadText(t, tt.file, tt.env)
			if err == nil {
				t.Fatal("it was accepted")
			}
			got := strings.Split(err.Error(), "\n")
			for i, want := range tt.want {
				if prefix, ok := strings.CutSuffix(want, "..."); ok && i < len(got) && strings.HasPrefix(got[i], prefix) {
					got[i] = want
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// listening returns the section listen.
func listening(c *Config) any { return fmt.Sprintf("%s h2c %t", c.Address, c.Server.H2C) }

func TestAccepted(t *testing.T) {
	tests := []struct {
		name, file string
		env        []string
		get        func(*Config) any
		want       any
	}{
		{"digits stay as written", "storage: {s3: {access_key_id: 012345, secret_access_key: 0x10}}", nil,
			func(c *Config) any { return c.Storage.S3.AccessKeyID + " " + c.Storage.S3.SecretAccessKey }, "012345 0x10"},
		{"empty file", "# nothing\n", nil, func(c *Config) any { return c.Address }, "127.0.0.1:5000"},
		{"empty key and section", "listen:\nstorage:\nredirect: {cdn: {}, rules: []}\n", nil, func(c *Config) any { return c.Address }, "127.0.0.1:5000"},
		{"address in a map", "listen: {address: ':1', h2c: true}", nil, listening, ":1 h2c true"},
		{"map without an address", "listen: {address: , h2c: true}", nil, listening, "127.0.0.1:5000 h2c true"},
		{"address, and a variable for the map", "listen: ':1'", []string{"BERTH_LISTEN_H2C=true"}, listening, ":1 h2c true"},
		{"variables for both", "listen: {address: ':1', h2c: true}", []string{"BERTH_LISTEN=:2", "BERTH_LISTEN_H2C=false"}, listening, ":2 h2c false"},
		{"headers", "storage: {s3: {headers: {X-Tigris-Consistent: true, X-B: 'a, b'}}}", []string{"BERTH_STORAGE_S3_HEADERS_X_B=c"}, func(c *Config) any {
			return c.Storage.S3.Headers["X-Tigris-Consistent"] + " " + c.Storage.S3.Headers["X-B"]
		}, "true c"},
		{"no headers", "storage: {s3: {headers: {}}}", nil, func(c *Config) any { return len(c.Storage.S3.Headers) }, 0},
		{"equal parts", "storage: {s3: {equal_parts: false}}", nil, func(c *Config) any { return *c.Storage.S3.EqualParts }, false},
		{"equal parts by default", "storage: {s3: {equal_parts: auto}}", nil, func(c *Config) any { return c.Storage.S3.EqualParts == nil }, true},
		{"no retries", "storage: {s3: {retries: 0}}", nil, func(c *Config) any { return c.Storage.S3.Retries }, -1},
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
	for _, tt := range tests {
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

// TestRedirectPolicy checks that the configured rules decide.
func TestRedirectPolicy(t *testing.T) {
	c := mustLoad(t, "public_url: https://registry.example.com\n"+
		"redirect: {expiry: 1h, window: 10m, trusted_proxies: 2, rules: [{min_size: 7, target: direct}]}", nil)
	p, err := redirect.New(c.Redirect)
	if err != nil {
		t.Fatal(err)
	}
	var signer optionsSigner
	if _, err := p.Presign(t.Context(), &signer, "data/x"); err != nil || signer.opts.Expires != time.Hour || signer.opts.Window != 10*time.Minute {
		t.Errorf("Presign signs for %v in windows of %v, %v, want 1h and 10m", signer.opts.Expires, signer.opts.Window, err)
	}
	r := &http.Request{RemoteAddr: "192.0.2.1:1", Header: http.Header{"X-Forwarded-For": {"198.51.100.1, 203.0.113.1"}}}
	if got := p.ClientAddr(r).String(); got != "198.51.100.1" {
		t.Errorf("ClientAddr behind two proxies = %s, want 198.51.100.1", got)
	}
	if got := p.Explain(redirect.Request{Key: "data/x", Size: 7}); len(got) != 1 || KeysIn(got[0].Rule) != "redirect.rules[0]" {
		t.Errorf("Explain = %+v, want the configured rule", got)
	}
	c = mustLoad(t, "trusted_proxies: [192.0.2.0/24]", nil)
	if p, err = redirect.New(c.Redirect); err != nil {
		t.Fatal(err)
	}
	if got := p.ClientAddr(r).String(); got != "203.0.113.1" {
		t.Errorf("ClientAddr behind a trusted network = %s, want 203.0.113.1", got)
	}
	_, err = loadText(t, "public_url: https://example.com\nredirect: {cdn: {edge: {kind: plain, base_url: 'https://cdn.example.com'}}}", nil)
	if err == nil || !strings.Contains(err.Error(), "redirect.cdn.edge.base_url: host cdn.example.com is a subdomain of the service's example.com") {
		t.Errorf("a CDN below public_url: %v", err)
	}
}

// mustFill is like loadText without the checks between keys.
func mustFill(t *testing.T, file string, env []string) *Config {
	t.Helper()
	given, err := parseText(t, file, env)
	if err != nil {
		t.Fatal(err)
	}
	c, err := fill("test.yaml", given, pflag.NewFlagSet("test", pflag.ContinueOnError))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// loadText loads a file test.yaml with this content, in this environment.
func loadText(t *testing.T, file string, env []string) (*Config, error) {
	given, err := parseText(t, file, env)
	if err != nil {
		return nil, &Error{[]string{"test.yaml: " + err.Error()}}
	}
	return load("test.yaml", given, pflag.NewFlagSet("test", pflag.ContinueOnError))
}

func parseText(t *testing.T, file string, env []string) (tree, error) {
	for _, setting := range env {
		name, text, _ := strings.Cut(setting, "=")
		t.Setenv(name, text)
	}
	return parseYAML([]byte(file))
}

func mustLoad(t *testing.T, file string, env []string) *Config {
	t.Helper()
	c, err := loadText(t, file, env)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ignoreTable() cmp.Option { return cmpopts.IgnoreUnexported(Config{}, azure.Config{}) }
