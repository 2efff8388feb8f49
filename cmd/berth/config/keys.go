package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/berthhq/berth/redirect"
)

// key is one line of the table: a place in the tree, the field that it sets, and
// its help text.
type key struct {
	name   string // "storage.s3.bucket"
	inMap  string // its name in a file that has a map under name
	value  value
	help   string
	flag   string // its command-line flag, if it has one
	origin string // the source of the value

	// also are further fields of libraries that get the value, as KeysIn finds
	// them in texts.
	also []string

	secret   bool   // never shown
	hasFile  bool   // for a secret: the table has a key for a file that holds it
	secretIn string // for the name of a file: the key of the secret that it holds
}

// env returns the name of the environment variable that sets the key.
func (k key) env() string {
	return envPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_", "[", "_", "]", "").Replace(k.name))
}

const envPrefix = "BERTH_"

// headersPrefix is the prefix of the keys of headers. The file names the headers.
const headersPrefix = "storage.s3.headers."

// keys returns the table. It binds every key to its field in c, and sets the
// fields to their defaults. It has keys for each CDN and rule in c.
func keys(c *Config) []key { return withFiles(entries(c)) }

func entries(c *Config) []key {
	s, u, r := &c.Storage, &c.Upload, &c.Redirect
	table := []key{
		{name: "listen", inMap: "listen.address", value: address(&c.Listen.Address, "127.0.0.1:5000"), flag: "listen", help: "address to serve on; named listen.address in a file that sets another key of listen too"},
		{name: "listen.h2c", value: boolean(&c.Listen.H2C, false), help: "serve HTTP/2 without TLS beside HTTP/1.1, to clients that start with it (prior knowledge), as Cloud Run does"},
		{name: "public_url", value: webURL(&c.PublicURL), flag: "public-url", also: []string{"redirect.Config.PublicURL", "ocihttp.Config.PublicURL"}, help: "how clients reach berth: for absolute Location headers (relative ones when empty), and to refuse redirects with which clients would send its credentials to another host"},
		{name: "trusted_proxies", value: list(&c.TrustedProxies), also: []string{"redirect.Config.TrustedNetworks"}, help: "networks of the proxies in front of berth, such as [10.0.0.0/8]; the client of a request from there is the last address in X-Forwarded-For or Forwarded that is in none of them, for rules and the log"},

		{name: "http.cors.origins", value: list(&c.HTTP.CORS.Origins), help: "origins whose pages may use berth in a browser, such as [https://ui.example.com]; [\"*\"] is every origin; none switches CORS off"},
		{name: "http.cors.credentials", value: boolean(&c.HTTP.CORS.Credentials, false), help: "whether these pages may have the browser send its own credentials, such as client certificates; needs origins by name"},
		{name: "http.cors.max_age", value: duration(&c.HTTP.CORS.MaxAge, time.Hour, 0, 24*time.Hour), help: "how long a browser may keep the answer to a preflight"},

		{name: "storage.driver", value: choice(&s.Driver, "filesystem", "s3", "gcs", "azure", "memory"), flag: "storage", help: "which store holds the blobs; memory forgets them when the process ends"},
		{name: "storage.prefix", value: prefix(&s.Prefix), also: []string{"s3.Config.Prefix", "gcs.Config.Prefix", "azure.Config.Prefix", "filesystem.Config.Prefix"}, help: "put everything under this prefix of the bucket or directory"},
		{name: "storage.inline_max", value: size(&s.InlineMax, 16*kib, 1, 64*kib), also: []string{"blobstore.Config.InlineMax", "upload.Config.InlineMax"}, help: "a blob of at most this size is kept in its record, and needs no object of its own"},

		{name: "storage.filesystem.root", value: text(&s.Filesystem.Root, "./berth-data"), flag: "root", help: "directory that holds the blobs; made if it is not there"},

		{name: "storage.s3.bucket", value: text(&s.S3.Bucket, ""), help: "bucket name"},
		{name: "storage.s3.region", value: text(&s.S3.Region, ""), help: "region of the bucket; the SDK's own default when empty"},
		{name: "storage.s3.endpoint", value: webURL(&s.S3.Endpoint), help: "URL of a store other than Amazon's"},
		{name: "storage.s3.path_style", value: boolean(&s.S3.PathStyle, false), help: "put the bucket in the path of URLs, not in the host name"},
		{name: "storage.s3.access_key_id", value: text(&s.S3.AccessKeyID, ""), help: "static credentials; the SDK's default chain when empty"},
		{name: "storage.s3.secret_access_key", value: secret(&s.S3.SecretAccessKey), secret: true, help: "goes with access_key_id"},
		{name: "storage.s3.session_token", value: secret(&s.S3.SessionToken), secret: true, help: "goes with temporary static credentials"},
		{name: "storage.s3.profile", value: text(&s.S3.Profile, ""), help: "profile of the shared AWS configuration"},
		{name: "storage.s3.role_arn", value: text(&s.S3.RoleARN, ""), help: "role to assume"},
		{name: "storage.s3.public_endpoint", value: webURL(&s.S3.PublicEndpoint), help: "URL that presigned links point at, where clients reach the store by another name; never a custom domain of Cloudflare R2"},
		{name: "storage.s3.ca_file", value: text(&s.S3.CAFile, ""), help: "PEM file of authorities to trust for the store's TLS, beside the system's"},
		{name: "storage.s3.expected_bucket_owner", value: text(&s.S3.ExpectedBucketOwner, ""), help: "account that the bucket must belong to, 12 digits; the store refuses requests if it is another's"},
		{name: "storage.s3.request_payer", value: choice(&s.S3.RequestPayer, "", "requester"), help: "requester for a Requester Pays bucket: these credentials' account pays, also for presigned downloads"},
		{name: "storage.s3.sse", value: choice(&s.S3.SSE, "", "AES256", "aws:kms", "aws:kms:dsse"), help: "server-side encryption; the bucket's default when empty"},
		{name: "storage.s3.kms_key_id", value: text(&s.S3.KMSKeyID, ""), help: "key for sse aws:kms; the account's default key when empty"},
		{name: "storage.s3.storage_class", value: text(&s.S3.StorageClass, ""), help: "storage class of blob data, such as STANDARD_IA"},
		{name: "storage.s3.checksum", value: choice(&s.S3.Checksum, "crc32c", "none"), help: "checksum sent along with uploads; none for stores that know none"},
		{name: "storage.s3.equal_parts", value: choice(&s.S3.EqualParts, "auto", "true", "false"), help: "make all parts but the last of one size, as Cloudflare R2 wants; auto is true at R2's hosts"},
		{name: "storage.s3.accelerate", value: boolean(&s.S3.Accelerate, false), help: "use S3 Transfer Acceleration"},
		{name: "storage.s3.dual_stack", value: boolean(&s.S3.DualStack, false), help: "use endpoints with IPv6"},
		{name: "storage.s3.fips", value: boolean(&s.S3.FIPS, false), help: "use FIPS endpoints"},
		{name: "storage.s3.retries", value: count(&s.S3.Retries, 2, 0, 20), help: "how often a request that failed is tried again"},
		{name: "storage.s3.connections", value: count(&s.S3.Connections, 256, 1, 10_000), help: "idle connections to the store that are kept"},

		{name: "storage.gcs.bucket", value: text(&s.GCS.Bucket, ""), help: "bucket name"},
		{name: "storage.gcs.endpoint", value: webURL(&s.GCS.Endpoint), help: "URL of a store other than Google's"},
		{name: "storage.gcs.credentials_file", value: text(&s.GCS.CredentialsFile, ""), help: "JSON credentials; Application Default Credentials when empty"},
		{name: "storage.gcs.public_endpoint", value: webURL(&s.GCS.PublicEndpoint), help: "URL that signed links point at"},
		{name: "storage.gcs.sign_as", value: text(&s.GCS.SignAs, ""), help: "e-mail of the service account that signs links by IAM, where the credentials hold no key; their own account when empty"},
		{name: "storage.gcs.kms_key", value: text(&s.GCS.KMSKey, ""), help: "Cloud KMS key; the bucket's default when empty"},
		{name: "storage.gcs.storage_class", value: text(&s.GCS.StorageClass, ""), help: "storage class of blob data, such as NEARLINE"},
		{name: "storage.gcs.universe_domain", value: text(&s.GCS.UniverseDomain, ""), help: "of a sovereign cloud; googleapis.com when empty"},

		{name: "storage.azure.account", value: text(&s.Azure.Account, ""), help: "storage account"},
		{name: "storage.azure.container", value: text(&s.Azure.Container, ""), help: "container name"},
		{name: "storage.azure.endpoint", value: webURL(&s.Azure.Endpoint), help: "service URL, where it does not follow from the account"},
		{name: "storage.azure.shared_key", value: secret(&s.Azure.SharedKey), secret: true, help: "account key; without shared_key, connection_string and sas, the default identity"},
		{name: "storage.azure.connection_string", value: secret(&s.Azure.ConnectionString), secret: true, help: "account and key in one, as the portal shows it"},
		{name: "storage.azure.sas", value: secret(&s.Azure.SAS), secret: true, help: "SAS token of the container"},
		{name: "storage.azure.public_endpoint", value: webURL(&s.Azure.PublicEndpoint), help: "URL that signed links point at"},
		{name: "storage.azure.access_tier", value: choice(&s.Azure.AccessTier, "", "Hot", "Cool", "Cold"), help: "access tier of blob data; the account's default when empty"},
		{name: "storage.azure.api_version", value: text(&s.Azure.APIVersion, ""), help: "service version to speak, as 2025-11-05, where the endpoint does not know the newest yet"},
		{name: "storage.azure.encryption_scope", value: text(&s.Azure.EncryptionScope, ""), help: "encryption scope of what is written; the container's default when empty"},

		{name: "upload.memory", value: size(&u.Memory, 256*mib, 16*mib, tib), also: []string{"blobstore.Config.Upload.Memory", "upload.Config.Memory"}, help: "buffers of all uploads together; the largest part is an eighth of it"},
		{name: "upload.part_size", value: size(&u.PartSize, 16*mib, mib, 5*gib), also: []string{"blobstore.Config.Upload.PartSize", "upload.Config.PartSize"}, help: "size of the first 1,000 parts of an upload; it doubles every 1,000 parts"},
		{name: "upload.parallel_parts", value: count(&u.ParallelParts, 4, 1, 64), also: []string{"blobstore.Config.Upload.ParallelParts", "upload.Config.ParallelParts"}, help: "parts of one upload that are stored at a time"},
		{name: "upload.session_lifetime", value: duration(&u.SessionLifetime, 144*time.Hour, time.Minute, 30*24*time.Hour), also: []string{"blobstore.Config.Upload.SessionLifetime", "upload.Config.Lifetime"}, help: "how long after its start an upload can be gone on with"},
		{name: "upload.max_waiting", value: count(&u.MaxWaiting, 4096, 1, 1_000_000), also: []string{"blobstore.Config.Upload.MaxWaiting", "upload.Config.MaxWaiting"}, help: "requests that may wait for memory; more get 429"},
		{name: "upload.max_blob_size", value: size(&u.MaxBlobSize, 0, 0, 1024*pib), also: []string{"blobstore.Config.Upload.MaxBlobSize", "upload.Config.MaxSize"}, help: "a larger blob gets 413; 0 is no limit"},

		{name: "cache.entries", value: count(&c.Cache.Entries, 100_000, 0, 100_000_000), also: []string{"blobstore.Config.Cache.Entries"}, help: "descriptors kept in memory; 0 is no cache"},
		{name: "cache.ttl", value: duration(&c.Cache.TTL, time.Minute, time.Second, 24*time.Hour), also: []string{"blobstore.Config.Cache.TTL"}, help: "how long a descriptor is kept, and so how long other replicas may serve a blob after it was deleted"},

		{name: "redirect.expiry", value: duration(&r.Expiry, redirect.DefaultExpiry, time.Second, 7*24*time.Hour), help: "how long a redirect's URL is good for, at least, unless the credentials that sign it end before"},
		{name: "redirect.window", value: duration(&r.Window, redirect.DefaultWindow, time.Second, 24*time.Hour), help: "URLs of a blob are the same within this time, so that caches hit"},
		{name: "redirect.default", value: text(&r.Default, "presign"), help: "where reads go that no rule matches: presign, direct, or cdn:<name>; direct, without rules, switches redirects off"},
		{name: "redirect.trusted_proxies", value: count(&r.TrustedProxies, 0, 0, 100), help: "older form of trusted_proxies, instead of it: the number of proxies in front of berth, each of which appends to X-Forwarded-For"},
	}
	afterS3 := slices.IndexFunc(table, func(k key) bool { return k.name == "storage.gcs.bucket" })
	table = slices.Insert(table, afterS3, headerKeys(s.S3.Headers)...)
	for _, name := range slices.Sorted(maps.Keys(r.CDN)) {
		at, cdn := "redirect.cdn."+name, r.CDN[name]
		table = append(table,
			key{name: at + ".kind", value: text(&cdn.Kind, ""), help: "how URLs are signed: plain, cloudfront, cloudcdn, mediacdn, frontdoor, cloudflare, akamai or nginx"},
			key{name: at + ".base_url", value: text(&cdn.BaseURL, ""), help: "where the keys of the bucket begin at the CDN"},
			key{name: at + ".form", value: text(&cdn.Form, ""), help: "canned (the default) or custom for cloudfront, url (the default) or prefix for cloudcdn and mediacdn"},
			key{name: at + ".hash", value: text(&cdn.Hash, ""), help: "sha256 (the default) or sha1, for cloudfront"},
			key{name: at + ".param", value: text(&cdn.Param, ""), help: "query parameter of the token, for cloudflare and akamai; the CDN's own default when empty"},
			key{name: at + ".ranges", value: boolean(&cdn.Ranges, false), help: "whether the CDN answers requests for several ranges, and for the last bytes; otherwise berth answers these"},
			key{name: at + ".lifetime", value: duration(&cdn.Lifetime, 0, 0, 7*24*time.Hour), help: "how long the rule at the CDN accepts a token, for cloudflare"},
		)
		for i := range cdn.Keys {
			at, k := fmt.Sprintf("%s.keys[%d]", at, i), &cdn.Keys[i]
			table = append(table,
				key{name: at + ".id", value: text(&k.ID, ""), help: "name that the CDN knows the signing key by, for mediacdn that of its keyset; the first key signs"},
				key{name: at + ".value", value: secret(&k.Value), secret: true, hasFile: true, help: "the key itself, or one of the next two"},
				key{name: at + ".file", value: text(&k.File, ""), help: "file that holds the key"},
				key{name: at + ".env", value: text(&k.Env, ""), help: "environment variable that holds the key"},
			)
		}
	}
	for i := range r.Rules {
		at, rule := fmt.Sprintf("redirect.rules[%d]", i), &r.Rules[i]
		table = append(table,
			key{name: at + ".from", value: list(&rule.From), help: "the rule is for clients in these networks, such as [10.0.0.0/8]"},
			key{name: at + ".repository", value: text(&rule.Repository, ""), help: "the rule is for repositories that match, such as library/*; ** matches slashes too"},
			key{name: at + ".min_size", value: size(&rule.MinSize, 0, 0, 1024*pib), help: "the rule is for blobs of at least this size"},
			key{name: at + ".user_agent", value: text(&rule.UserAgent, ""), help: "the rule is for clients whose User-Agent matches, a regular expression such as ^containerd/"},
			key{name: at + ".target", value: text(&rule.Target, ""), help: "presign, direct, or cdn:<name>; the first rule that fits decides"},
		)
	}
	return append(table,
		key{name: "delete.enabled", value: boolean(&c.Delete.Enabled, true), help: "whether clients may delete blobs"},

		key{name: "limits.request", value: duration(&c.Limits.Request, 6*time.Hour, time.Minute, 24*time.Hour), also: []string{"blobstore.Config.RequestLimit"}, help: "longest time that a request may take"},
		key{name: "limits.drain", value: duration(&c.Limits.Drain, 0, 0, time.Hour), help: "how long requests are still accepted after SIGTERM, while /readyz answers 503 and load balancers turn away"},
		key{name: "limits.shutdown", value: duration(&c.Limits.Shutdown, 20*time.Second, 0, time.Hour), help: "how long requests may go on after SIGTERM, before they are cut off and what they sent is kept"},

		key{name: "gc.grace", value: duration(&c.GC.Grace, 24*time.Hour, 2*time.Minute, 365*24*time.Hour), also: []string{"blobstore.Config.Grace"}, help: "nothing younger is collected; at least twice limits.request"},
		key{name: "gc.schedule", value: text(&c.GC.Schedule, ""), help: "when the server collects by itself; never when empty"},

		key{name: "telemetry.log_level", value: choice(&c.Telemetry.LogLevel, "info", "debug", "warn", "error"), flag: "log-level", help: "least severe messages to log"},
		key{name: "telemetry.log_format", value: choice(&c.Telemetry.LogFormat, "text", "json"), flag: "log-format", help: "form of the log on stderr"},
	)
}

// headerKeys returns a line for each header that the file names.
func headerKeys(headers map[string]*string) (lines []key) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		lines = append(lines, key{
			name: headersPrefix + name, value: secret(headers[name]), secret: true,
			hasFile: true, // every name below headers is the name of a header
			help:    "a header to send with each request to the store, and its value, such as X-Tigris-Consistent: true",
		})
	}
	return lines
}
