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

// Redirects checks the targets of redirects and returns the results. Each CDN
// must serve objects under data/ to clients with a signed URL, must serve
// nothing else of the bucket to any client, and must not let clients write.
// Redirects creates a few objects under data/, and one that a CDN must not
// serve, and deletes them at the end.
func Redirects(ctx context.Context, bucket drivers.Bucket, policy *redirect.Policy) []Result {
	var results []Result
	if err := policy.Check(ctx, bucket); err != nil {
		results = append(results, redirectHost.result("", err))
	}
	edges := policy.Edges()
	if len(edges) == 0 {
		return results // empty if Check found nothing
	}
	b := newBench(bucket, "")
	bait, err := b.layBait(ctx)
	for _, e := range edges {
		for _, s := range edgeSteps(e, bait) {
			if err != nil {
				s.run = func(context.Context, *bench) (string, error) { return "", err }
			}
			results = append(results, s.take(ctx, b))
		}
	}
	return append(results, cleanUp.take(context.WithoutCancel(ctx), b))
}

var redirectHost = step{
	name:   "redirect host",
	breaks: "Clients that follow a redirect would send along the credentials that are meant for this service.",
	mend:   "Give the store or the CDN a host name that is not the service's own, nor below it, and https if the service has it.",
}

// bait is the set of keys that the steps request from a CDN.
type bait struct {
	shown, other object // under data/
	hidden       string // key of an object that a CDN must not serve
	record       string // key of a blob's record; empty if there is no blob
}

type object struct {
	key, content string
}

func (b *bench) layBait(ctx context.Context) (bait, error) {
	var lure bait
	for _, o := range []*object{&lure.shown, &lure.other} {
		var err error
		if *o, err = b.show(ctx); err != nil {
			return lure, err
		}
	}
	// Like the key of upload tokens, it is under meta/. It certainly exists.
	lure.hidden = b.key("hidden")
	if _, err := b.Create(ctx, lure.hidden, drivers.NewBody([]byte("no CDN shows this"))); err != nil {
		return lure, err
	}
	var err error
	lure.record, err = someRecord(ctx, b)
	return lure, err
}

// show creates an object that a CDN may serve.
func (b *bench) show(ctx context.Context) (object, error) {
	o := object{content: "berth asks what a CDN shows: " + rand.Text()}
	o.key = b.dataKey([]byte(o.content))
	_, err := b.Create(ctx, o.key, drivers.NewBody([]byte(o.content)))
	return o, err
}

// someRecord returns the key of a blob's record, or of a link if the record comes
// after many links. It returns "" if there is no blob.
func someRecord(ctx context.Context, b *bench) (string, error) {
	const enough = 1000 // keys, a page of a listing
	key, seen := "", 0
	for o, err := range b.List(ctx, catalog.BlobsPrefix, "") {
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

func edgeSteps(e redirect.Edge, lure bait) []step {
	name := "CDN " + e.Name + ": "
	return []step{
		{
			name:   name + "data",
			breaks: "Downloads that are sent to this CDN fail.",
			mend: fmt.Sprintf("Check redirect.cdn.%s: base_url ends where the bucket's keys begin, storage.prefix included; the key is one that the CDN knows; "+
				"and the CDN may read data/ of the bucket.", e.Name),
			run: func(ctx context.Context, b *bench) (string, error) { return edgeShows(ctx, b, e, lure.shown) },
		},
		{
			name:   name + "signatures",
			breaks: "Whoever sees a URL of this CDN once could read other blobs, or read this one for good.",
			mend:   "Have the CDN check the signature and the expiry of every request, also of what it has in its cache.",
			run:    func(ctx context.Context, b *bench) (string, error) { return edgeRefuses(ctx, b, e, lure) },
		},
		{
			name:   name + "reads only",
			breaks: "Whoever is sent to this CDN could overwrite or delete what it shows.",
			mend:   "Have the CDN refuse all methods but GET and HEAD, and give its identity no right but to get objects.",
			run:    func(ctx context.Context, b *bench) (string, error) { return edgeOnlyReads(ctx, b, e) },
		},
		{
			name: name + "nothing but data",
			breaks: "Whoever can ask the CDN reads what is not theirs: meta/token-key would forge every upload token, " +
				"and blobs/ holds the content of small blobs.",
			mend: "Let the CDN's origin read data/ only (its identity may get objects under <storage.prefix>/data/, and nothing else), " +
				"have the CDN refuse all other paths, and purge its cache.",
			run: func(ctx context.Context, b *bench) (string, error) { return edgeHides(ctx, b, e, lure) },
		},
	}
}

func edgeShows(ctx context.Context, b *bench, e redirect.Edge, o object) (string, error) {
	signed, err := e.Sign(ctx, b, o.key)
	if err != nil {
		return "", err
	}
	a, err := b.fetch(ctx, question{url: signed.URL, follow: true})
	if err != nil {
		return "", err
	}
	if a.status != http.StatusOK || a.body != o.content {
		return "", fmt.Errorf("%s answers %d with %d bytes, want 200 and the %d that are there", redirect.Redacted(signed.URL), a.status, len(a.body), len(o.content))
	}
	a, err = b.fetch(ctx, question{url: signed.URL, bytes: "6-9", follow: true})
	if err != nil {
		return "", err
	}
	if a.status != http.StatusPartialContent || a.body != o.content[6:10] {
		return "", finding{fmt.Errorf("%s answers %d to a Range, want 206", redirect.Redacted(signed.URL), a.status)}
	}
	return "whole, and by Range", nil
}

// edgeRefuses requests an object that the CDN has just fetched from the store, so
// that it may be in its cache.
func edgeRefuses(ctx context.Context, b *bench, e redirect.Edge, lure bait) (string, error) {
	if !e.Signs() {
		return "", skipped{errors.New("URLs of kind plain carry no signature: whoever has one can read that blob for as long as it exists")}
	}
	signed, err := e.Sign(ctx, b, lure.shown.key)
	if err != nil {
		return "", err
	}
	if err := b.refused(ctx, e.URL(lure.shown.key), "without its signature"); err != nil {
		return "", err
	}
	if err := b.refused(ctx, strings.Replace(signed.URL, lure.shown.key, lure.other.key, 1), "with another's signature"); err != nil {
		return "", err
	}
	expired, err := e.SignExpired(lure.shown.key)
	if errors.Is(err, errors.ErrUnsupported) {
		return "missing or another's are refused; the store's own expire as for presigned GET", nil
	}
	if err != nil {
		return "", err
	}
	if err := b.refused(ctx, expired.URL, "after it expired"); err != nil {
		return "", err
	}
	return "missing, another's and expired are refused", nil
}

// edgeOnlyReads tries to change an object that clients may only read.
func edgeOnlyReads(ctx context.Context, b *bench, e redirect.Edge) (string, error) {
	victim, err := b.show(ctx)
	if err != nil {
		return "", err
	}
	signed, err := e.Sign(ctx, b, victim.key)
	if err != nil {
		return "", err
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete} {
		a, err := b.fetch(ctx, question{method: method, url: signed.URL, body: "written through a CDN"})
		if err != nil {
			return "", finding{err}
		}
		got, err := read(ctx, b, victim.key, 0, -1)
		if errors.Is(err, drivers.ErrNotFound) || err == nil && string(got) != victim.content {
			return "", fmt.Errorf("%s of %s answers %d, and does it", method, redirect.Redacted(signed.URL), a.status)
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
	host     string // in the header, if it is not the host of url
	detour   bool   // whether the path or host is in an unusual form
	signed   bool
}

// edgeHides requests keys that a CDN must not serve, without a signature and with
// one of berth's form. It requests the plain path, other forms of the same path,
// and paths that seem to be below data/. It also requests listings.
func edgeHides(ctx context.Context, b *bench, e redirect.Edge, lure bait) (string, error) {
	attempts, err := attemptsAt(ctx, b, e, lure)
	if err != nil {
		return "", err
	}
	for _, try := range attempts {
		a, err := b.fetch(ctx, question{url: try.url, host: try.host, follow: try.detour}) // the CDN may redirect to the plain path
		if err != nil {
			return "", err
		}
		if !hidden(a, try) {
			return "", fmt.Errorf("%s, %s, answers %d, want 403 or 404", redirect.Redacted(try.url), try.how, a.status)
		}
	}
	for _, url := range listings(e) {
		a, err := b.fetch(ctx, question{url: url})
		if err != nil {
			return "", err
		}
		if strings.Contains(a.body, "<ListBucketResult") || strings.Contains(a.body, "<EnumerationResults") {
			return "", fmt.Errorf("%s answers %d with a list of what is in the bucket", url, a.status)
		}
	}
	if lure.record == "" {
		return "meta/ and listings are refused; of blobs/ nothing could be asked for, since there is no blob yet", nil
	}
	return "meta/, blobs/ and listings are refused, with and without a signature", nil
}

func attemptsAt(ctx context.Context, b *bench, e redirect.Edge, lure bait) ([]attempt, error) {
	var attempts []attempt
	add := func(key string, like attempt) error {
		signed, err := e.Sign(ctx, b, key)
		like.url, like.how = e.URL(key), "without a signature"
		attempts = append(attempts, like)
		like.url, like.how, like.signed = signed.URL, "with a signature", true
		attempts = append(attempts, like)
		return err
	}
	for _, key := range []string{lure.hidden, catalog.FormatKey, lure.record} {
		if key == "" {
			continue
		}
		if err := add(key, attempt{}); err != nil {
			return nil, err
		}
	}
	const data = drivers.BulkPrefix
	for _, before := range []string{data + "../", data + "%2e%2e/", data + "..%2f", data + "%252e%252e/", "/", "./"} {
		if err := add(before+lure.hidden, attempt{detour: true}); err != nil {
			return nil, err
		}
	}
	if err := add(fmt.Sprintf("%%%02x%s", lure.hidden[0], lure.hidden[1:]), attempt{detour: true}); err != nil {
		return nil, err
	}
	base, err := url.Parse(e.URL(""))
	if err != nil {
		return nil, err
	}
	if err := add(lure.hidden, attempt{detour: true, host: strings.ToUpper(base.Host)}); err != nil {
		return nil, err
	}
	// A signature may be valid for all paths with the signed path as a prefix.
	shown, err := e.Sign(ctx, b, lure.shown.key)
	if err != nil {
		return nil, err
	}
	for _, up := range []string{"../", "%2e%2e/", "..%2f"} {
		beyond := lure.shown.key + "/" + strings.Repeat(up, strings.Count(lure.shown.key, "/")+1) + lure.hidden
		attempts = append(attempts, attempt{
			url: strings.Replace(shown.URL, lure.shown.key, beyond, 1), how: "with the signature of what is under data/", detour: true, signed: true,
		})
	}
	return attempts, nil
}

// listings returns URLs by which stores list their objects, at a CDN's base URL
// and at each path above it.
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

// hidden reports whether a is an answer with which a CDN hides an object. A CDN
// may refuse a detour as a bad request. A store may refuse a CDN's signature as
// a bad signature of its own: if Cloud CDN is not enabled, its signatures are
// forwarded to Google's store, where the parameters have the same names.
// https://cloud.google.com/cdn/docs/using-signed-urls
// https://cloud.google.com/storage/docs/xml-api/reference-status
//
// Azure has an answer of its own if it allows no reads without a signature:
// https://learn.microsoft.com/azure/storage/blobs/anonymous-read-access-prevent.
func hidden(a answer, try attempt) bool {
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
