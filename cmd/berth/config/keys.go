package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/berthhq/berth/drivers/azure"
	"github.com/berthhq/berth/drivers/gcs"
	"github.com/berthhq/berth/drivers/s3"
	"github.com/berthhq/berth/redirect"
)

// key is an entry of the table: the name of the key, the fields that it sets, and
// its documentation.
type key struct {
	name   string // "storage.s3.bucket"
	inMap  string // its name in a file that has a map at name
	value  value
	help   string
	flag   string // its command-line flag, if it has one
	origin string // the source of the value

	// also names further fields of libraries that get the value, for KeysIn.
	also []string

	secret   bool   // output never contains the value
	hasFile  bool   // the table already has a key for a file that holds the secret
	secretIn string // the value is the name of a file that holds the secret of this key
}

// env returns the name of the environment variable that sets the key.
func (k key) env() string {
	return envPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_", "[", "_", "]", "").Replace(k.name))
}

const envPrefix = "BERTH_"

// headersPrefix is the prefix of the keys of headers in the section of a store. The file
// names the headers.
const headersPrefix = "s3.headers."

// keys returns the table. It binds each key to its fields in c and sets the fields
// to their defaults. The table has keys for each header, CDN, rule and list of tags in c.
func keys(c *Config) []key {
	return withFiles(slices.Concat(
		serverKeys(c), storageKeys(c), dataKeys(c), uploadKeys(c),
		manifestKeys(c), redirectKeys(c), cdnKeys(c), ruleKeys(c), authKeys(c), policyKeys(c), otherKeys(c),
	))
}

func serverKeys(c *Config) []key {
	return []key{
		{name: "listen", inMap: "listen.address", value: address(&c.Address, "127.0.0.1:5000"), flag: "listen", help: "address to serve on; called listen.address in a file that sets other keys of listen too"},
		{name: "listen.h2c", value: boolean(&c.Server.H2C), help: "also serve HTTP/2 without TLS to clients that start with it (prior knowledge), as Cloud Run does"},
		{name: "public_url", value: webURL(&c.API.PublicURL, &c.Redirect.PublicURL), flag: "public-url", help: "URL at which clients reach berth: Location headers start with it (they are relative if it is empty), and berth refuses redirects that would make clients send its credentials to another host"},
		{name: "trusted_proxies", value: list(&c.Redirect.TrustedNetworks), help: "networks of the proxies in front of berth, such as [10.0.0.0/8]; the client of their requests, for rules and the log, is the last address in X-Forwarded-For or Forwarded that is in none of them"},

		{name: "http.cors.origins", value: list(&c.Server.CORS.Origins), help: "origins of web pages that may use berth in a browser, such as [https://ui.example.com]; [\"*\"] is every origin; empty switches CORS off"},
		{name: "http.cors.credentials", value: boolean(&c.Server.CORS.Credentials), help: "whether these pages may make the browser send its own credentials, such as client certificates; requires origins other than *"},
		{name: "http.cors.max_age", value: duration(time.Hour, 0, 24*time.Hour, &c.Server.CORS.MaxAge), help: "how long a browser may cache the response to a preflight request"},
	}
}

func storageKeys(c *Config) []key {
	s := &c.Storage
	return slices.Concat([]key{
		{name: "storage.driver", value: choice(&s.Driver, "filesystem", "s3", "gcs", "azure", "memory"), flag: "storage", help: "store that holds the blobs; memory loses them when the process ends"},
		{name: "storage.prefix", value: prefix(&s.Filesystem.Prefix, &s.S3.Prefix, &s.GCS.Prefix, &s.Azure.Prefix), help: "prefix of all keys in the bucket or directory"},
		{name: "storage.inline_max", value: size(16*kib, 1, 64*kib, &c.Blobs.InlineMax), also: []string{"upload.Config.InlineMax"}, help: "a blob of at most this size is stored in its record instead of an object of its own"},

		{name: "storage.filesystem.root", value: text(&s.Filesystem.Root, "./berth-data"), flag: "root", help: "directory that holds the blobs; created if it is missing"},
	}, cloudKeys("storage.", s))
}

// dataKeys returns the keys of the second bucket.
func dataKeys(c *Config) []key {
	if c.Storage.Data == nil {
		c.Storage.Data = &Storage{}
	}
	d := c.Storage.Data
	return slices.Concat([]key{
		{name: "storage.data.driver", value: choice(&d.Driver, "", "filesystem", "s3", "gcs", "azure"), help: "store that holds the data of blobs, if it is another one than that of storage.driver, which then holds everything else; it needs no conditional writes. It has the same keys below storage.data as the other below storage, such as storage.data.s3.bucket"},
		{name: "storage.data.prefix", value: prefix(&d.Filesystem.Prefix, &d.S3.Prefix, &d.GCS.Prefix, &d.Azure.Prefix), help: "prefix of all keys in that bucket or directory"},

		{name: "storage.data.filesystem.root", value: text(&d.Filesystem.Root, "./berth-blobs"), help: "directory that holds the data of blobs; created if it is missing"},
	}, cloudKeys("storage.data.", d))
}

// cloudKeys returns the keys of the clouds in a section of the file. at is its name and a
// dot.
func cloudKeys(at string, s *Storage) []key {
	return slices.Concat(s3Keys(at+"s3.", &s.S3), headerKeys(at, s.S3.Headers), gcsKeys(at+"gcs.", &s.GCS), azureKeys(at+"azure.", &s.Azure))
}

func s3Keys(at string, s3 *s3.Config) []key {
	return []key{
		{name: at + "bucket", value: text(&s3.Bucket, ""), help: "bucket name"},
		{name: at + "region", value: text(&s3.Region, ""), help: "region of the bucket; from the SDK's own configuration if empty"},
		{name: at + "endpoint", value: webURL(&s3.Endpoint), help: "URL of a store other than Amazon S3"},
		{name: at + "path_style", value: boolean(&s3.PathStyle), help: "put the bucket in the path of URLs instead of the host name"},
		{name: at + "access_key_id", value: text(&s3.AccessKeyID, ""), help: "static credentials; the SDK's default chain if empty"},
		{name: at + "secret_access_key", value: secret(&s3.SecretAccessKey), secret: true, help: "secret of access_key_id"},
		{name: at + "session_token", value: secret(&s3.SessionToken), secret: true, help: "session token of access_key_id, for temporary credentials"},
		{name: at + "profile", value: text(&s3.Profile, ""), help: "profile of the shared AWS configuration"},
		{name: at + "role_arn", value: text(&s3.RoleARN, ""), help: "role to assume"},
		{name: at + "public_endpoint", value: webURL(&s3.PublicEndpoint), help: "URL that presigned URLs start with, if clients reach the store by another name; must not be a custom domain of Cloudflare R2"},
		{name: at + "ca_file", value: text(&s3.CAFile, ""), help: "PEM file of certificate authorities to trust for the store's TLS, besides the system's"},
		{name: at + "expected_bucket_owner", value: text(&s3.ExpectedBucketOwner, ""), help: "number of the account that must own the bucket (12 digits); otherwise the store refuses requests"},
		{name: at + "request_payer", value: choice(&s3.RequestPayer, "", "requester"), help: "requester for a Requester Pays bucket: the account of these credentials pays, also for presigned downloads"},
		{name: at + "sse", value: choice(&s3.SSE, "", "AES256", "aws:kms", "aws:kms:dsse"), help: "server-side encryption; the bucket's default if empty"},
		{name: at + "kms_key_id", value: text(&s3.KMSKeyID, ""), help: "key for sse aws:kms; the account's default key if empty"},
		{name: at + "storage_class", value: text(&s3.StorageClass, ""), help: "storage class of blob data, such as STANDARD_IA"},
		{name: at + "checksum", value: choice(&s3.Checksum, "crc32c", "none"), help: "checksum that uploads carry; none for stores without checksums"},
		{name: at + "equal_parts", value: autoBoolean(&s3.EqualParts), help: "make all parts but the last the same size, as Cloudflare R2 requires; auto means true for R2's hosts"},
		{name: at + "accelerate", value: boolean(&s3.Accelerate), help: "use S3 Transfer Acceleration"},
		{name: at + "dual_stack", value: boolean(&s3.DualStack), help: "use endpoints with IPv6"},
		{name: at + "fips", value: boolean(&s3.FIPS), help: "use FIPS endpoints"},
		{name: at + "retries", value: countOrNone(&s3.Retries, 2, 20), help: "how often a failed request is retried"},
		{name: at + "connections", value: count(&s3.Connections, 256, 1, 10_000), help: "maximum number of idle connections to the store"},
	}
}

// headerKeys returns a key for each header that the file names.
func headerKeys(at string, headers map[string]string) (all []key) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		all = append(all, key{
			name: at + headersPrefix + name, value: header(headers, name), secret: true,
			hasFile: true, // every name below headers is the name of a header
			also:    []string{fmt.Sprintf("s3.Config.Headers[%q]", name)},
			help:    "value of a header to send with each request to the store, such as X-Tigris-Consistent: true",
		})
	}
	return all
}

func gcsKeys(at string, gcs *gcs.Config) []key {
	return []key{
		{name: at + "bucket", value: text(&gcs.Bucket, ""), help: "bucket name"},
		{name: at + "endpoint", value: webURL(&gcs.Endpoint), help: "URL of a store other than Google Cloud Storage"},
		{name: at + "credentials_file", value: text(&gcs.CredentialsFile, ""), help: "file of JSON credentials; Application Default Credentials if empty"},
		{name: at + "public_endpoint", value: webURL(&gcs.PublicEndpoint), help: "URL that signed URLs start with, if clients reach the store by another name"},
		{name: at + "sign_as", value: text(&gcs.SignAs, ""), help: "e-mail address of the service account that signs URLs through IAM, if the credentials hold no key; the credentials' own account if empty"},
		{name: at + "kms_key", value: text(&gcs.KMSKey, ""), help: "Cloud KMS key; the bucket's default if empty"},
		{name: at + "storage_class", value: text(&gcs.StorageClass, ""), help: "storage class of blob data, such as NEARLINE"},
		{name: at + "universe_domain", value: text(&gcs.UniverseDomain, ""), help: "universe domain of a sovereign cloud; googleapis.com if empty"},
	}
}

func azureKeys(at string, azure *azure.Config) []key {
	return []key{
		{name: at + "account", value: text(&azure.Account, ""), help: "name of the storage account"},
		{name: at + "container", value: text(&azure.Container, ""), help: "container name"},
		{name: at + "endpoint", value: webURL(&azure.Endpoint), help: "URL of the blob service, if it does not follow from the account"},
		{name: at + "shared_key", value: secret(&azure.SharedKey), secret: true, help: "account key; berth uses the default identity if shared_key, connection_string and sas are all empty"},
		{name: at + "connection_string", value: secret(&azure.ConnectionString), secret: true, help: "account and key in one string, as the portal shows it"},
		{name: at + "sas", value: secret(&azure.SAS), secret: true, help: "SAS token of the container"},
		{name: at + "public_endpoint", value: webURL(&azure.PublicEndpoint), help: "URL that signed URLs start with, if clients reach the service by another name"},
		{name: at + "access_tier", value: choice(&azure.AccessTier, "", "Hot", "Cool", "Cold"), help: "access tier of blob data; the account's default if empty"},
		{name: at + "api_version", value: text(&azure.APIVersion, ""), help: "version of the service's protocol, such as 2025-11-05, for endpoints that do not support the newest"},
		{name: at + "encryption_scope", value: text(&azure.EncryptionScope, ""), help: "encryption scope of new objects; the container's default if empty"},
	}
}

func uploadKeys(c *Config) []key {
	u, cache := &c.Blobs.Upload, &c.Blobs.Cache
	return []key{
		{name: "upload.memory", value: size(256*mib, 16*mib, tib, &u.Memory), help: "memory for the buffers of all uploads; the largest part is an eighth of it"},
		{name: "upload.part_size", value: size(16*mib, mib, 5*gib, &u.PartSize), help: "size of the first 1,000 parts of an upload; it doubles every 1,000 parts"},
		{name: "upload.parallel_parts", value: count(&u.ParallelParts, 4, 1, 64), help: "number of parts of one upload that are stored at a time"},
		{name: "upload.session_lifetime", value: duration(144*time.Hour, time.Minute, 30*24*time.Hour, &u.SessionLifetime), help: "how long after it starts an upload can be resumed"},
		{name: "upload.max_waiting", value: count(&u.MaxWaiting, 4096, 1, 1_000_000), help: "number of requests that may wait for memory; further requests get 429"},
		{name: "upload.max_blob_size", value: size(0, 0, 1024*pib, &u.MaxBlobSize, &c.Server.MaxBody), help: "a larger blob gets 413; 0 means no limit"},

		{name: "cache.entries", value: countOrNone(&cache.Entries, 100_000, 100_000_000), help: "number of descriptors to keep in memory; 0 means no cache"},
		{name: "cache.ttl", value: duration(time.Minute, time.Second, 24*time.Hour, &cache.TTL), help: "how long a descriptor is cached, and thus how long other replicas may serve a blob after it is deleted"},
	}
}

// manifestKeys returns the keys of manifests, and of each list of tags in the file.
func manifestKeys(c *Config) []key {
	m := &c.Blobs.Manifests
	all := []key{
		{name: "manifests.max_size", value: size(4*mib, 1, 64*mib, &m.MaxSize), help: "a larger manifest gets 413"},
		{name: "manifests.memory", value: size(64*mib, mib, tib, &m.Memory), help: "memory for manifests that are being pushed; at least 16 times manifests.max_size"},
		{name: "manifests.cache_memory", value: sizeOrNone(&m.CacheMemory, 64*mib, tib), help: "memory for manifests that were read or pushed, of up to 64 KiB each; 0 means no cache"},
		{name: "manifests.sparse_indexes", value: boolean(&m.SparseIndexes), help: "whether an index may refer to manifests that the repository does not have"},
	}
	for i := range m.ImmutableTags {
		at, rule := fmt.Sprintf("manifests.immutable_tags[%d]", i), &m.ImmutableTags[i]
		all = append(all,
			key{name: at + ".repository", value: text(&rule.Repository, ""), help: "the rule is for repositories that match this pattern, such as library/*; ** also matches slashes; all if empty"},
			key{name: at + ".tags", value: list(&rule.Tags), help: "clients can create the tags that match one of these patterns, such as [v*], but neither move nor delete them, nor delete the manifest that they name"},
		)
	}
	return all
}

func redirectKeys(c *Config) []key {
	r := &c.Redirect
	return []key{
		{name: "redirect.expiry", value: duration(redirect.DefaultExpiry, time.Second, 7*24*time.Hour, &r.Expiry), help: "minimum lifetime of the URL of a redirect, unless the credentials that sign it expire earlier"},
		{name: "redirect.window", value: duration(redirect.DefaultWindow, time.Second, 24*time.Hour, &r.Window), help: "the URL of a blob stays the same for this long, so that caches can reuse it"},
		{name: "redirect.default", value: text(&r.Default, "presign"), help: "target of reads that no rule matches: presign, direct, or cdn:<name>; direct without rules switches redirects off"},
		{name: "redirect.trusted_proxies", value: count(&r.TrustedProxies, 0, 0, 100), help: "older alternative to trusted_proxies: the number of proxies in front of berth, each of which appends to X-Forwarded-For"},
	}
}

// cdnKeys returns the keys of each CDN that the file names.
func cdnKeys(c *Config) (all []key) {
	for _, name := range slices.Sorted(maps.Keys(c.cdns)) {
		at, cdn := "redirect.cdn."+name, c.cdns[name]
		all = append(all,
			key{name: at + ".kind", value: text(&cdn.Kind, ""), help: "how URLs are signed: plain, cloudfront, cloudcdn, mediacdn, frontdoor, cloudflare, akamai or nginx"},
			key{name: at + ".base_url", value: text(&cdn.BaseURL, ""), help: "URL at the CDN below which the keys of the bucket are"},
			key{name: at + ".form", value: text(&cdn.Form, ""), help: "form of the signature: canned (default) or custom for cloudfront, url (default) or prefix for cloudcdn and mediacdn"},
			key{name: at + ".hash", value: text(&cdn.Hash, ""), help: "hash of the signature for cloudfront: sha256 (default) or sha1"},
			key{name: at + ".param", value: text(&cdn.Param, ""), help: "query parameter of the token, for cloudflare and akamai; the CDN's own default if empty"},
			key{name: at + ".ranges", value: boolean(&cdn.Ranges), help: "whether the CDN supports requests for several ranges and for the last bytes; if not, berth serves them itself"},
			key{name: at + ".lifetime", value: duration(0, 0, 7*24*time.Hour, &cdn.Lifetime), help: "how long the rule at the CDN accepts a token, for cloudflare"},
		)
		for i := range cdn.Keys {
			at, k := fmt.Sprintf("%s.keys[%d]", at, i), &cdn.Keys[i]
			all = append(all,
				key{name: at + ".id", value: text(&k.ID, ""), help: "name of the signing key at the CDN (for mediacdn, of its keyset); the first key signs"},
				key{name: at + ".value", value: secret(&k.Value), secret: true, hasFile: true, help: "signing key; alternatively use file or env"},
				key{name: at + ".file", value: text(&k.File, ""), help: "file that holds the signing key"},
				key{name: at + ".env", value: text(&k.Env, ""), help: "environment variable that holds the signing key"},
			)
		}
	}
	return all
}

// ruleKeys returns the keys of each rule in the file.
func ruleKeys(c *Config) (all []key) {
	for i := range c.Redirect.Rules {
		at, rule := fmt.Sprintf("redirect.rules[%d]", i), &c.Redirect.Rules[i]
		all = append(all,
			key{name: at + ".from", value: list(&rule.From), help: "the client is in one of these networks, such as [10.0.0.0/8]"},
			key{name: at + ".repository", value: text(&rule.Repository, ""), help: "the repository matches this pattern, such as library/*; ** also matches slashes"},
			key{name: at + ".min_size", value: size(0, 0, 1024*pib, &rule.MinSize), help: "the blob is at least this large"},
			key{name: at + ".user_agent", value: text(&rule.UserAgent, ""), help: "the client's User-Agent matches this regular expression, such as ^containerd/"},
			key{name: at + ".target", value: text(&rule.Target, ""), help: "presign, direct, or cdn:<name>; the first rule that matches decides"},
		)
	}
	return all
}

func otherKeys(c *Config) []key {
	return []key{
		{name: "delete.enabled", value: negated(&c.API.DisableDelete), help: "whether clients may delete blobs, manifests and tags"},

		{name: "limits.request", value: duration(6*time.Hour, time.Minute, 24*time.Hour, &c.Blobs.RequestLimit, &c.Server.RequestLimit), help: "maximum duration of a request"},
		{name: "limits.drain", value: duration(0, 0, time.Hour, &c.Server.Drain), help: "how long berth still accepts requests after SIGTERM, while /readyz returns 503 so that load balancers stop sending them"},
		{name: "limits.shutdown", value: duration(20*time.Second, 0, time.Hour, &c.Server.Shutdown), help: "how long running requests may continue after SIGTERM; then they are cut off, and uploads keep the bytes that they have received"},

		{name: "gc.grace", value: duration(24*time.Hour, 2*time.Minute, 365*24*time.Hour, &c.Collect.Grace, &c.Blobs.Grace), help: "minimum age of what is collected; at least twice limits.request, and for berth gc three times limits.request plus cache.ttl"},
		{name: "gc.rate", value: count(&c.Collect.Rate, 0, 0, 100_000), help: "the most requests to the store that berth gc makes in a second; 0 is no limit"},
		{name: "gc.concurrency", value: count(&c.Collect.Concurrency, 16, 1, 1000), help: "the most requests to the store that berth gc makes at a time"},
		{name: "gc.scratch", value: text(&c.Collect.Scratch, ""), help: "directory of the temporary files of berth gc, 36 bytes for each blob in each manifest; that of the system if empty"},
		{name: "gc.untagged_after", value: duration(0, 0, 10*365*24*time.Hour, &c.Collect.UntaggedAfter), help: "how long a manifest that nothing names stays, at least gc.grace; 0 keeps such manifests"},
		{name: "gc.unreferenced_after", value: duration(168*time.Hour, 0, 10*365*24*time.Hour, &c.Collect.UnreferencedAfter), help: "how long a repository keeps a blob that none of its manifests names, at least gc.grace; 0 keeps such blobs"},
		{name: "gc.keep", value: list(&c.Collect.Keep), help: "repositories that keep all their blobs, such as [library/*]; ** also matches slashes"},
		{name: "gc.schedule", value: text(&c.GC.Schedule, ""), help: "when the server collects garbage by itself; never if empty"},

		{name: "admin.listen", value: adminAddress(&c.Admin.Address), help: "address for the operator: metrics, health checks, profiles; it has no authentication; auto is 127.0.0.1:5001 if that is free; off switches it off"},

		{name: "telemetry.log_level", value: choice(&c.Telemetry.LogLevel, "info", "debug", "warn", "error"), flag: "log-level", help: "minimum level of log messages"},
		{name: "telemetry.log_format", value: choice(&c.Telemetry.LogFormat, "text", "json"), flag: "log-format", help: "format of the log on stderr"},
	}
}
