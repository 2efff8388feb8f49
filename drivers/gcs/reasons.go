package gcs

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/api/googleapi"

	"github.com/berthhq/berth/drivers"
)

// answered is the reason that an answer of a Google API has for its status.
type answered struct {
	status  int
	reasons []string // in lower case
	service string   // that the reason is about, such as iamcredentials.googleapis.com
	project string   // that the reason is about, such as projects/123
	message string   // in lower case
}

// reasonsOf returns the reason of an error of the JSON API, of an ErrorInfo, or
// of the XML API, by which objects are read. It is zero for any other error.
// https://cloud.google.com/storage/docs/json_api/v1/status-codes
// https://cloud.google.com/storage/docs/xml-api/reference-status
// https://pkg.go.dev/google.golang.org/genproto/googleapis/rpc/errdetails#ErrorInfo
func reasonsOf(err error) answered {
	e, ok := errors.AsType[*googleapi.Error](err)
	if !ok {
		return answered{}
	}
	a := answered{status: e.Code, message: strings.ToLower(e.Message)}
	for _, item := range e.Errors {
		a.reasons = append(a.reasons, strings.ToLower(item.Reason))
	}
	for _, detail := range e.Details {
		info, _ := detail.(map[string]any)
		if kind, _ := info["@type"].(string); !strings.HasSuffix(kind, "google.rpc.ErrorInfo") {
			continue
		}
		if reason, _ := info["reason"].(string); reason != "" {
			a.reasons = append(a.reasons, strings.ToLower(reason))
		}
		metadata, _ := info["metadata"].(map[string]any)
		a.service, _ = metadata["service"].(string)
		a.project, _ = metadata["consumer"].(string)
	}
	var answer struct{ Code, Message string }
	if len(a.reasons) == 0 && xml.Unmarshal([]byte(e.Body), &answer) == nil {
		a.reasons = []string{strings.ToLower(answer.Code)}
		a.message = strings.ToLower(answer.Message)
	}
	return a
}

// is reports whether one of these reasons applies.
func (a answered) is(reasons ...string) bool {
	return slices.ContainsFunc(reasons, func(r string) bool { return slices.Contains(a.reasons, r) })
}

// kms reports whether the reason is about the key that encrypts the objects.
func (a answered) kms() bool {
	return slices.ContainsFunc(a.reasons, func(r string) bool { return strings.HasPrefix(r, "cloudkms") }) ||
		(a.status == http.StatusBadRequest || a.status == http.StatusForbidden) && strings.Contains(a.message, "cloud kms")
}

// requesterPays reports whether the request had to name a project that pays.
func (a answered) requesterPays() bool {
	return a.is("userprojectmissing") || a.status == http.StatusBadRequest && strings.Contains(a.message, "requester pays")
}

// scope reports whether the token's scope does not cover the request.
func (a answered) scope() bool {
	return a.is("access_token_scope_insufficient") || a.status == http.StatusForbidden && strings.Contains(a.message, "scope")
}

// disabled reports whether an API is disabled in the project.
func (a answered) disabled() bool {
	return a.is("service_disabled", "accessnotconfigured", "usagelimitsaccessnotconfigured")
}

// sentinel returns the sentinel for the reason, or nil if the status alone
// decides. A violated organization policy has the status of a failed
// precondition, and a rate limit may have that of a denial.
func (a answered) sentinel() error {
	switch {
	case a.status == http.StatusForbidden && a.is("ratelimitexceeded", "userratelimitexceeded", "rate_limit_exceeded"):
		return drivers.ErrBusy
	case a.requesterPays(), a.kms(), a.is("orgpolicyconstraintfailed"):
		return drivers.ErrRefused
	}
	return nil
}

// reasonAdvice returns advice about a refusal with a known reason, or "".
func (c *Config) reasonAdvice(a answered) string {
	switch {
	case a.is("retentionpolicynotmet"):
		return fmt.Sprintf("gcs.Config.Bucket: bucket %q has a retention policy, under which young objects can't be replaced or deleted, "+
			"and berth does both constantly: remove the policy, or use another bucket", c.Bucket)
	case a.is("objectunderactivehold"):
		return fmt.Sprintf("gcs.Config.Bucket: objects of bucket %q are held, so that they can't be replaced or deleted: "+
			"turn off the bucket's default event-based hold, and release the held objects", c.Bucket)
	case a.requesterPays():
		return fmt.Sprintf("gcs.Config.Bucket: bucket %q is set to Requester Pays, which berth doesn't support: turn it off", c.Bucket)
	case a.kms():
		return c.kmsAdvice(a)
	case a.is("orgpolicyconstraintfailed"):
		return fmt.Sprintf("gcs.Config.Bucket: a policy of the organization forbids a request of berth to bucket %q: see the policy that the answer names", c.Bucket)
	case a.scope():
		return fmt.Sprintf("gcs.Config.CredentialsFile: the tokens of %s have a scope that does not cover the request: "+
			"give the virtual machine the access scope cloud-platform, or use other credentials", c.credentialsName())
	case a.disabled():
		return "gcs.Config.Bucket: an API of Google Cloud is disabled: " + a.enable("storage.googleapis.com")
	case a.is("accountdisabled", "userprojectaccountproblem", "billing_disabled"):
		return fmt.Sprintf("gcs.Config.Bucket: the account of bucket %q's project is disabled: check its billing", c.Bucket)
	}
	return ""
}

// kmsAdvice returns the name of the key, and what is wrong with it.
// https://cloud.google.com/storage/docs/encryption/using-customer-managed-keys
func (c *Config) kmsAdvice(a answered) string {
	key := "the bucket's default key"
	if c.KMSKey != "" {
		key = c.KMSKey
	}
	const where = "gcs.Config.KMSKey: "
	switch {
	case a.is("cloudkmsdisabledkey"):
		return where + key + " is disabled or destroyed: enable it"
	case a.is("cloudkmskeylocationnotallowed"):
		return where + key + " is in another location than the bucket: use a key in the bucket's location"
	case a.is("cloudkmsbadkey", "cloudkmsencryptionkeynotfound", "cloudkmsdecryptionkeynotfound"):
		return where + key + " does not exist, or can't encrypt: check its name, and its state"
	default:
		return where + key + " can't be used: grant roles/cloudkms.cryptoKeyEncrypterDecrypter on it to the bucket's service agent " +
			"(service-PROJECT_NUMBER@gs-project-accounts.iam.gserviceaccount.com), not to berth's own account"
	}
}

// enable returns the command that enables the service named in the answer.
func (a answered) enable(service string) string {
	if a.service != "" {
		service = a.service
	}
	command := "gcloud services enable " + service
	if _, project, ok := strings.Cut(a.project, "projects/"); ok {
		command += " --project " + project
	}
	return command
}
