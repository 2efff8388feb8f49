package auth

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"

	"github.com/berthhq/berth/cmd/berth/policy"
)

func TestParseHTPasswd(t *testing.T) {
	good := hashOf(t, "x")
	costly := strings.Replace(good, "$2a$04$", "$2y$15$", 1)
	u, err := parseHTPasswd([]byte("# users\r\n\r\nalice:" + good + "\r\nbob:" + strings.Replace(good, "$2a$", "$2y$", 1) + ":comment\n"))
	if err != nil || len(u.names) != 2 {
		t.Fatalf("parseHTPasswd = %v, %v, want alice and bob", u, err)
	}
	if _, known := u.hash("bob"); !known {
		t.Error("bob is unknown")
	}
	_, err = parseHTPasswd([]byte(strings.Join([]string{
		"alice:" + good, "secret", "bob:$apr1$deca2xmr$yOAtAqYLzbTBVtUMNBDEW0", "carol:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
		"dave:" + costly, "alice:" + good, ":" + good, "eve:plain", "\x01:" + good, "frank:" + good + "x",
	}, "\n")))
	want := `line 2: want user:hash
line 3: the password of "bob" is not a bcrypt hash: set it with htpasswd -B
line 4: the password of "carol" is not a bcrypt hash: set it with htpasswd -B
line 5: the password of "dave" has a cost of 15: want at most 14, or logins would take too long
line 6: the user "alice" stands in the file twice
line 7: the name of the user is empty or has control characters
line 8: the password of "eve" is not a bcrypt hash: set it with htpasswd -B
line 9: the name of the user is empty or has control characters
line 10: the password of "frank" is not a bcrypt hash: set it with htpasswd -B`
	if err == nil || cmp.Diff(want, err.Error()) != "" {
		t.Errorf("parseHTPasswd (-want +got):\n%s", cmp.Diff(want, fmt.Sprint(err)))
	}
	file := htpasswd(t)
	if err := os.WriteFile(file, []byte("\nbob:plain\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = New(t.Context(), Config{Kind: HTPasswd, HTPasswd: HTPasswdConfig{file}}, Environment{SigningKey: []byte(testSeed)})
	if err == nil || !strings.Contains(err.Error(), "auth.Config.HTPasswd.File: "+file+": line 2: ") {
		t.Errorf("New = %v, want an error with the field, the file and the line", err)
	}
}

// An unknown user costs the hash of one of the users, always the same.
func TestUnknownUser(t *testing.T) {
	u, err := parseHTPasswd([]byte("a:" + hashOf(t, "a") + "\nb:" + hashOf(t, "b") + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	used := make(map[string]int)
	for i := range 100 {
		first, known := u.hash(fmt.Sprint("user", i))
		if again, _ := u.hash(fmt.Sprint("user", i)); known || string(first) != string(again) {
			t.Fatalf("hash of an unknown user = %s and %s, %t, want the same", first, again, known)
		}
		used[string(first)]++
	}
	if len(used) != 2 {
		t.Errorf("unknown users cost %d different hashes, want those of both users", len(used))
	}
	none, err := parseHTPasswd(nil)
	if err != nil {
		t.Fatal(err)
	}
	hash, known := none.hash("a")
	if cost, err := bcrypt.Cost(hash); known || err != nil || cost != bcrypt.DefaultCost {
		t.Errorf("without users, an unknown user costs %d, %v, want a hash of the default cost", cost, err)
	}
	g := newRig(t, Config{Kind: HTPasswd, HTPasswd: HTPasswdConfig{htpasswd(t, "a")}})
	for range 3 {
		g.want(http.StatusUnauthorized, "GET", "/v2/", password("b", "a-pw")) // the password of the hash that it costs
		g.want(http.StatusUnauthorized, "GET", "/v2/", password("", "a-pw"))
	}
}

func TestHTPasswd(t *testing.T) {
	g := newRig(t, Config{Kind: HTPasswd, HTPasswd: HTPasswdConfig{htpasswd(t, "alice", "bob")}})
	g.push("team/app")
	g.want(http.StatusOK, "GET", "/v2/", password("alice", "alice-pw"))
	g.want(http.StatusOK, "GET", "/v2/team/app/manifests/v1", password("alice", "alice-pw"))
	g.want(http.StatusAccepted, "DELETE", "/v2/team/app/manifests/v1", password("bob", "bob-pw"))
	g.want(http.StatusOK, "GET", "/v2/_catalog", password("bob", "bob-pw"))
	if diff := cmp.Diff([]string{"alice", "alice", "bob", "bob"}, g.users); diff != "" {
		t.Errorf("users for the log (-want +got):\n%s", diff)
	}
	const challenge = `Bearer realm="http://registry.example/auth/token",service="berth"`
	for _, c := range []struct {
		credentials   credentials
		method, path  string
		challenge     string
		codeInMessage string
	}{
		{nobody, "GET", "/v2/", challenge, "authentication required"},
		{nobody, "HEAD", "/v2/team/app/manifests/v1", challenge + `,scope="repository:team/app:pull"`, ""},
		{nobody, "PUT", "/v2/team/app/manifests/v1", challenge + `,scope="repository:team/app:pull,push"`, "authentication required"},
		{nobody, "DELETE", "/v2/team/app/manifests/v1", challenge + `,scope="repository:team/app:delete"`, "authentication required"},
		{nobody, "POST", "/v2/team/app/blobs/uploads/?mount=" + helloDigest + "&from=a", challenge + `,scope="repository:team/app:pull,push repository:a:pull"`, ""},
		{nobody, "GET", "/v2/_catalog", challenge + `,scope="registry:catalog:*"`, ""},
		{password("alice", "bob-pw"), "GET", "/v2/", challenge, "the user name or password is wrong"},
		{password("alice", ""), "GET", "/v2/", challenge, "the user name or password is wrong"},
		{token("x"), "GET", "/v2/", challenge + `,error="invalid_token"`, "the token is not valid"},
		{func(r *http.Request) { r.Header.Set("Authorization", "Basic !") }, "GET", "/v2/", challenge, "wrong"},
		{func(r *http.Request) { r.Header.Set("Authorization", "Digest x") }, "GET", "/v2/", challenge + `,error="invalid_token"`, ""},
		{func(r *http.Request) {
			r.Header["Authorization"] = []string{"Basic YWxpY2U6YWxpY2UtcHc=", "Basic YWxpY2U6YWxpY2UtcHc="}
		}, "GET", "/v2/", challenge + `,error="invalid_token"`, ""},
	} {
		w := g.want(http.StatusUnauthorized, c.method, c.path, c.credentials)
		if got := w.Header()["Www-Authenticate"]; len(got) != 1 || got[0] != c.challenge || !strings.Contains(w.Body.String(), c.codeInMessage) || !strings.Contains(w.Body.String(), `"UNAUTHORIZED"`) {
			t.Errorf("%s %s: WWW-Authenticate: %q %s, want %q %s", c.method, c.path, got, w.Body, c.challenge, c.codeInMessage)
		}
	}
	if log := g.log.String(); log != "" {
		t.Errorf("the log has %s, want nothing", log)
	}
}

// The file is read again when it changes. A password that was changed is wrong at once.
func TestHTPasswdChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := htpasswd(t, "alice")
		g := newRig(t, Config{Kind: HTPasswd, HTPasswd: HTPasswdConfig{file}})
		g.want(http.StatusOK, "GET", "/v2/", password("alice", "alice-pw"))
		wait := func() { time.Sleep(2*pollInterval + time.Millisecond) }

		writeUsers(t, file, "bob")
		g.want(http.StatusOK, "GET", "/v2/", password("alice", "alice-pw"))
		wait()
		g.want(http.StatusUnauthorized, "GET", "/v2/", password("alice", "alice-pw"))
		g.want(http.StatusOK, "GET", "/v2/", password("bob", "bob-pw"))

		if err := os.WriteFile(file, []byte("bob:"+hashOf(t, "new")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		wait()
		g.want(http.StatusUnauthorized, "GET", "/v2/", password("bob", "bob-pw"))
		g.want(http.StatusOK, "GET", "/v2/", password("bob", "new"))

		// What is not valid changes nothing, and neither does a missing file.
		if err := os.WriteFile(file, []byte("bob:secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		wait()
		g.want(http.StatusOK, "GET", "/v2/", password("bob", "new"))
		if log := g.log.String(); !strings.Contains(log, "line 1: ") || strings.Contains(log, "secret") {
			t.Errorf("the log has %s, want the line that is not valid, without its content", log)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		wait()
		g.want(http.StatusOK, "GET", "/v2/", password("bob", "new"))
		writeUsers(t, file, "carol")
		wait()
		g.want(http.StatusOK, "GET", "/v2/", password("carol", "carol-pw"))
		if n := strings.Count(g.log.String(), "\n"); n != 5 {
			t.Errorf("the log has %d lines, want one for each change:\n%s", n, g.log.String())
		}
	})
}

// A client that fails too often must wait, even with the right password, which is also
// refused if it is remembered. Other clients, and other users at the client who logged in
// before, are not affected.
func TestFailuresAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, Config{Kind: HTPasswd, HTPasswd: HTPasswdConfig{htpasswd(t, "alice", "bob")}})
		alice, bob := password("alice", "alice-pw"), password("bob", "bob-pw")
		for range 50 { // success counts for nothing
			g.want(http.StatusOK, "GET", "/v2/", alice)
			g.want(http.StatusOK, "GET", "/v2/", bob)
		}
		for i := range failureBurst {
			g.want(http.StatusUnauthorized, "GET", "/v2/", password("alice", fmt.Sprint(i)))
		}
		for _, c := range []credentials{alice, password("alice", "x"), password("carol", "x"), password("bob", "x")} {
			w := g.want(http.StatusTooManyRequests, "GET", "/v2/", c)
			if w.Header().Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		}
		g.want(http.StatusOK, "GET", "/v2/", bob)
		if w := g.send("GET", TokenPath, "", alice); w.Code != http.StatusTooManyRequests {
			t.Errorf("GET %s = %d, want 429", TokenPath, w.Code)
		}
		if w := g.sendFrom("192.0.2.2", "GET", "/v2/", "", alice); w.Code != http.StatusOK {
			t.Errorf("another client gets %d, want 200", w.Code)
		}
		time.Sleep(failureInterval)
		g.want(http.StatusOK, "GET", "/v2/", alice)
		g.want(http.StatusUnauthorized, "GET", "/v2/", password("alice", "x"))
		g.want(http.StatusTooManyRequests, "GET", "/v2/", alice)

		// A subscriber of IPv6 is one client, whose addresses are many.
		for i := range failureBurst {
			g.sendFrom(fmt.Sprintf("2001:db8:1:2::%d", i), "GET", "/v2/", "", password("alice", "x"+fmt.Sprint(i)))
		}
		if w := g.sendFrom("2001:db8:1:2:3::", "GET", "/v2/", "", alice); w.Code != http.StatusTooManyRequests {
			t.Errorf("another address of the network gets %d, want 429", w.Code)
		}
		if w := g.sendFrom("2001:db8:1:3::1", "GET", "/v2/", "", alice); w.Code != http.StatusOK {
			t.Errorf("another network gets %d, want 200", w.Code)
		}
	})
}

// Requests with the same credentials at the same time cost one comparison, so that many
// clients of one user are not limited.
func TestLoginsAreShared(t *testing.T) {
	g := newRig(t, Config{Kind: HTPasswd, HTPasswd: HTPasswdConfig{htpasswd(t, "alice")}})
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() { g.want(http.StatusOK, "GET", "/v2/", password("alice", "alice-pw")) })
	}
	wg.Wait()
}

func TestLimiterIsBounded(t *testing.T) {
	l, err := newLimiter()
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(2 * maxLimited) {
		l.take(limitKey{user: i + 1})
	}
	if n := l.counts.Len(); n != maxLimited {
		t.Errorf("the limiter remembers %d clients, want %d", n, maxLimited)
	}
}

// Rules decide about anonymous callers, users and repositories.
func TestPolicy(t *testing.T) {
	g := newRig(t, Config{Kind: HTPasswd, HTPasswd: HTPasswdConfig{htpasswd(t, "alice", "bob", "eve")}, Policy: policy.Config{Rules: []policy.Rule{
		{Anonymous: true, Repositories: []string{"public/**"}, Actions: []string{"pull"}},
		{Users: []string{"alice"}, Actions: []string{"admin"}},
		{Users: []string{"bob"}, Repositories: []string{"team/*"}, Actions: []string{"pull", "push"}},
		{Users: []string{"bob"}, Actions: []string{"catalog"}},
	}}})
	for _, name := range []string{"public/app", "team/app", "secret/app"} {
		g.push(name)
		g.pushBlob(name)
	}
	alice, bob, eve := password("alice", "alice-pw"), password("bob", "bob-pw"), password("eve", "eve-pw")
	for _, c := range []struct {
		credentials credentials
		method      string
		path        string
		want        int
	}{
		{nobody, "GET", "public/app/manifests/v1", 200},
		{nobody, "GET", "public/none/manifests/v1", 404},
		{nobody, "GET", "team/app/manifests/v1", 401},
		{nobody, "GET", "team/none/manifests/v1", 401},
		{nobody, "DELETE", "public/app/manifests/v1", 401},
		{nobody, "GET", "_catalog", 401},
		{nobody, "GET", "", 401},
		{eve, "GET", "", 200},
		{eve, "GET", "public/app/manifests/v1", 200},
		{eve, "GET", "team/app/manifests/v1", 403},
		{eve, "GET", "team/none/manifests/v1", 403},
		{eve, "GET", "_catalog", 403},
		{bob, "GET", "team/app/blobs/" + helloDigest, 200},
		{bob, "GET", "secret/app/tags/list", 403},
		{bob, "GET", "_catalog", 200},
		{bob, "DELETE", "team/app/manifests/v1", 403},
		{bob, "POST", "team/app/blobs/uploads/?mount=" + helloDigest + "&from=public/app", 201},
		{bob, "POST", "team/new/blobs/uploads/?mount=" + helloDigest + "&from=secret/app", 202},
		{bob, "POST", "team/new/blobs/uploads/?mount=" + helloDigest + "&from=secret/none", 202},
		{alice, "POST", "team/new/blobs/uploads/?mount=" + helloDigest + "&from=secret/app", 201},
		{alice, "DELETE", "secret/app/manifests/v1", 202},
	} {
		g.want(c.want, c.method, "/v2/"+c.path, c.credentials)
	}
	if w := g.send("GET", "/v2/_catalog", "", bob); w.Body.String() != "{\"repositories\":[\"public/app\",\"team/app\"]}" {
		t.Errorf("the catalog of bob is %s", w.Body)
	}
}
