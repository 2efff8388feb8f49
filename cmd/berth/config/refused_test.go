package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// refused are configurations that are not valid.
var refused = []struct {
	name, file string
	env        []string
	want       []string // one for each problem; "..." stands for the text of a library
}{
	{"unknown key", "storage:\n  s3:\n    buckt: x\n", nil,
		[]string{"test.yaml:3: unknown key storage.s3.buckt; did you mean storage.s3.bucket?"}},
	{"key in the wrong place", "bucket: x\n", nil,
		[]string{"test.yaml:1: unknown key bucket; did you mean storage.s3.bucket?"}},
	{"unknown section without keys", "storag: {}\nfoo:\n", nil,
		[]string{"test.yaml:2: unknown key foo", "test.yaml:1: unknown key storag"}},
	{"key as a section", "listen: {port: 1}\n", nil,
		[]string{"test.yaml:1: unknown key listen.port"}},
	{"unknown key of a map", "listen: {addresses: ':1'}\n", nil,
		[]string{"test.yaml:1: unknown key listen.addresses; did you mean listen.address?"}},
	{"bad address in a map", "listen: {address: x, h2c: on}\n", nil, []string{
		`listen: "x" (test.yaml:1): want host:port, such as 127.0.0.1:5000, or :5000 for all interfaces`,
		`listen.h2c: "on" (test.yaml:1): want true or false`,
	}},
	{"section as a key", "storage: s3\n", nil,
		[]string{"test.yaml:1: storage: want keys and values below it, such as storage.driver"}},
	{"section as a list", "storage: {azure: [a, b]}\n", nil,
		[]string{"test.yaml:1: storage.azure: want keys and values below it, such as storage.azure.account"}},
	{"capital letters", "Listen: :1\n", nil,
		[]string{"test.yaml:1: unknown key Listen; did you mean listen?"}},
	{"unknown variable", "", []string{"BERTH_STORAGE_S3_BUCKT=x", "HOME=/"},
		[]string{"environment BERTH_STORAGE_S3_BUCKT: unknown key; did you mean BERTH_STORAGE_S3_BUCKET?"}},
	{"variable without its section", "", []string{"BERTH_BUCKET=x"},
		[]string{"environment BERTH_BUCKET: unknown key; did you mean BERTH_STORAGE_S3_BUCKET?"}},
	{"several bad values", "upload: {memory: lots, parallel_parts: 0}\n", []string{"BERTH_DELETE_ENABLED=yes"},
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
		[]string{"storage.s3.secret_access_key: \"REDACTED\" (test.yaml:1): want the secret itself, not the placeholder that `berth config` prints"}},
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
	{"open to all", "listen: ':5000'", nil, []string{"auth.kind: not set, and :5000 is not a loopback address..."}},
	{"no file of users", "auth: {kind: htpasswd}", nil, []string{"auth.htpasswd.file: required with htpasswd"}},
	{"kind and kinds", "auth: {kind: none, kinds: [none]}", nil, []string{"auth.kinds: set auth.kind or auth.kinds, not both"}},
	{"kinds", "auth: {kinds: [none, token, oidc, ldap, oidc], service: 'a b'}", nil, []string{
		"auth.kinds: none is for every client without credentials: want it alone",
		`auth.kinds: "ldap": want htpasswd, token or oidc`,
		"auth.kinds: oidc stands there twice",
		`auth.service: "a b": want printable ASCII without blanks, quotation marks and backslashes`,
		`auth.token.realm: "": want the URL at which clients request tokens`,
		"auth.token.issuer: required with token",
		"auth.token.keys_file: set auth.token.keys_file or auth.token.keys_url",
		"auth.oidc: want an issuer",
		"policy.rules: required with oidc: many issuers issue tokens to everyone",
	}},
	{"token", "auth: {kinds: [htpasswd, token], htpasswd: {file: x}, token: {realm: 'http://x', issuer: 'berth:berth', keys_file: x, keys_url: 'http://192.0.2.1'}}", nil, []string{
		`auth.token.issuer: "berth:berth" is the issuer of this service: want another`,
		"auth.token.keys_file: set auth.token.keys_file or auth.token.keys_url",
		`auth.token.keys_url: "http://192.0.2.1": want an https URL`,
	}},
	{"oidc", "auth: {kind: oidc, oidc: [{issuer: 'http://x'}, {issuer: 'https://y', audience: a, user: '{}', groups: ['{a}{b}', '{'], claims: [a]}, {issuer: 'https://y', audience: a}]}\npolicy: {rules: [{}]}", nil, []string{
		`auth.oidc[0].issuer: "http://x": want an https URL`,
		"auth.oidc[0].audience: required: the audience of tokens for this service, such as its URL",
		`auth.oidc[1].user: "{}": want {claim} for the value of a claim`,
		`auth.oidc[1].groups: "{a}{b}": want at most one {claim}`,
		`auth.oidc[1].groups: "{": want at most one {claim}`,
		`auth.oidc[1].claims: "a": want name=value, such as repository=my-org/app`,
		"auth.oidc[2].issuer: https://y: the tokens of this issuer have another entry already",
		"policy.rules[0]: the rule is for no caller: set users, groups, claims or anonymous",
		"policy.rules[0].actions: the rule neither allows nor denies an action: want pull, push, delete, catalog or admin",
	}},
	{"policy without authentication", "policy: {rules: [{anonymous: true, actions: [pul]}]}", nil, []string{
		"policy.rules: without authentication every client may do everything: set auth.kind to htpasswd, token or oidc",
		`policy.rules[0].actions: "pul": want pull, push, delete, catalog or admin`,
	}},
	{"grace", "gc: {grace: 3h}", nil,
		[]string{"gc.grace: ..."}},
	{"part of memory", "upload: {memory: 64MiB}", nil,
		[]string{"upload.part_size: ..."}},
	{"azure", "storage: {driver: azure}\nupload: {session_lifetime: 145h}", nil, []string{
		"storage.azure.container...",
		"upload.session_lifetime: 145h: want at most 144h with azure, which deletes the parts of unfinished uploads after a week",
	}},
	{"empty origin", "http: {cors: {origins: ['https://a.example/', 'https://A.example', 'a.example', 'https://*.example', 'https://a.example:443', 'null', 'https://u@a.example', '']}}", nil, []string{
		`test.yaml: line 1: http.cors.origins: an item of the list is empty`,
	}},
	{"invalid origins in a variable", "", []string{"BERTH_HTTP_CORS_ORIGINS=https://a.example/,https://A.example,a.example,https://*.example,https://a.example:443,null,https://u@a.example"}, []string{
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
	{"credentials without origins", "http: {cors: {credentials: true}}", nil, []string{
		`http.cors.credentials: requires http.cors.origins, which is empty`,
	}},
	{"azure by an identity", "storage: {driver: azure, azure: {account: a, container: c}}\nredirect: {expiry: 144h}", nil, []string{
		"redirect.expiry: 144h0m0s and a window of 5m0s make 144h5m0s, and URLs that the store signs live 144h0m0s at most",
	}},
	{"s3 with half of its credentials", "storage: {driver: s3, s3: {bucket: b, session_token: t}}", nil, []string{
		"storage.s3.session_token ...",
	}},
	{"s3", "storage: {driver: s3, s3: {access_key_id: a, kms_key_id: k}}", nil, []string{
		"storage.s3.bucket...",
		"storage.s3.access_key_id and storage.s3.secret_access_key ...",
	}},
	{"redirect", "redirect: {rules: [{target: cdn:edge, min_size: 1}, {target: nowhere}]}", nil, []string{
		`redirect.rules[0].target: there is no redirect.cdn.edge (defined: none)`,
		`redirect.rules[1].target: "nowhere" is not one of presign, direct, cdn:<name>`,
	}},
	{"immutable tags", "manifests: {immutable_tags: [{repository: A, tags: [v*]}, {tags: ['v:1']}, {repository: a}]}", nil, []string{
		`manifests.immutable_tags[0].repository: "A" has a 'A', which no repository name has`,
		`manifests.immutable_tags[1].tags: "v:1" has a ':', which no tag has`,
		`manifests.immutable_tags[2].tags: is empty, want globs such as v*`,
	}},
	{"immutable tag that is no list", "manifests: {immutable_tags: 'v*'}", nil, []string{
		`test.yaml:1: manifests.immutable_tags: want a list of keys and values`,
	}},
	{"too little memory for manifests", "manifests: {max_size: 8MiB}", nil, []string{
		`manifests.memory: 67108864 bytes, want at least 134217728 for manifests.max_size of 8388608`,
	}},
	{"unknown key in a list", "redirect: {rules: [{target: direct}, {taget: direct}]}", nil, []string{
		`test.yaml:1: unknown key redirect.rules[1].taget; did you mean redirect.rules[1].target?`,
	}},
	{"values instead of lists", "redirect:\n  cdn:\n    a: {kind: nginx, base_url: 'https://x', keys: {file: f, id: a}}\n" +
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
	{"trusted proxies in both forms", "trusted_proxies: [10.0.0.0/8]\nredirect: {trusted_proxies: 1}", nil, []string{
		`trusted_proxies: redirect.trusted_proxies, its older form, is set as well: set one of them`,
	}},
	{"trusted proxies that are not networks", "", []string{"BERTH_TRUSTED_PROXIES=10.0.0.0/33"}, []string{
		`trusted_proxies: "10.0.0.0/33" is neither a network such as 10.0.0.0/8 nor an address`,
	}},
	{"empty network", "redirect: {rules: [{from: [''], target: direct}]}", nil, []string{
		`test.yaml: line 1: redirect.rules[0].from: an item of the list is empty`,
	}},
	{"blank network", "redirect: {rules: [{from: [' '], target: direct}]}", nil, []string{
		`test.yaml: line 1: redirect.rules[0].from: an item of the list is empty`,
	}},
	{"empty network in a variable", "redirect: {rules: [{target: direct}]}", []string{"BERTH_REDIRECT_RULES_0_FROM=10.0.0.0/8,"}, []string{
		`redirect.rules[0].from: "10.0.0.0/8," (environment BERTH_REDIRECT_RULES_0_FROM): want a list such as [a, b], without empty words`,
	}},
	{"variables of entries that the file lacks", "", []string{"BERTH_REDIRECT_CDN_EDGE_KIND=plain", "BERTH_REDIRECT_RULES_0_TARGET=direct"}, []string{
		"environment BERTH_REDIRECT_CDN_EDGE_KIND: unknown key; a variable can only set a key of an entry that the file has",
		"environment BERTH_REDIRECT_RULES_0_TARGET: unknown key; a variable can only set a key of an entry that the file has",
	}},
	{"unknown variables of an entry", "redirect: {cdn: {edge: {kind: plain, base_url: 'https://x'}}}", []string{"BERTH_REDIRECT_CDN_EDGE_COMPRESSION=on", "BERTH_REDIRECT_CDN_EDGE_KINDS=plain"}, []string{
		"environment BERTH_REDIRECT_CDN_EDGE_COMPRESSION: unknown key; a variable can only set a key of an entry that the file has",
		"environment BERTH_REDIRECT_CDN_EDGE_KINDS: unknown key; did you mean BERTH_REDIRECT_CDN_EDGE_KIND?",
	}},
	{"variable similar to that of a signing key", "redirect: {cdn: {edge: {kind: nginx, base_url: 'https://x', keys: [{env: BERTH_EDGE_KEY}]}}}", []string{"BERTH_EDGE_KEYS=secret"}, []string{
		"environment BERTH_EDGE_KEYS: unknown key; did you mean BERTH_EDGE_KEY?",
	}},
	{"name of a CDN", "redirect: {cdn: {Edge: {kind: plain}}}", nil, []string{
		`redirect.cdn: name "Edge": want a-z, then a-z, 0-9, and - between them`,
		`test.yaml:1: unknown key redirect.cdn.Edge.kind`,
	}},
	{"duplicate key", "listen: :1\nlisten: :2\n", nil, []string{"test.yaml: line 2: duplicate key listen"}},
	{"alias", "a: &a {b: *a}", nil, []string{"test.yaml: line 1: a: anchors and aliases are not supported"}},
	{"two documents", "listen: :1\n---\nlisten: :2\n", nil, []string{"test.yaml: want one YAML document, and nothing after it"}},
	{"not a mapping", "- a\n", nil, []string{"test.yaml: line 1: want keys and values, such as listen: 127.0.0.1:5000"}},
}

// TestRefused checks the errors of configurations that are not valid.
func TestRefused(t *testing.T) {
	for _, tt := range refused {
		t.Run(tt.name, func(t *testing.T) {
			_, err := loadText(t, tt.file, tt.env)
			if err == nil {
				t.Fatal("load = nil, want an error")
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
