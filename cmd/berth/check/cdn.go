package check

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/redirect"
)

// Redirects looks at where reads are sent. Of each CDN it proves that it shows
// what is under data/ to whoever has a signed URL, and nothing else of the
// bucket to anybody. For that it writes two objects under data/, and one that a
// CDN must not show, and deletes them again.
func Redirects(ctx context.Context, bucket drivers.Bucket, policy *redirect.Policy) []Result {
	var results []Result
	if err := policy.Check(ctx, bucket); err != nil {
		results = append(results, redirectHost.result("", err))
	}
	edges := policy.Edges()
	if len(edges) == 0 {
		return results // nothing where nothing is wrong
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

// bait is what CDNs are asked for.
type bait struct {
	shown, other object   // under data/
	secret       []string // keys that there are, and must not be shown
}

type object struct {
	key, content string
}

func (b *bench) layBait(ctx context.Context) (bait, error) {
	var lure bait
	for _, o := range []*object{&lure.shown, &lure.other} {
		o.content = "berth asks what a CDN shows: " + rand.Text()
		o.key = b.dataKey([]byte(o.content))
		if _, err := b.Create(ctx, o.key, drivers.NewBody([]byte(o.content))); err != nil {
			return lure, err
		}
	}
	// It is under meta/, as the key of upload tokens is, and there for sure.
	hidden := b.key("hidden")
	if _, err := b.Create(ctx, hidden, drivers.NewBody([]byte("no CDN shows this"))); err != nil {
		return lure, err
	}
	lure.secret = []string{"meta/format", hidden}
	for o, err := range b.List(ctx, "blobs/", "") { // the first is of a blob: a link, or a record
		if err != nil {
			return lure, err
		}
		lure.secret = append(lure.secret, o.Key)
		break
	}
	return lure, nil
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
			name: name + "nothing but data",
			breaks: "Whoever can ask the CDN reads what is not theirs: meta/token-key would forge every upload token, " +
				"and blobs/ holds the content of small blobs.",
			mend: "Let the CDN's origin read data/ only (its identity may get objects under <storage.prefix>/data/, and nothing else), " +
				"have the CDN refuse all other paths, and purge its cache.",
			run: func(ctx context.Context, b *bench) (string, error) { return edgeHides(ctx, b, e, lure.secret) },
		},
	}
}

func edgeShows(ctx context.Context, b *bench, e redirect.Edge, o object) (string, error) {
	signed, err := e.Sign(ctx, b, o.key)
	if err != nil {
		return "", err
	}
	a, err := b.fetch(ctx, signed.URL, "", "")
	if err != nil {
		return "", err
	}
	if a.status != http.StatusOK || a.body != o.content {
		return "", fmt.Errorf("%s answers %d with %d bytes, want 200 and the %d that are there", redirect.Redacted(signed.URL), a.status, len(a.body), len(o.content))
	}
	a, err = b.fetch(ctx, signed.URL, "Range", "bytes=6-9")
	if err != nil {
		return "", err
	}
	if a.status != http.StatusPartialContent || a.body != o.content[6:10] {
		return "", finding{fmt.Errorf("%s answers %d to a Range, want 206", redirect.Redacted(signed.URL), a.status)}
	}
	return "whole, and by Range", nil
}

// edgeRefuses asks for what the CDN has just had from the store, and may have in
// its cache.
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

// edgeHides asks for keys that a CDN must not show, plainly and as if they were
// below data/, without a signature and with one as berth would make it.
func edgeHides(ctx context.Context, b *bench, e redirect.Edge, secret []string) (string, error) {
	var asked []string
	for _, key := range secret {
		asked = append(asked, key, drivers.BulkPrefix+"../"+key, drivers.BulkPrefix+"%2e%2e/"+key)
	}
	for _, key := range asked {
		signed, err := e.Sign(ctx, b, key)
		if err != nil {
			return "", err
		}
		for how, url := range map[string]string{"without a signature": e.URL(key), "with a signature": signed.URL} {
			a, err := b.fetch(ctx, url, "", "")
			if err != nil {
				return "", err
			}
			if !hidden(a, strings.HasPrefix(key, drivers.BulkPrefix)) {
				return "", fmt.Errorf("%s, %s, answers %d, want 403 or 404", redirect.Redacted(url), how, a.status)
			}
		}
	}
	return fmt.Sprintf("%d keys asked for, with and without a signature, are refused", len(asked)), nil
}

// hidden says that this is how a CDN hides what it is asked for. A path with
// dots may be no path to it at all. Azure has an answer of its own, where nobody
// reads without a signature:
// https://learn.microsoft.com/azure/storage/blobs/anonymous-read-access-prevent.
func hidden(a answer, dots bool) bool {
	switch a.status {
	case http.StatusForbidden, http.StatusNotFound:
		return true
	case http.StatusBadRequest:
		return dots
	case http.StatusConflict:
		return a.header.Get("x-ms-error-code") == "PublicAccessNotPermitted"
	}
	return false
}
