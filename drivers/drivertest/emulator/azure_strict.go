package emulator

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// AzureRules is a RoundTripper to a blob service that refuses more requests
// than Azurite, as an account with stricter settings does. Each rule refuses
// requests as Azure does. The zero value refuses nothing.
type AzureRules struct {
	Base http.RoundTripper

	// SASInterval is the SAS expiration policy of the account, with the action
	// Block: the longest time from a SAS's start to its expiry. A SAS without a
	// start is refused as well.
	// https://learn.microsoft.com/azure/storage/common/sas-expiration-policy
	SASInterval time.Duration

	// Newest is the newest service version that the endpoint accepts, such as
	// "2026-02-06".
	// https://learn.microsoft.com/rest/api/storageservices/versioning-for-the-azure-storage-services
	Newest string
}

// RoundTrip returns the refusal of a rule, or sends the request to Base.
func (a AzureRules) RoundTrip(r *http.Request) (*http.Response, error) {
	if refused := a.refusal(r); refused != nil {
		if r.Body != nil {
			_, _ = io.Copy(io.Discard, r.Body) // as a server does
			r.Body.Close()
		}
		return refused, nil
	}
	return a.Base.RoundTrip(r)
}

// refusal returns the response of the first rule that refuses the request, or nil.
func (a AzureRules) refusal(r *http.Request) *http.Response {
	q := r.URL.Query()
	if version := headerOf(r, "x-ms-version"); a.Newest != "" && version > a.Newest {
		return azureError(r, http.StatusBadRequest, "InvalidHeaderValue",
			"<HeaderName>x-ms-version</HeaderName><HeaderValue>"+version+"</HeaderValue>")
	}
	if q.Get("sig") == "" {
		return nil
	}
	if version := q.Get("sv"); a.Newest != "" && version > a.Newest {
		return azureError(r, http.StatusForbidden, "AuthenticationFailed",
			"<AuthenticationErrorDetail>The signed version "+version+" is not supported</AuthenticationErrorDetail>")
	}
	if a.SASInterval > 0 {
		start, noStart := time.Parse(time.RFC3339, q.Get("st"))
		expiry, noExpiry := time.Parse(time.RFC3339, q.Get("se"))
		if noStart != nil || noExpiry != nil || expiry.Sub(start) > a.SASInterval {
			return azureError(r, http.StatusForbidden, "AuthorizationFailure", "")
		}
	}
	return nil
}

// headerOf returns a header of a request. It ignores case, because the SDK does
// not write the name in canonical form.
func headerOf(r *http.Request, name string) string {
	for key, values := range r.Header {
		if strings.EqualFold(key, name) && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

// azureError returns an error of the service. more are further elements of its body.
func azureError(r *http.Request, status int, code, more string) *http.Response {
	body := fmt.Sprintf(`<?xml version="1.0" encoding="utf-8"?><Error><Code>%s</Code><Message>%s</Message>%s</Error>`, code, code, more)
	if r.Method == http.MethodHead {
		body = ""
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header:        http.Header{"Content-Type": {"application/xml"}, "X-Ms-Error-Code": {code}},
		Body:          io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)),
	}
}
