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

const secret = "only for those with a signed URL"

// Headers that signed URLs ask for. The object is stored with other ones.
const (
	askedType        = "application/vnd.oci.image.layer.v1.tar+gzip"
	askedDisposition = "attachment"
)

// presigned creates an object and returns a signed URL of it.
func presigned(ctx context.Context, b *bench, name string, expires time.Duration) (drivers.Signed, error) {
	key := b.key(name)
	signed, err := b.SignGet(ctx, key, drivers.SignOptions{Expires: expires, ContentType: askedType, ContentDisposition: askedDisposition})
	if err != nil {
		return signed, err
	}
	_, err = b.Create(ctx, key, drivers.NewBody([]byte(secret)))
	return signed, err
}

// answer is the answer to a client without any credentials.
type answer struct {
	status int
	header http.Header
	body   string
}

// question is a client's request.
type question struct {
	method string // GET if empty
	url    string
	host   string // the host of url if empty
	bytes  string // a range, such as 5-7; all bytes if empty
	body   string
	follow bool // whether to follow redirects
}

// fetch sends a request without any credentials. It returns the first KiB of the
// answer.
func (b *bench) fetch(ctx context.Context, q question) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, strings.NewReader(q.body))
	if err != nil {
		return answer{}, errors.New("that is no URL, although it was signed")
	}
	req.Host = cmp.Or(q.host, req.Host)
	if q.bytes != "" {
		req.Header.Set("Range", "bytes="+q.bytes)
	}
	client := *b.client
	if !q.follow {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("can't reach %s from here: %w", req.URL.Host, errors.Unwrap(err)) // without the URL, which could be a secret
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return answer{resp.StatusCode, resp.Header, string(p)}, err
}

func presignedGet(ctx context.Context, b *bench) (string, error) {
	signed, err := presigned(ctx, b, "signed", time.Minute)
	if err != nil {
		return "", err
	}
	a, err := b.fetch(ctx, question{url: signed.URL, follow: true})
	if err != nil {
		return "", finding{err}
	}
	if a.status != http.StatusOK || a.body != secret {
		return "", finding{unexpected(a, signed)}
	}
	a, err = b.fetch(ctx, question{url: signed.URL, bytes: "5-7", follow: true})
	if err != nil {
		return "", finding{err}
	}
	if a.status != http.StatusPartialContent || a.body != secret[5:8] {
		return "", finding{fmt.Errorf("the signed URL answers %d to a Range", a.status)}
	}
	for name, want := range map[string]string{"Content-Type": askedType, "Content-Disposition": askedDisposition} {
		if got := a.header.Get(name); got != want {
			return "", finding{fmt.Errorf("the signed URL asks for %s: %s, and the store answers %q: clients get another media type than berth's, "+
				"or browsers show the blob instead of saving it", name, want, got)}
		}
	}
	return "whole, and by Range, with the headers asked for", nil
}

// unexpected returns an error for an answer to a signed URL that is not the
// object.
func unexpected(a answer, signed drivers.Signed) error {
	said := fmt.Sprintf("the signed URL answers %d", a.status)
	code := a.header.Get("x-ms-error-code")
	if code == "" {
		return errors.New(said)
	}
	said += " " + code
	u, err := url.Parse(signed.URL)
	if err != nil || a.status != http.StatusForbidden {
		return errors.New(said)
	}
	q := u.Query()
	start, _ := time.Parse(time.RFC3339, q.Get("st"))
	expiry, _ := time.Parse(time.RFC3339, q.Get("se"))
	// https://learn.microsoft.com/azure/storage/common/sas-expiration-policy
	said += fmt.Sprintf("; if the storage account has a SAS expiration policy (sasPolicy), it must allow %v, the time from this URL's start to its expiry", expiry.Sub(start))
	if q.Has("skoid") {
		said += "; berth's URLs name no user, so requireUserBoundUserDelegationSas of the account must be off"
	}
	return errors.New(said)
}

// Presigned reads an object by a URL with the lifetime that clients' URLs have. A
// store can refuse it although it accepts the shorter-lived URLs of Run.
// Presigned returns no results if no read is redirected to the store.
func Presigned(ctx context.Context, bucket drivers.Bucket, driver string, policy *redirect.Policy) []Result {
	b := newBench(bucket, driver)
	signed := step{
		name:   "redirected GET",
		breaks: "Reads that are redirected to the store fail.",
		mend: "Check storage.*.public_endpoint, and redirect.expiry and redirect.window, which the store may have a limit for; " +
			"or set the rules' target to direct until the store takes its URLs.",
		needs: []permissions{toCreate, toRead, toSign},
		run: func(ctx context.Context, b *bench) (string, error) {
			return redirectedGet(ctx, b, policy)
		},
	}.take(ctx, b)
	if signed.Status == Skipped {
		return nil
	}
	results := []Result{signed}
	if r := cleanUp.take(context.WithoutCancel(ctx), b); r.Status != OK {
		results = append(results, r)
	}
	return results
}

func redirectedGet(ctx context.Context, b *bench, policy *redirect.Policy) (string, error) {
	key := b.dataKey([]byte(secret))
	signed, err := policy.Presign(ctx, b, key)
	if err != nil {
		return "", err
	}
	if _, err := b.Create(ctx, key, drivers.NewBody([]byte(secret))); err != nil {
		return "", err
	}
	a, err := b.fetch(ctx, question{url: signed.URL, follow: true})
	if err != nil {
		return "", finding{err}
	}
	if a.status != http.StatusOK || a.body != secret {
		return "", finding{unexpected(a, signed)}
	}
	return fmt.Sprintf("by a URL that expires at %s", signed.Expires.UTC().Format(time.RFC3339)), nil
}

func presignedRefused(ctx context.Context, b *bench) (string, error) {
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

func (b *bench) refused(ctx context.Context, url, how string) error {
	a, err := b.fetch(ctx, question{url: url})
	if err != nil {
		return finding{err}
	}
	if a.status < 400 || a.status >= 500 {
		return fmt.Errorf("the URL %s answers %d, want 403", how, a.status)
	}
	return nil
}
