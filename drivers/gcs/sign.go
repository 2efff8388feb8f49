package gcs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/presign"
)

const (
	algorithm = "GOOG4-RSA-SHA256"
	dateTime  = "20060102T150405Z"
)

// SignGet returns a V4 signed URL, by the store's clock:
// https://cloud.google.com/storage/docs/authentication/signatures.
// It is valid for at most seven days, or twelve hours if IAM signs it; SignGet
// returns an error for a longer lifetime. The SDK's own signing always uses the
// current time, so that no two of its URLs are equal.
func (b *bucket) SignGet(ctx context.Context, key string, opts drivers.SignOptions) (drivers.Signed, error) {
	s, err := b.signGet(ctx, key, opts, b.clock.Now())
	if err != nil {
		return drivers.Signed{}, failed("sign", key, err)
	}
	s.Expires = b.clock.Local(s.Expires)
	return s, nil
}

func (b *bucket) signGet(ctx context.Context, key string, opts drivers.SignOptions, now time.Time) (drivers.Signed, error) {
	if err := drivers.CheckKey(key); err != nil {
		return drivers.Signed{}, err
	}
	account, err := b.signer.account()
	if err != nil {
		return drivers.Signed{}, err
	}
	u, err := url.Parse(b.store.cfg.publicEndpoint())
	if err != nil {
		return drivers.Signed{}, err
	}
	u.Host = presign.Authority(u)
	u.Path = "/" + b.store.cfg.Bucket + "/" + b.store.name(key)
	u.RawPath = escapePath(u.Path)

	from := now.UTC().Truncate(max(opts.Window, time.Second))
	// Whole seconds, rounded up, counted from up to one window ago.
	lifetime := (opts.Expires + max(opts.Window, time.Second) + time.Second - 1).Truncate(time.Second)
	if most := b.signer.lifetime(); lifetime > most {
		return drivers.Signed{}, fmt.Errorf("a URL for %v, signed up to %v ago, would outlive its signature, which is valid for at most %v",
			opts.Expires, opts.Window, most)
	}
	scope := from.Format("20060102") + "/auto/storage/goog4_request"
	q := url.Values{
		"X-Goog-Algorithm":     {algorithm},
		"X-Goog-Credential":    {account + "/" + scope},
		"X-Goog-Date":          {from.Format(dateTime)},
		"X-Goog-Expires":       {strconv.FormatInt(int64(lifetime/time.Second), 10)},
		"X-Goog-SignedHeaders": {"host"},
	}
	if opts.ContentType != "" {
		q.Set("response-content-type", opts.ContentType)
	}
	if opts.ContentDisposition != "" {
		q.Set("response-content-disposition", opts.ContentDisposition)
	}
	query := strings.ReplaceAll(q.Encode(), "+", "%20")

	request := strings.Join([]string{"GET", u.RawPath, query, "host:" + u.Host, "", "host", "UNSIGNED-PAYLOAD"}, "\n")
	sum := sha256.Sum256([]byte(request))
	signature, err := b.signer.sign(ctx, []byte(strings.Join([]string{algorithm, from.Format(dateTime), scope, hex.EncodeToString(sum[:])}, "\n")))
	if err != nil {
		return drivers.Signed{}, err
	}
	u.RawQuery = query + "&X-Goog-Signature=" + hex.EncodeToString(signature)
	return drivers.Signed{URL: u.String(), Expires: from.Add(lifetime)}, nil
}

// escapePath escapes all characters except slashes and those that RFC 3986
// calls unreserved.
func escapePath(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i] = strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
	}
	return strings.Join(segments, "/")
}
