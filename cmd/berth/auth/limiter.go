package auth

import (
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// A client may fail to log in this often at once, and once more in each interval.
	failureBurst    = 10
	failureInterval = 6 * time.Second

	// maxLimited is the number of clients, and of users at clients, that the limiter
	// remembers.
	maxLimited = 32 << 10
)

// limiter limits how often clients fail to log in. An attempt takes a failure in
// advance, and returns it on success, so that concurrent attempts count too.
type limiter struct {
	mu     sync.Mutex
	counts *lru.Cache[limitKey, *failures]
}

// limitKey is a client, or one user at a client.
type limitKey struct {
	client netip.Prefix
	user   uint64 // 0 for the client itself
}

// failures is how many failures are left, at a point in time.
type failures struct {
	left float64
	at   time.Time
}

func newLimiter() (*limiter, error) {
	counts, err := lru.New[limitKey, *failures](maxLimited)
	return &limiter{counts: counts}, err
}

// networkOf returns what counts as one client: an IPv4 address, or a network of IPv6
// that one subscriber has.
func networkOf(addr netip.Addr) netip.Prefix {
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // of the zero Addr it is the zero Prefix
	return p
}

// take takes a failure from each of the keys. It takes none and returns false if one of
// them has none left.
func (l *limiter) take(keys ...limitKey) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, k := range keys {
		if l.refill(k, now).left < 1 {
			return false
		}
	}
	for _, k := range keys {
		l.refill(k, now).left--
	}
	return true
}

// isLeft reports whether the key has a failure left.
func (l *limiter) isLeft(k limitKey) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, ok := l.counts.Get(k)
	return !ok || f.after(time.Now()) >= 1
}

// giveBack returns a failure to each of the keys.
func (l *limiter) giveBack(keys ...limitKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, k := range keys {
		f := l.refill(k, now)
		f.left = min(f.left+1, failureBurst)
	}
}

func (l *limiter) refill(k limitKey, now time.Time) *failures {
	f, ok := l.counts.Get(k)
	if !ok {
		f = &failures{left: failureBurst, at: now}
		l.counts.Add(k, f)
	}
	f.left, f.at = f.after(now), now
	return f
}

// after returns how many failures are left at a later point in time.
func (f *failures) after(now time.Time) float64 {
	return min(failureBurst, f.left+now.Sub(f.at).Seconds()/failureInterval.Seconds())
}
