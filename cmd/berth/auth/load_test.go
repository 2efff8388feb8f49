package auth

import (
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Thousands of attempts to log in, from as many clients, leave requests with a token
// alone. They compare few passwords at once, and do not wait for a place in the queue.
func TestLoginsDoNotStarvePulls(t *testing.T) {
	g := newRig(t, Config{Kind: HTPasswd, HTPasswd: HTPasswdConfig{writeFile(t, []byte("alice:"+costly+"\n"))}})
	g.auth.logins.waiting = make(chan struct{}, 8) // a full queue of the usual size takes seconds
	g.push("a")
	c := g.login(password("alice", "alice-pw"), "repository:a:pull")
	var stop atomic.Bool
	var attempts, limited atomic.Int64
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			for n := 0; !stop.Load(); n++ {
				w := g.sendFrom(fmt.Sprintf("10.%d.%d.%d", i, n/250%250, n%250), "GET", "/v2/", "", password("alice", fmt.Sprint(i, n)))
				attempts.Add(1)
				switch w.Code {
				case http.StatusTooManyRequests:
					limited.Add(1)
				case http.StatusUnauthorized:
				default:
					t.Errorf("a wrong password = %d %s, want 401 or 429", w.Code, w.Body)
				}
			}
		})
	}
	deadline := time.Now().Add(time.Minute)
	for limited.Load() == 0 && time.Now().Before(deadline) { // until the queue is full
		time.Sleep(time.Millisecond)
	}
	for range 100 {
		g.want(http.StatusOK, "GET", "/v2/a/manifests/v1", c)
	}
	running := len(g.auth.logins.running)
	stop.Store(true)
	wg.Wait()
	t.Logf("%d attempts, %d refused without a comparison", attempts.Load(), limited.Load())
	if limited.Load() == 0 || running > cap(g.auth.logins.running) {
		t.Errorf("%d attempts were limited while %d passwords were compared, want most to be limited", limited.Load(), running)
	}
}

// costly is the hash of alice-pw that htpasswd -B -C 8 makes.
const costly = "$2a$08$n/VV8AaCtnw0F8yWx.YcOebJu26Q.3QVZO9yJzIbOewoF/IYma31C"

// TestLongLogins sends attempts to log in as fast as it can for some seconds, from one
// client and from many, and measures requests with a token meanwhile.
func TestLongLogins(t *testing.T) {
	if os.Getenv("BERTH_TEST_LONG") == "" {
		t.Skip("NOT TESTED: pulls during 10,000 attempts to log in each second; make test-long runs it (BERTH_TEST_LONG=1)")
	}
	g := newRig(t, Config{Kind: HTPasswd, HTPasswd: HTPasswdConfig{writeFile(t, []byte("alice:"+costly+"\n"))}})
	g.push("a")
	c := g.login(password("alice", "alice-pw"), "repository:a:pull")
	pulls := func(d time.Duration) (n int) {
		for end := time.Now().Add(d); time.Now().Before(end); n++ {
			g.want(http.StatusOK, "GET", "/v2/a/manifests/v1", c)
		}
		return n
	}
	quiet := pulls(2 * time.Second)
	var stop atomic.Bool
	var attempts atomic.Int64
	var wg sync.WaitGroup
	const perSecond, workers = 10_000, 50
	for i := range workers {
		wg.Go(func() {
			tick := time.NewTicker(time.Second * workers / perSecond)
			defer tick.Stop()
			for n := 0; !stop.Load(); n++ {
				<-tick.C
				g.sendFrom(fmt.Sprintf("10.%d.%d.%d", i, n/250%250, n%250), "GET", "/v2/", "", password("alice", fmt.Sprint(i, n)))
				attempts.Add(1)
			}
		})
	}
	busy := pulls(5 * time.Second)
	stop.Store(true)
	wg.Wait()
	t.Logf("pulls per second: %d, and %d during %d attempts per second to log in", quiet/2, busy/5, attempts.Load()/5)
	if busy/5 < quiet/2/10 {
		t.Errorf("%d pulls per second during the attempts, %d before, want at least a tenth", busy/5, quiet/2)
	}
}
