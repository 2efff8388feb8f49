package auth

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/singleflight"

	"github.com/berthhq/berth/blobstore/access"
	"github.com/berthhq/berth/cmd/berth/policy"
	"github.com/berthhq/berth/redirect/match"
)

const (
	// maxPasswords is the number of verified passwords that are remembered, each for
	// passwordLife after it was last verified.
	maxPasswords = 4096
	passwordLife = 10 * time.Minute

	// maxWaitingLogins is the number of logins that may wait for a processor, each for
	// loginPatience.
	maxWaitingLogins = 256
	loginPatience    = 10 * time.Second

	maxCredential = 1 << 10 // bytes of a user name or password
)

// logins verifies the passwords of an htpasswd file. It uses a share of the processors,
// so that any number of logins leaves the others to requests that need no login.
type logins struct {
	users    *watched[users]
	verified *cache[struct{}]
	failures *limiter
	flights  singleflight.Group // of logins with the same credentials

	waiting, running chan struct{}
}

func newLogins(ctx context.Context, file string, log *slog.Logger) (*logins, error) {
	l := &logins{
		waiting: make(chan struct{}, maxWaitingLogins),
		running: make(chan struct{}, (runtime.GOMAXPROCS(0)+3)/4),
	}
	var err error
	if l.users, err = watch(ctx, "auth.Config.HTPasswd.File", file, log, parseHTPasswd); err != nil {
		return nil, err
	}
	if l.verified, err = newCache[struct{}](maxPasswords); err != nil {
		return nil, err
	}
	l.failures, err = newLimiter()
	return l, err
}

// check returns the identity of a user. It returns errInvalid if the user is unknown or
// the password wrong, and access.ErrTooMany if the client has failed too often or there
// are too many logins.
//
// A password that was verified is remembered together with its hash, so that a change of
// the file takes effect at once. A client that has failed too often for a user is refused
// before that, or it could try passwords at the speed of the memory.
func (l *logins) check(ctx context.Context, client netip.Addr, user, password string) (*identity, error) {
	if len(user) > maxCredential || len(password) > maxCredential {
		return nil, errInvalid
	}
	hash, known := l.users.get().hash(user)
	name := l.verified.key(user)
	atClient := limitKey{client: networkOf(client)}
	ofUser := limitKey{client: networkOf(client), user: binary.BigEndian.Uint64(name[:]) | 1}
	if !l.failures.isLeft(ofUser) {
		return nil, access.ErrTooMany
	}
	key := l.verified.key(user, password, string(hash))
	if _, ok := l.verified.get(key); !ok || !known {
		flight := string(key[:]) + networkOf(client).String()
		done := l.flights.DoChan(flight, func() (any, error) {
			return nil, l.verify(hash, password, known, key, atClient, ofUser)
		})
		select {
		case res := <-done:
			if res.Err != nil {
				return nil, res.Err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &identity{caller: policy.Caller{User: user}}, nil
}

// verify compares a password with a hash, and remembers it if it is right.
func (l *logins) verify(hash []byte, password string, known bool, key cacheKey, limits ...limitKey) error {
	if !l.failures.take(limits...) {
		return access.ErrTooMany
	}
	if !l.acquire() {
		l.failures.giveBack(limits...)
		return access.ErrTooMany
	}
	defer func() { <-l.running }()
	if _, ok := l.verified.get(key); ok && known { // of another client, while this one waited
		l.failures.giveBack(limits...)
		return nil
	}
	err := bcrypt.CompareHashAndPassword(hash, []byte(password))
	if err != nil || !known {
		return errInvalid
	}
	l.failures.giveBack(limits...)
	l.verified.add(key, struct{}{}, time.Now().Add(passwordLife))
	return nil
}

// acquire waits until a password may be compared. It returns false if too many logins
// wait, or if this one has waited for too long.
func (l *logins) acquire() bool {
	select {
	case l.waiting <- struct{}{}:
		defer func() { <-l.waiting }()
	default:
		return false
	}
	patience := time.NewTimer(loginPatience)
	defer patience.Stop()
	select {
	case l.running <- struct{}{}:
		return true
	case <-patience.C:
		return false
	}
}

// client returns the address that failed logins of a request count for.
func (a *Auth) client(r *http.Request) netip.Addr {
	if addr := a.env.ClientAddr(r); addr.IsValid() {
		return addr
	}
	return match.Proxies{}.Client(r)
}
