package s3

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	// A process whose credentials expire asks for new ones this long before, or
	// when it has had them for half of their time, and so has at least the
	// difference to credentialMargin for signed URLs, if it is given other ones
	// that early. STS does, an EC2 instance not.
	credentialWindow = 30 * time.Minute

	// credentialPause is how often it asks in that time.
	credentialPause = time.Minute

	// credentialPatience is how long whoever asks waits for an answer, then and
	// when they have expired.
	credentialPatience = 15 * time.Second
)

// refreshing asks for new credentials before those that it has expire, and goes
// on with those while it gets none. The SDK's cache can ask early too, but then
// calls the credentials expired that much earlier: URLs would be signed for
// seconds, and in the end for no time at all, and requests would fail with
// credentials that are good.
type refreshing struct {
	cache *aws.CredentialsCache // has no window of its own
	kept  atomic.Pointer[lent]

	turn sync.Mutex // of whoever asks early
	next time.Time  // when to ask again
}

// lent is credentials, and from when on other ones are asked for.
type lent struct {
	aws.Credentials
	renew time.Time
}

// Retrieve gives credentials with the time at which they really expire.
func (r *refreshing) Retrieve(ctx context.Context) (aws.Credentials, error) {
	kept := r.kept.Load()
	switch {
	case kept == nil:
		return r.ask(ctx, openTimeout)
	case kept.Expired():
		return r.ask(ctx, credentialPatience)
	}
	if !kept.CanExpire || time.Now().Before(kept.renew) || !r.turn.TryLock() {
		return kept.Credentials, nil
	}
	defer r.turn.Unlock()
	if time.Now().Before(r.next) {
		return r.kept.Load().Credentials, nil
	}
	r.next = time.Now().Add(credentialPause)
	r.cache.Invalidate()
	if fresh, err := r.ask(ctx, credentialPatience); err == nil {
		return fresh, nil
	}
	return kept.Credentials, nil
}

func (r *refreshing) ask(ctx context.Context, patience time.Duration) (aws.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := r.cache.Retrieve(ctx)
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

// credentialsError says that there are no credentials. What is in it is no
// answer of the store's, and must not be taken for one: errors.As does not find
// it.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string        { return e.err.Error() }
func (e *credentialsError) Is(target error) bool { return errors.Is(e.err, target) }

// isBusy says that whoever gives them throttles or is unavailable.
func (e *credentialsError) isBusy() bool {
	// A container's agent need not say more than its status.
	type answer interface {
		error
		HTTPStatusCode() int
	}
	if a, ok := errors.AsType[answer](e.err); ok && isBusyStatus(a.HTTPStatusCode()) {
		return true
	}
	return isBusy(e.err) || code(e.err) == "IDPCommunicationError" || errors.Is(e.err, context.DeadlineExceeded)
}
