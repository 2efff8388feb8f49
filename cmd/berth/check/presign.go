package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/redirect"
)

// secret is the content of objects that only clients with a signed URL may read.
const secret = "only for those with a signed URL"

// Headers that signed URLs request. The objects are stored with different headers.
const (
	requestedType        = "application/vnd.oci.image.layer.v1.tar+gzip"
	requestedDisposition = "attachment"
)

// presigned creates an object and returns a signed URL for it.
func presigned(ctx context.Context, b *run, name string, expires time.Duration) (drivers.Signed, error) {
	key := b.key(name)
	signed, err := b.SignGet(ctx, key, drivers.SignOptions{Expires: expires, ContentType: requestedType, ContentDisposition: requestedDisposition})
	if err != nil {
		return signed, err
	}
	_, err = b.Create(ctx, key, drivers.NewBody([]byte(secret)))
	return signed, err
}

// response is the response to a client without credentials.
type response struct {
	status int
	header http.Header
	body   string // the first KiB
}

// request is a request of a client without credentials.
type request struct {
	method string // GET if empty
	url    string
	host   string // the host of url if empty
	bytes  string // a range such as 5-7; everything if empty
	body   string
	follow bool // whether to follow redirects
}

// fetch sends a request without credentials. Its errors contain no signature.
func (b *run) fetch(ctx context.Context, r request) (response, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, strings.NewReader(r.body))
	if err != nil {
		return response{}, errors.New("the signed URL does not parse")
	}
	req.Host = cmp.Or(r.host, req.Host)
	if r.bytes != "" {
		req.Header.Set("Range", "bytes="+r.bytes)
	}
	client := *b.client
	if !r.follow {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	resp, err := client.Do(req)
	if err != nil {
		return response{}, fmt.Errorf("%s cannot be reached from this machine: %w", req.URL.Host, errors.Unwrap(err)) // without the URL, which may contain a signature
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return response{resp.StatusCode, resp.Header, string(p)}, err
}

// presignedGet reads an object by a signed URL: all of it, and a range.
func presignedGet(ctx context.Context, b *run) (string, error) {
	signed, err := presigned(ctx, b, "signed", time.Minute)
	if err != nil {
		return "", err
	}
	a, err := b.fetch(ctx, request{url: signed.URL, follow: true})
	if err != nil {
		return "", warning{err}
	}
	if a.status != http.StatusOK || a.body != secret {
		return "", warning{unexpected(a, signed)}
	}
	a, err = b.fetch(ctx, request{url: signed.URL, bytes: "5-7", follow: true})
	if err != nil {
		return "", warning{err}
	}
	if a.status != http.StatusPartialContent || a.body != secret[5:8] {
		return "", warning{fmt.Errorf("the signed URL returned %d for a Range, want 206", a.status)}
	}
	for name, want := range map[string]string{"Content-Type": requestedType, "Content-Disposition": requestedDisposition} {
		if got := a.header.Get(name); got != want {
			return "", warning{fmt.Errorf("the signed URL requests %s: %s, but the store returned %q: clients get a wrong media type, "+
				"or browsers show the blob instead of saving it", name, want, got)}
		}
	}
	return "all of it, and a range, with the requested headers", nil
}

// unexpected returns an error that describes a response other than the object.
func unexpected(a response, signed drivers.Signed) error {
	text := fmt.Sprintf("the signed URL returned %d", a.status)
	code := a.header.Get("x-ms-error-code")
	if code == "" {
		return errors.New(text)
	}
	text += " " + code
	u, err := url.Parse(signed.URL)
	if err != nil || a.status != http.StatusForbidden {
		return errors.New(text)
	}
	q := u.Query()
	start, _ := time.Parse(time.RFC3339, q.Get("st"))
	expiry, _ := time.Parse(time.RFC3339, q.Get("se"))
	// https://learn.microsoft.com/azure/storage/common/sas-expiration-policy
	text += fmt.Sprintf("; if the storage account has a SAS expiration policy (sasPolicy), it must allow %v, the time from the start of this URL to its expiry", expiry.Sub(start))
	if q.Has("skoid") {
		text += "; berth's URLs are bound to no user, so requireUserBoundUserDelegationSas of the account must be off"
	}
	return errors.New(text)
}

// Presigned reads an object by a URL with the lifetime of the URLs that clients
// get. A store can refuse it even if it accepts the shorter-lived URLs of Run.
// Presigned returns no results if policy redirects no reads to the store.
func Presigned(ctx context.Context, bucket drivers.Bucket, driver string, policy *redirect.Policy) []Result {
	b := newRun(bucket, driver)
	signed := step{
		name:   "redirected GET",
		impact: "Reads that are redirected to the store fail.",
		fix: "Check storage.*.public_endpoint, and whether the store limits the lifetime of URLs (redirect.expiry plus redirect.window). " +
			"Until the store accepts its URLs, set the target of redirect rules to direct.",
		needs: []permissions{toCreate, toRead, toSign},
		run: func(ctx context.Context, b *run) (string, error) {
			return redirectedGet(ctx, b, policy)
		},
	}.execute(ctx, b)
	if signed.Status == Skipped {
		return nil
	}
	results := []Result{signed}
	if r := cleanUp.execute(context.WithoutCancel(ctx), b); r.Status != OK {
		results = append(results, r)
	}
	return results
}

// redirectedGet reads an object by a URL that policy signs.
func redirectedGet(ctx context.Context, b *run, policy *redirect.Policy) (string, error) {
	key := b.dataKey([]byte(secret))
	signed, err := policy.Presign(ctx, b, key)
	if err != nil {
		return "", err
	}
	if _, err := b.Create(ctx, key, drivers.NewBody([]byte(secret))); err != nil {
		return "", err
	}
	a, err := b.fetch(ctx, request{url: signed.URL, follow: true})
	if err != nil {
		return "", warning{err}
	}
	if a.status != http.StatusOK || a.body != secret {
		return "", warning{unexpected(a, signed)}
	}
	return fmt.Sprintf("through a URL that expires at %s", signed.Expires.UTC().Format(time.RFC3339)), nil
}

// presignedRefused checks that the store refuses URLs without a valid signature.
func presignedRefused(ctx context.Context, b *run) (string, error) {
	signed, err := presigned(ctx, b, "tampered", time.Minute)
	if err != nil {
		return "", err
	}
	bare, _, _ := strings.Cut(signed.URL, "?")
	if err := b.refused(ctx, bare, "without its signature"); err != nil {
		return "", err
	}
	other := strings.Replace(signed.URL, "tampered", "first", 1)
	if err := b.refused(ctx, other, "for another object"); err != nil {
		return "", err
	}
	short, err := presigned(ctx, b, "expired", time.Second)
	if err != nil {
		return "", err
	}
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(time.Until(short.Expires) + 2*time.Second):
	}
	if err := b.refused(ctx, short.URL, "after it expired"); err != nil {
		return "", err
	}
	return "refused", nil
}

// refused returns an error unless the response to a URL is a refusal. how
// describes the URL.
func (b *run) refused(ctx context.Context, url, how string) error {
	a, err := b.fetch(ctx, request{url: url})
	if err != nil {
		return warning{err}
	}
	if a.status < 400 || a.status >= 500 {
		return fmt.Errorf("the URL %s returned %d, want 403", how, a.status)
	}
	return nil
}
