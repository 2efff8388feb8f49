package config

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/collect"
	"github.com/berthhq/berth/cmd/berth/auth"
	"github.com/berthhq/berth/cmd/berth/server"
	"github.com/berthhq/berth/drivers/azure"
	"github.com/berthhq/berth/drivers/filesystem"
	"github.com/berthhq/berth/drivers/gcs"
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
			Manifests:    blobstore.ManifestConfig{MaxSize: 4 << 20, Memory: 64 << 20, CacheMemory: 64 << 20},
			RequestLimit: 6 * time.Hour,
			Grace:        24 * time.Hour,
		},
		Storage: Storage{
			Driver:     "filesystem",
			Filesystem: filesystem.Config{Root: "./berth-data"},
			S3:         s3.Config{Checksum: "crc32c", Retries: 2, Connections: 256},
			Data: &Storage{
				Filesystem: filesystem.Config{Root: "./berth-blobs"},
				S3:         s3.Config{Checksum: "crc32c", Retries: 2, Connections: 256},
			},
		},
		Redirect:  redirect.Config{Expiry: 20 * time.Minute, Window: 5 * time.Minute, Default: "presign"},
		Auth:      auth.Config{Service: "berth", TokenLifetime: 5 * time.Minute, Token: auth.TokenConfig{Leeway: time.Minute}},
		Admin:     Admin{Address: "auto"},
		Collect:   collect.Config{Grace: 24 * time.Hour, UnreferencedAfter: 168 * time.Hour, Concurrency: 16},
		Telemetry: Telemetry{LogLevel: "info", LogFormat: "text"},
	}
	if diff := cmp.Diff(want, got, ignoreTable(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

// TestTable checks that no two keys share a field, a flag or a variable, and that
// all defaults are allowed.
func TestTable(t *testing.T) {
	table := keys(sample(anyName))
	seen := map[string]string{}
	for _, k := range table {
		names := []string{k.name, k.env()}
		if k.flag != "" {
			names = append(names, "--"+k.flag)
		}
		for _, p := range k.value.fields() {
			names = append(names, fmt.Sprintf("field %p", p))
		}
		for _, name := range names {
			if seen[name] != "" {
				t.Errorf("%s and %s are both %s", k.name, seen[name], name)
			}
			seen[name] = k.name
		}
		if def := k.value.String(); !k.value.set(def) {
			t.Errorf("%s: the default %q is not allowed: want %s", k.name, def, k.value.wants())
		}
		if k.help == "" || k.value.wants() == "" {
			t.Errorf("%s has no description", k.name)
		}
		if foreign.MatchString(k.env()) {
			t.Errorf("%s: %s is ignored as a variable for other programs", k.name, k.env())
		}
	}
}

// TestEveryKeyFromFileAndEnvironment sets every key from the environment, prints the
// configuration, and loads it from the printed file.
func TestEveryKeyFromFileAndEnvironment(t *testing.T) {
	values := otherValues(t)
	var env []string
	for name, text := range values {
		env = append(env, key{name: name}.env()+"="+text)
	}
	entries := "storage: {s3: {headers: {edge: x}}}\nredirect: {cdn: {edge: {keys: [{id: x}]}}, rules: [{target: presign}]}\n" +
		"manifests: {immutable_tags: [{tags: [x]}]}\nauth: {oidc: [{user: x}]}\npolicy: {rules: [{users: [x]}]}\n"
	fromEnv := mustFill(t, entries, env)
	for _, k := range fromEnv.table {
		if k.value.String() != values[k.name] || k.origin != "environment "+k.env() {
			t.Errorf("%s = %q from %s, want %q from the environment", k.name, k.value, k.origin, values[k.name])
		}
	}

	unset(t, env)
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

// otherValues returns a value other than the default for every key of
// sample("edge"), except those of files for secrets.
func otherValues(t *testing.T) map[string]string {
	t.Helper()
	values := map[string]string{
		"listen": ":0", "public_url": "https://example.com",
		"storage.data.driver": "s3", "storage.data.prefix": "c/d",
		"storage.data.s3.sse": "aws:kms", "storage.data.s3.checksum": "none", "storage.data.s3.request_payer": "requester", "storage.data.azure.access_tier": "Cool",
		"storage.driver": "memory", "storage.prefix": "a/b", "storage.inline_max": "1KiB",
		"storage.s3.sse": "aws:kms", "storage.s3.checksum": "none", "storage.s3.request_payer": "requester", "storage.azure.access_tier": "Cool",
		"upload.max_blob_size": "5GiB", "upload.part_size": "8MiB", "upload.memory": "128MiB",
		"redirect.expiry": "10m", "redirect.window": "10s", "redirect.rules[0].target": "cdn:edge", "redirect.rules[0].from": "10.0.0.0/8",
		"redirect.cdn.edge.kind": "nginx", "redirect.cdn.edge.base_url": "https://cdn.example.net",
		"manifests.max_size": "1MiB", "manifests.memory": "32MiB", "manifests.immutable_tags[0].repository": "library/*", "manifests.immutable_tags[0].tags": "v*,latest",
		"auth.kind": "token", "auth.token_lifetime": "10m", "auth.token.leeway": "5s", "auth.kinds": "htpasswd,oidc", "auth.oidc[0].user": "{sub}", "auth.oidc[0].groups": "{a}", "auth.oidc[0].claims": "a=b",
		"policy.rules[0].users": "alice", "policy.rules[0].claims": "a=b", "policy.rules[0].repositories": "a/*", "policy.rules[0].actions": "pull", "policy.rules[0].deny": "push",
		"limits.shutdown": "5s", "limits.drain": "5s", "delete.enabled": "false", "gc.grace": "13h",
		"telemetry.log_level": "warn", "telemetry.log_format": "json", "admin.listen": "off",
	}
	for _, k := range keys(sample("edge")) {
		if k.secretIn != "" {
			values[k.name] = "" // TestSecretFiles tests files
			continue
		}
		candidates := []string{values[k.name], "https://example.com", "true", "7", "7MiB", "1h1m"}
		i := slices.IndexFunc(candidates, func(text string) bool {
			return text != "" && text != k.value.String() && k.value.set(text)
		})
		if i < 0 {
			t.Fatalf("no value for %s: want %s", k.name, k.value.wants())
		}
		values[k.name] = candidates[i]
	}
	return values
}

// unset removes variables that t.Setenv has set. t restores them at its end.
func unset(t *testing.T, env []string) {
	t.Helper()
	for _, setting := range env {
		name, _, _ := strings.Cut(setting, "=")
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
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

func ignoreTable() cmp.Option {
	return cmpopts.IgnoreUnexported(Config{}, azure.Config{}, gcs.Config{})
}
