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
	// credentialWindow is how long before their expiry a process requests new
	// credentials; at the latest it does so at half of their lifetime. If the
	// service returns other credentials that early, signed URLs have at least
	// the difference to credentialMargin. STS does, an EC2 instance does not.
	credentialWindow = 30 * time.Minute

	// credentialPause is the time between such requests.
	credentialPause = time.Minute

	// credentialPatience is how long a request waits for new credentials, both
	// in this window and after the old ones have expired.
	credentialPatience = 15 * time.Second

	// refusalPause is the time between requests for credentials to replace
	// those that the store refuses.
	refusalPause = 10 * time.Second
)

// refreshing is a credentials provider that requests new credentials before the
// current ones expire, and keeps the current ones until it gets new ones. The
// SDK's cache can also ask early, but then it treats the credentials as expired
// that much earlier: URLs would be signed for seconds, and finally for no time
// at all, and requests would fail although their credentials are good.
//
// It also requests new credentials when the store has refused the current ones,
// and when the shared files have changed, which the SDK reads only once.
type refreshing struct {
	// resolve has the SDK read the environment and the shared files again. It
	// is nil if there is nothing to read.
	resolve func(context.Context) (*aws.CredentialsCache, error)
	files   sharedFiles
	log     *slog.Logger

	kept atomic.Pointer[lent]

	mu    sync.Mutex
	cache *aws.CredentialsCache // has no window of its own

	turn    sync.Mutex // of the request that asks early
	next    time.Time  // when to ask early again
	refused time.Time  // when to ask again after a refusal
}

// lent is credentials with the time from which new ones are requested.
type lent struct {
	aws.Credentials
	renew time.Time
}

// Retrieve returns credentials with their real expiry.
func (r *refreshing) Retrieve(ctx context.Context) (aws.Credentials, error) {
	kept, changed := r.kept.Load(), r.files.changed()
	if kept == nil {
		return r.ask(ctx, openTimeout)
	}
	due := changed || kept.CanExpire && !time.Now().Before(kept.renew)
	if due && r.turn.TryLock() {
		defer r.turn.Unlock()
		if !time.Now().Before(r.next) && (changed || !kept.Expired()) {
			r.next = time.Now().Add(credentialPause)
			if fresh, err := r.again(ctx, changed); err == nil {
				return fresh, nil
			}
		}
	}
	if kept = r.kept.Load(); kept.Expired() {
		return r.ask(ctx, credentialPatience)
	}
	return kept.Credentials, nil
}

// replaced reports whether the current credentials differ from the given ones,
// which the store has refused. It requests new ones at most once in
// refusalPause.
func (r *refreshing) replaced(id, token string) bool {
	differ := func() bool {
		kept := r.kept.Load()
		return kept != nil && (kept.AccessKeyID != id || kept.SessionToken != token)
	}
	if r.resolve == nil || id == "" {
		return false
	}
	r.turn.Lock()
	defer r.turn.Unlock()
	if differ() || time.Now().Before(r.refused) {
		return differ()
	}
	before := r.kept.Load()
	fresh, err := r.again(context.Background(), true)
	r.refused = time.Now().Add(refusalPause) // also for requests that have waited here
	return err == nil && before != nil && !fresh.Expired() &&
		(differ() || fresh.SecretAccessKey != before.SecretAccessKey)
}

// again requests credentials although the current ones have not expired. With
// reread it also reads the files and the environment again.
func (r *refreshing) again(ctx context.Context, reread bool) (aws.Credentials, error) {
	if !reread || r.resolve == nil {
		r.source().Invalidate()
		return r.ask(ctx, credentialPatience)
	}
	read := r.files.stamp() // of what is read now, or of something older
	ctx, cancel := context.WithTimeout(ctx, credentialPatience)
	defer cancel()
	cache, err := r.resolve(ctx)
	if err != nil {
		return aws.Credentials{}, &credentialsError{err}
	}
	before, old := r.kept.Load(), r.swap(cache)
	fresh, err := r.ask(ctx, credentialPatience)
	if err != nil {
		r.swap(old)
		return fresh, err
	}
	r.files.use(read)
	if r.log != nil && before != nil && (before.AccessKeyID != fresh.AccessKeyID || before.SecretAccessKey != fresh.SecretAccessKey) {
		r.log.InfoContext(ctx, "the store's credentials have changed", slog.String("access_key_id", fresh.AccessKeyID))
	}
	return fresh, nil
}

func (r *refreshing) source() *aws.CredentialsCache {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cache
}

func (r *refreshing) swap(cache *aws.CredentialsCache) (old *aws.CredentialsCache) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, r.cache = r.cache, cache
	return old
}

func (r *refreshing) ask(ctx context.Context, patience time.Duration) (aws.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := r.source().Retrieve(ctx)
	if err != nil {
		return c, &credentialsError{err}
	}
	fresh := &lent{c, c.Expires.Add(-min(credentialWindow, time.Until(c.Expires)/2))}
	if kept := r.kept.Load(); kept != nil && kept.AccessKeyID == c.AccessKeyID && kept.Expires.Equal(c.Expires) {
		fresh.renew = kept.renew // they are the same once more
	}
	r.kept.Store(fresh)
	return c, nil
}

// credentialsError reports that there are no credentials. The wrapped error is
// not an answer of the store and must not be taken for one, so errors.As does
// not find it.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string        { return e.err.Error() }
func (e *credentialsError) Is(target error) bool { return errors.Is(e.err, target) }

// isBusy reports whether the service that issues them throttles or is
// unavailable.
func (e *credentialsError) isBusy() bool {
	// A container's agent may answer with a bare status.
	type answer interface {
		error
		HTTPStatusCode() int
	}
	if a, ok := errors.AsType[answer](e.err); ok && isBusyStatus(a.HTTPStatusCode()) {
		return true
	}
	return isBusy(e.err) || code(e.err) == "IDPCommunicationError" || errors.Is(e.err, context.DeadlineExceeded)
}
