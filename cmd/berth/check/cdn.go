package check

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/redirect"
)

// Redirects tests the targets of redirects and returns the results. Each CDN must
// serve objects under data/ to clients with a signed URL, must serve no other
// object of the bucket to any client, and must not let clients write. Redirects
// creates a few objects under data/ and one that a CDN must not serve, and
// deletes them at the end.
func Redirects(ctx context.Context, bucket drivers.Bucket, policy *redirect.Policy) []Result {
	var results []Result
	if err := policy.Check(ctx, bucket); err != nil {
		results = append(results, redirectHost.result("", err))
	}
	edges := policy.Edges()
	if len(edges) == 0 {
		return results
	}
	b := newRun(bucket, "")
	c, err := b.placeCanaries(ctx)
	for _, e := range edges {
		for _, s := range edgeSteps(e, c) {
			if err != nil {
				s.run = func(context.Context, *run) (string, error) { return "", err }
			}
			results = append(results, s.execute(ctx, b))
		}
	}
	return append(results, cleanUp.execute(context.WithoutCancel(ctx), b))
}

var redirectHost = step{
	name:   "redirect host",
	impact: "Clients that follow a redirect would send the credentials for this service to another host.",
	fix:    "Give the store or the CDN a host name that is neither the service's own nor a subdomain of it, and https if the service has https.",
}

// canaries are the objects that the steps request from a CDN.
type canaries struct {
	public, other object // under data/
	hidden        string // key of an object that a CDN must not serve
	record        string // key of a blob's record; empty if there is no blob
}

type object struct {
	key, content string
}

// placeCanaries creates the canaries.
func (b *run) placeCanaries(ctx context.Context) (canaries, error) {
	var c canaries
	for _, o := range []*object{&c.public, &c.other} {
		var err error
		if *o, err = b.publicObject(ctx); err != nil {
			return c, err
		}
	}
	// Like the key of upload tokens, it is under meta/.
	c.hidden = b.key("hidden")
	if _, err := b.Create(ctx, c.hidden, drivers.NewBody([]byte("a CDN must not serve this"))); err != nil {
		return c, err
	}
	var err error
	c.record, err = someRecord(ctx, b)
	return c, err
}

// publicObject creates an object that a CDN may serve.
func (b *run) publicObject(ctx context.Context) (object, error) {
	o := object{content: "a CDN may serve this: " + rand.Text()}
	o.key = b.dataKey([]byte(o.content))
	_, err := b.Create(ctx, o.key, drivers.NewBody([]byte(o.content)))
	return o, err
}

// someRecord returns the key of a blob's record, or of a link to a blob if no
// record is among the first keys. It returns "" if there is no blob.
func someRecord(ctx context.Context, b *run) (string, error) {
	const enough = 1000 // keys, a page of a listing
	key, seen := "", 0
	for o, err := range b.List(ctx, catalog.BlobsPrefix, "", 0) {
		if err != nil {
			return "", err
		}
		key = o.Key
		_, isRecord := catalog.ParseRecordKey(key)
		if seen++; seen == enough || isRecord {
			break
		}
	}
	return key, nil
}

// edgeSteps returns the steps that test a CDN.
func edgeSteps(e redirect.Edge, c canaries) []step {
	name := "CDN " + e.Name + ": "
	return []step{
		{
			name:   name + "data",
			impact: "Downloads that are redirected to this CDN fail.",
			fix: fmt.Sprintf("Check redirect.cdn.%s: keys of the bucket, storage.prefix included, must follow base_url; the CDN must have the signing key; "+
				"and the CDN must be allowed to read data/ of the bucket.", e.Name),
			run: func(ctx context.Context, b *run) (string, error) { return edgeServes(ctx, b, e, c.public) },
		},
		{
			name:   name + "signatures",
			impact: "A client with a URL of this CDN could read other blobs, or read this blob forever.",
			fix:    "Make the CDN check the signature and the expiry of every request, also for objects in its cache.",
			run:    func(ctx context.Context, b *run) (string, error) { return edgeRefuses(ctx, b, e, c) },
		},
		{
			name:   name + "reads only",
			impact: "Clients that are redirected to this CDN could overwrite or delete blobs.",
			fix:    "Make the CDN refuse all methods except GET and HEAD, and allow its identity nothing except to get objects.",
			run:    func(ctx context.Context, b *run) (string, error) { return edgeOnlyReads(ctx, b, e) },
		},
		{
			name: name + "nothing but data",
			impact: "Clients of the CDN can read objects that are not for them: with meta/token-key they could forge upload tokens, " +
				"and blobs/ holds the content of small blobs.",
			fix: "Allow the CDN's identity to get objects under <storage.prefix>/data/ and nothing else, " +
				"make the CDN refuse all other paths, and purge its cache.",
			run: func(ctx context.Context, b *run) (string, error) { return edgeHides(ctx, b, e, c) },
		},
	}
}

// edgeServes reads an object by a signed URL of the CDN: all of it, and a range.
func edgeServes(ctx context.Context, b *run, e redirect.Edge, o object) (string, error) {
	signed, err := e.Sign(ctx, b, o.key)
	if err != nil {
		return "", err
	}
	a, err := b.fetch(ctx, request{url: signed.URL, follow: true})
	if err != nil {
		return "", err
	}
	if a.status != http.StatusOK || a.body != o.content {
		return "", fmt.Errorf("%s returned %d with %d bytes, want 200 and the %d bytes of the object", redirect.Redacted(signed.URL), a.status, len(a.body), len(o.content))
	}
	a, err = b.fetch(ctx, request{url: signed.URL, bytes: "6-9", follow: true})
	if err != nil {
		return "", err
	}
	if a.status != http.StatusPartialContent || a.body != o.content[6:10] {
		return "", warning{fmt.Errorf("%s returned %d for a Range, want 206", redirect.Redacted(signed.URL), a.status)}
	}
	return "all of it, and a range", nil
}

// edgeRefuses requests an object without a valid signature. The CDN may have the
// object in its cache, because edgeServes has read it.
func edgeRefuses(ctx context.Context, b *run, e redirect.Edge, c canaries) (string, error) {
	if !e.Signs() {
		return "", skipped{errors.New("URLs of kind plain carry no signature: any client with a URL can read that blob for as long as it exists")}
	}
	signed, err := e.Sign(ctx, b, c.public.key)
	if err != nil {
		return "", err
	}
	if err := b.refused(ctx, e.URL(c.public.key), "without its signature"); err != nil {
		return "", err
	}
	if err := b.refused(ctx, strings.Replace(signed.URL, c.public.key, c.other.key, 1), "with the signature of another object"); err != nil {
		return "", err
	}
	expired, err := e.SignExpired(c.public.key)
	if errors.Is(err, errors.ErrUnsupported) {
		return "missing signatures and those of other objects are refused; the store's signatures expire, see presigned GET", nil
	}
	if err != nil {
		return "", err
	}
	if err := b.refused(ctx, expired.URL, "after it expired"); err != nil {
		return "", err
	}
	return "missing and expired signatures and those of other objects are refused", nil
}

// edgeOnlyReads tries to change an object that clients may only read.
func edgeOnlyReads(ctx context.Context, b *run, e redirect.Edge) (string, error) {
	target, err := b.publicObject(ctx)
	if err != nil {
		return "", err
	}
	signed, err := e.Sign(ctx, b, target.key)
	if err != nil {
		return "", err
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete} {
		a, err := b.fetch(ctx, request{method: method, url: signed.URL, body: "written through the CDN"})
		if err != nil {
			return "", warning{err}
		}
		got, err := read(ctx, b, target.key, 0, -1)
		if errors.Is(err, drivers.ErrNotFound) || err == nil && string(got) != target.content {
			return "", fmt.Errorf("%s of %s returned %d, and changed the object", method, redirect.Redacted(signed.URL), a.status)
		}
		if err != nil {
			return "", err
		}
	}
	return "PUT and DELETE change nothing", nil
}

// attempt is a request for an object that a CDN must not serve.
type attempt struct {
	url, how string
	host     string // of the Host header, if it is not the host of url
	detour   bool   // the path or host is in an unusual form
	signed   bool
}

// edgeHides requests keys that a CDN must not serve, with a valid signature and
// without one: by their plain path, by other forms of that path, and by paths that
// look as if they were below data/. It also requests listings.
func edgeHides(ctx context.Context, b *run, e redirect.Edge, c canaries) (string, error) {
	attempts, err := attemptsAt(ctx, b, e, c)
	if err != nil {
		return "", err
	}
	for _, try := range attempts {
		a, err := b.fetch(ctx, request{url: try.url, host: try.host, follow: try.detour}) // the CDN may redirect to the plain path
		if err != nil {
			return "", err
		}
		if !hidden(a, try) {
			return "", fmt.Errorf("%s, %s, returned %d, want 403 or 404", redirect.Redacted(try.url), try.how, a.status)
		}
	}
	for _, url := range listings(e) {
		a, err := b.fetch(ctx, request{url: url})
		if err != nil {
			return "", err
		}
		if strings.Contains(a.body, "<ListBucketResult") || strings.Contains(a.body, "<EnumerationResults") {
			return "", fmt.Errorf("%s returned %d with a listing of the bucket", url, a.status)
		}
	}
	if c.record == "" {
		return "meta/ and listings are refused; blobs/ could not be tested because there is no blob yet", nil
	}
	return "meta/, blobs/ and listings are refused, with and without a signature", nil
}

// attemptsAt returns the requests of edgeHides for single objects.
func attemptsAt(ctx context.Context, b *run, e redirect.Edge, c canaries) ([]attempt, error) {
	var attempts []attempt
	add := func(key string, like attempt) error {
		signed, err := e.Sign(ctx, b, key)
		like.url, like.how = e.URL(key), "without a signature"
		attempts = append(attempts, like)
		like.url, like.how, like.signed = signed.URL, "with a signature", true
		attempts = append(attempts, like)
		return err
	}
	for _, key := range []string{c.hidden, catalog.FormatKey, c.record} {
		if key == "" {
			continue
		}
		if err := add(key, attempt{}); err != nil {
			return nil, err
		}
	}
	const data = drivers.BulkPrefix
	for _, before := range []string{data + "../", data + "%2e%2e/", data + "..%2f", data + "%252e%252e/", "/", "./"} {
		if err := add(before+c.hidden, attempt{detour: true}); err != nil {
			return nil, err
		}
	}
	if err := add(fmt.Sprintf("%%%02x%s", c.hidden[0], c.hidden[1:]), attempt{detour: true}); err != nil {
		return nil, err
	}
	base, err := url.Parse(e.URL(""))
	if err != nil {
		return nil, err
	}
	if err := add(c.hidden, attempt{detour: true, host: strings.ToUpper(base.Host)}); err != nil {
		return nil, err
	}
	// A signature may be valid for all paths that start with the signed path.
	public, err := e.Sign(ctx, b, c.public.key)
	if err != nil {
		return nil, err
	}
	for _, up := range []string{"../", "%2e%2e/", "..%2f"} {
		beyond := c.public.key + "/" + strings.Repeat(up, strings.Count(c.public.key, "/")+1) + c.hidden
		attempts = append(attempts, attempt{
			url: strings.Replace(public.URL, c.public.key, beyond, 1), how: "with the signature of an object under data/", detour: true, signed: true,
		})
	}
	return attempts, nil
}

// listings returns the URLs at which stores list their objects: at a CDN's base
// URL and at each path above it.
func listings(e redirect.Edge) []string {
	var urls []string
	at, err := url.Parse(e.URL(""))
	for err == nil {
		at.Path = strings.TrimRight(at.Path, "/")
		for _, query := range []string{"list-type=2", "restype=container&comp=list"} {
			at.RawQuery = query
			urls = append(urls, at.String())
		}
		if at.Path == "" {
			break
		}
		at.Path = at.Path[:strings.LastIndexByte(at.Path, '/')]
	}
	return urls
}

// hidden reports whether a response hides an object. A CDN may refuse a detour as
// a bad request. A store may refuse a CDN's signature as a bad signature of the
// store: Cloud CDN forwards signatures to Google's store unless they are enabled,
// and the store has parameters with the same names.
// https://cloud.google.com/cdn/docs/using-signed-urls
// https://cloud.google.com/storage/docs/xml-api/reference-status
//
// Azure has another response if it allows no reads without a signature:
// https://learn.microsoft.com/azure/storage/blobs/anonymous-read-access-prevent.
func hidden(a response, try attempt) bool {
	switch a.status {
	case http.StatusForbidden, http.StatusNotFound:
		return true
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusMisdirectedRequest:
		return try.detour || try.signed
	case http.StatusConflict:
		return a.header.Get("x-ms-error-code") == "PublicAccessNotPermitted"
	}
	return false
}
