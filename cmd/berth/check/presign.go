package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/berthhq/berth/drivers"
)

const secret = "only for those with a signed URL"

// presigned creates an object and signs a URL to it.
func presigned(ctx context.Context, b *bench, name string, expires time.Duration) (drivers.Signed, error) {
	key := b.key(name)
	signed, err := b.SignGet(ctx, key, drivers.SignOptions{Expires: expires})
	if err != nil {
		return signed, err
	}
	_, err = b.Create(ctx, key, drivers.NewBody([]byte(secret)))
	return signed, err
}

// fetch is what a client without any credentials gets.
func (b *bench) fetch(ctx context.Context, url, header, value string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", errors.New("the driver signed a URL that can't be parsed")
	}
	if header != "" {
		req.Header.Set(header, value)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("can't reach %s from here: %w", req.URL.Host, errors.Unwrap(err)) // the URL itself stays out
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return resp.StatusCode, string(p), err
}

func presignedGet(ctx context.Context, b *bench) (string, error) {
	signed, err := presigned(ctx, b, "signed", time.Minute)
	if err != nil {
		return "", err
	}
	status, body, err := b.fetch(ctx, signed.URL, "", "")
	if err != nil {
		return "", finding{err}
	}
	if status != http.StatusOK || body != secret {
		return "", finding{fmt.Errorf("the signed URL answers %d", status)}
	}
	status, body, err = b.fetch(ctx, signed.URL, "Range", "bytes=5-7")
	if err != nil {
		return "", finding{err}
	}
	if status != http.StatusPartialContent || body != secret[5:8] {
		return "", finding{fmt.Errorf("the signed URL answers %d to a Range", status)}
	}
	return "whole, and by Range", nil
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
	status, _, err := b.fetch(ctx, url, "", "")
	if err != nil {
		return finding{err}
	}
	if status < 400 || status >= 500 {
		return fmt.Errorf("the URL %s answers %d, want 403", how, status)
	}
	return nil
}
