package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Keys are fetched again in this interval, so that a key that an issuer has
	// withdrawn is soon not accepted.
	keysInterval = 15 * time.Minute

	// After a failure they are fetched again after an interval that doubles.
	keysFirstRetry = time.Second
	keysLastRetry  = 5 * time.Minute

	// A token with an unknown key makes berth fetch the keys, but not more often than
	// in this interval, and waits for them for keysPatience.
	keysMinInterval = 10 * time.Second
	keysPatience    = 3 * time.Second

	fetchTimeout = 10 * time.Second
	maxDocument  = 1 << 20 // bytes of a key set or discovery document
)

// remoteKeys has the keys of an issuer from a URL. While the URL cannot be read, it keeps
// the keys that it has.
type remoteKeys struct {
	name    string // of the issuer, for the log
	url     string // of the keys, or of the discovery document if issuer is set
	issuer  string
	client  *http.Client
	log     *slog.Logger
	current atomic.Pointer[keySet]

	mu      sync.Mutex
	last    time.Time     // when keys were fetched last, or could not be
	pending chan struct{} // closed when the fetch that was asked for has ended; nil if none was
	wake    chan struct{}
}

// openRemoteKeys returns keys that are fetched now and then until ctx ends. field names
// the setting of the authorities that are trusted for TLS.
func openRemoteKeys(ctx context.Context, k *remoteKeys, field, caFile string) (*remoteKeys, error) {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: fetchTimeout}).DialContext,
		TLSHandshakeTimeout:   fetchTimeout,
		ResponseHeaderTimeout: fetchTimeout,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   1,
		ForceAttemptHTTP2:     true,
	}
	if caFile != "" {
		pool, err := authorities(caFile)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	k.client = &http.Client{Transport: transport, Timeout: fetchTimeout, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) >= 5 {
			return errors.New("too many redirects")
		}
		return checkURL(r.URL)
	}}
	k.start(ctx)
	return k, nil
}

// start starts to fetch keys.
func (k *remoteKeys) start(ctx context.Context) {
	k.wake = make(chan struct{}, 1)
	k.pending = make(chan struct{}) // of the first fetch
	go k.run(ctx)
}

func authorities(file string) (*x509.CertPool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s has no certificate in PEM", file)
	}
	return pool, nil
}

func (k *remoteKeys) keys() keySet {
	if set := k.current.Load(); set != nil {
		return *set
	}
	return nil
}

func (k *remoteKeys) refresh(ctx context.Context) keySet {
	if done := k.ask(); done != nil {
		patience := time.NewTimer(keysPatience)
		defer patience.Stop()
		select {
		case <-done:
		case <-patience.C:
		case <-ctx.Done():
		}
	}
	return k.keys()
}

// ask asks for the keys to be fetched. It returns a channel that is closed once they
// are, or nil if they were fetched too recently.
func (k *remoteKeys) ask() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pending != nil {
		return k.pending
	}
	if time.Since(k.last) < keysMinInterval {
		return nil
	}
	k.pending = make(chan struct{})
	k.wake <- struct{}{} // has room: there is one for each pending
	return k.pending
}

// run fetches keys until ctx ends.
func (k *remoteKeys) run(ctx context.Context) {
	retry := keysFirstRetry
	for {
		set, err := k.fetch(ctx)
		next := keysInterval + rand.N(keysInterval/10) //nolint:gosec // a delay, and no secret
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			next = retry
			retry = min(2*retry, keysLastRetry)
			k.log.Warn("the keys of an issuer of tokens cannot be read", "issuer", k.name, "error", err, "known", len(k.keys()), "retry", next)
		default:
			retry = keysFirstRetry
			k.current.Store(&set)
		}
		k.fetched()
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-k.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// fetched ends the wait of those who asked.
func (k *remoteKeys) fetched() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = time.Now()
	if k.pending != nil {
		close(k.pending)
		k.pending = nil
	}
	select {
	case <-k.wake: // by those who asked during the fetch
	default:
	}
}

func (k *remoteKeys) fetch(ctx context.Context) (keySet, error) {
	url := k.url
	if k.issuer != "" {
		var err error
		if url, err = k.discover(ctx); err != nil {
			return nil, err
		}
	}
	data, err := k.get(ctx, url)
	if err != nil {
		return nil, err
	}
	set, err := parseJWKS(data)
	if err != nil {
		return nil, fmt.Errorf("%s %w", url, err)
	}
	return set, nil
}

// discover returns the URL of the issuer's keys from its discovery document
// (https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata).
func (k *remoteKeys) discover(ctx context.Context) (string, error) {
	data, err := k.get(ctx, k.url)
	if err != nil {
		return "", err
	}
	var doc struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return "", fmt.Errorf("%s is not a discovery document: %w", k.url, err)
	}
	if doc.Issuer != k.issuer {
		return "", fmt.Errorf("%s is the document of issuer %.200q, want %q", k.url, doc.Issuer, k.issuer)
	}
	u, err := url.Parse(doc.Keys)
	if err == nil {
		err = checkURL(u)
	}
	if err != nil {
		return "", fmt.Errorf("%s: jwks_uri: %w", k.url, err)
	}
	return doc.Keys, nil
}

func (k *remoteKeys) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	res, err := k.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, res.Status)
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxDocument+1))
	if err == nil && len(data) > maxDocument {
		err = fmt.Errorf("GET %s: the document is larger than 1 MiB", url)
	}
	return data, err
}

// checkURL returns an error unless keys can be fetched from a URL without a chance for
// others on the network to replace them.
func checkURL(u *url.URL) error {
	host := u.Hostname()
	addr := net.ParseIP(host)
	local := host == "localhost" || strings.HasSuffix(host, ".localhost") || addr != nil && addr.IsLoopback()
	if u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return fmt.Errorf("%.200q: want an https URL", u.Redacted())
	}
	return nil
}
