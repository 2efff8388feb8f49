package config

import (
	"fmt"
	"strings"
	"time"
)

// check returns the conflicts between keys that are each valid.
func (c *Config) check() (problems []string) {
	refuse := func(format string, args ...any) {
		problems = append(problems, fmt.Sprintf(format, args...))
	}
	need := func(key, value string) {
		if value == "" {
			refuse("%s: storage.driver is %s, which needs it", key, c.Storage.Driver)
		}
	}

	switch s3, azure := c.Storage.S3, c.Storage.Azure; c.Storage.Driver {
	case "filesystem":
		need("storage.filesystem.root", c.Storage.Filesystem.Root)
	case "s3":
		need("storage.s3.bucket", s3.Bucket)
		if (s3.AccessKeyID == "") != (s3.SecretAccessKey == "") {
			refuse("storage.s3.access_key_id and storage.s3.secret_access_key go together: set both, or none")
		}
		if s3.SessionToken != "" && s3.AccessKeyID == "" {
			refuse("storage.s3.session_token goes with storage.s3.access_key_id, which is not set")
		}
		if s3.KMSKeyID != "" && !strings.HasPrefix(s3.SSE, "aws:kms") {
			refuse("storage.s3.kms_key_id goes with storage.s3.sse aws:kms, not %q", s3.SSE)
		}
	case "gcs":
		need("storage.gcs.bucket", c.Storage.GCS.Bucket)
	case "azure":
		need("storage.azure.container", azure.Container)
		if azure.Account == "" && azure.ConnectionString == "" && azure.Endpoint == "" {
			refuse("storage.azure.account: set it, or storage.azure.connection_string, or storage.azure.endpoint")
		}
		if c.Upload.SessionLifetime > 144*time.Hour {
			refuse("upload.session_lifetime: %s: want at most 144h with azure, which drops the parts of an unfinished upload after a week",
				formatDuration(c.Upload.SessionLifetime))
		}
	}

	if c.Upload.PartSize > c.Upload.Memory/8 {
		refuse("upload.part_size: %s: want at most an eighth of upload.memory, which is %s",
			formatSize(c.Upload.PartSize), formatSize(c.Upload.Memory))
	}
	if c.Storage.InlineMax > c.Upload.PartSize {
		refuse("storage.inline_max: %s: want at most upload.part_size, which is %s",
			formatSize(c.Storage.InlineMax), formatSize(c.Upload.PartSize))
	}
	if c.GC.Grace < 2*c.Limits.Request {
		refuse("gc.grace: %s: want at least twice limits.request, which is %s", formatDuration(c.GC.Grace), formatDuration(c.Limits.Request))
	}
	if c.GC.Schedule != "" {
		refuse("gc.schedule: this berth does not collect yet; leave it empty")
	}
	problems = append(problems, c.HTTP.CORS.check()...)
	if _, err := c.RedirectPolicy(); err != nil {
		problems = append(problems, strings.Split(KeysIn(err.Error()), "\n")...)
	}
	return problems
}
