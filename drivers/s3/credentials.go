package s3

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	// credentialWindow is how long before the credentials expire a process
	// requests new ones. If they live for less than twice as long, it requests
	// them after half of their lifetime. STS issues new credentials at any time,
	// so URLs can be signed for credentialWindow less credentialMargin. An EC2
	// instance returns the old ones until shortly before they expire.
	credentialWindow = 30 * time.Minute

	// credentialPause is the minimum time between such requests.
	credentialPause = time.Minute

	// credentialTimeout limits how long a request waits for new credentials,
	// both in this window and after the old ones have expired.
	credentialTimeout = 15 * time.Second

	// refusalPause is the minimum time between requests for credentials to
	// replace those that the store refuses.
	refusalPause = 10 * time.Second
)

// credentialsCache is a credentials provider that requests new credentials
// before the current ones expire, and keeps the current ones until it gets new
// ones. The SDK's cache can also renew early, but then it treats the credentials
// as expired that much earlier: URLs would be signed for seconds, and finally
// for no time at all, and requests would fail although their credentials are
// valid.
//
// It also requests new credentials when the store has refused the current ones,
// and when the shared files have changed, which the SDK reads only once.
type credentialsCache struct {
	// resolve has the SDK read the environment and the shared files again. It
	// is nil if there is nothing to read.
	resolve func(context.Context) (*aws.CredentialsCache, error)
	files   sharedFiles
	log     *slog.Logger

	source  atomic.Pointer[aws.CredentialsCache] // never renews early by itself
	current atomic.Pointer[cachedCredentials]

	early   sync.Mutex // held by the request that renews early
	next    time.Time  // when to renew early again
	refused time.Time  // when to request credentials again after a refusal
}

// cachedCredentials are credentials with the time from which new ones are
// requested.
type cachedCredentials struct {
	aws.Credentials
	renew time.Time
}

// differ reports whether the credentials have another key or token. It reports
// false if there are no credentials.
func (c *cachedCredentials) differ(id, token string) bool {
	return c != nil && (c.AccessKeyID != id || c.SessionToken != token)
}

// Retrieve returns credentials with their real expiry.
func (c *credentialsCache) Retrieve(ctx context.Context) (aws.Credentials, error) {
	current, changed := c.current.Load(), c.files.changed()
	if current == nil {
		return c.retrieve(ctx, openTimeout)
	}
	due := changed || current.CanExpire && !time.Now().Before(current.renew)
	if due && c.early.TryLock() {
		defer c.early.Unlock()
		if !time.Now().Before(c.next) && (changed || !current.Expired()) {
			c.next = time.Now().Add(credentialPause)
			if fresh, err := c.retrieveEarly(ctx, changed); err == nil {
				return fresh, nil
			}
		}
	}
	if current = c.current.Load(); current.Expired() {
		return c.retrieve(ctx, credentialTimeout)
	}
	return current.Credentials, nil
}

// replaced reports whether the current credentials differ from the given ones,
// which the store has refused. It requests new ones at most once in
// refusalPause.
func (c *credentialsCache) replaced(id, token string) bool {
	if c.resolve == nil || id == "" {
		return false
	}
	c.early.Lock()
	defer c.early.Unlock()
	before := c.current.Load()
	if differ := before.differ(id, token); differ || time.Now().Before(c.refused) {
		return differ
	}
	fresh, err := c.retrieveEarly(context.Background(), true)
	c.refused = time.Now().Add(refusalPause) // also for requests that have waited here
	return err == nil && before != nil && !fresh.Expired() &&
		(c.current.Load().differ(id, token) || fresh.SecretAccessKey != before.SecretAccessKey)
}

// retrieveEarly requests credentials although the current ones have not expired.
// With reread it also reads the files and the environment again.
func (c *credentialsCache) retrieveEarly(ctx context.Context, reread bool) (aws.Credentials, error) {
	if !reread || c.resolve == nil {
		c.source.Load().Invalidate()
		return c.retrieve(ctx, credentialTimeout)
	}
	read := c.files.stamp() // of the contents that resolve reads, or of older contents
	ctx, cancel := context.WithTimeout(ctx, credentialTimeout)
	defer cancel()
	source, err := c.resolve(ctx)
	if err != nil {
		return aws.Credentials{}, &credentialsError{err}
	}
	before, old := c.current.Load(), c.source.Swap(source)
	fresh, err := c.retrieve(ctx, credentialTimeout)
	if err != nil {
		c.source.Store(old)
		return fresh, err
	}
	c.files.use(read)
	if c.log != nil && before != nil && (before.AccessKeyID != fresh.AccessKeyID || before.SecretAccessKey != fresh.SecretAccessKey) {
		c.log.InfoContext(ctx, "the store's credentials have changed", slog.String("access_key_id", fresh.AccessKeyID))
	}
	return fresh, nil
}

// retrieve requests credentials from the source, which may return the same ones
// again.
func (c *credentialsCache) retrieve(ctx context.Context, timeout time.Duration) (aws.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	got, err := c.source.Load().Retrieve(ctx)
	if err != nil {
		return got, &credentialsError{err}
	}
	fresh := &cachedCredentials{got, got.Expires.Add(-min(credentialWindow, time.Until(got.Expires)/2))}
	if current := c.current.Load(); current != nil && current.AccessKeyID == got.AccessKeyID && current.Expires.Equal(got.Expires) {
		fresh.renew = current.renew
	}
	c.current.Store(fresh)
	return got, nil
}

// credentialsError reports that there are no credentials. The wrapped error is
// not a response of the store and must not be taken for one, so errors.As does
// not find it.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string        { return e.err.Error() }
func (e *credentialsError) Is(target error) bool { return errors.Is(e.err, target) }

// statusCoder is the error of a response with a bare status, as a container's
// agent may send it.
type statusCoder interface {
	error
	HTTPStatusCode() int
}

// isBusy reports whether the service that issues the credentials throttles or
// is unavailable.
func (e *credentialsError) isBusy() bool {
	if s, ok := errors.AsType[statusCoder](e.err); ok && isBusyStatus(s.HTTPStatusCode()) {
		return true
	}
	return isBusy(e.err) || code(e.err) == "IDPCommunicationError" || errors.Is(e.err, context.DeadlineExceeded)
}
