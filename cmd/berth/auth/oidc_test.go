package auth

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/cmd/berth/policy"
)

// workloadClaims returns the claims of a token for a workload, as GitHub Actions has them.
func workloadClaims(issuer string) object {
	now := time.Now()
	return object{
		"iss": issuer, "aud": "registry", "sub": "repo:org/app:ref:refs/heads/main", "exp": now.Add(10 * time.Minute).Unix(), "iat": now.Unix(),
		"repository": "org/app", "repository_owner": "org", "ref": "refs/heads/main", "run_attempt": 1, "private": true,
		"roles": []string{"builder", "tester"}, "kubernetes.io": object{"namespace": "ci", "pod": object{"name": "x"}},
	}
}

func oidcConfig(p *provider) Config {
	return Config{Kind: OIDC, OIDC: []Provider{{
		Issuer: p.URL, Audience: "registry", User: "github:{repository}", Groups: []string{"workloads", "role:{roles}", "none:{missing}"},
		Claims: []string{"repository_owner=org"},
	}}, Policy: policy.Config{Rules: []policy.Rule{
		{Groups: []string{"role:builder"}, Claims: []string{"ref=refs/heads/main", "kubernetes.io.namespace=ci"}, Repositories: []string{"org/**"}, Actions: []string{"pull", "push"}},
		{Users: []string{"github:org/app"}, Repositories: []string{"shared"}, Actions: []string{"pull"}},
		{Groups: []string{"workloads"}, Actions: []string{"catalog"}},
		{Claims: []string{"run_attempt=1", "private=true"}, Repositories: []string{"first"}, Actions: []string{"pull"}},
	}}}
}

// A workload's token is good as a bearer token, as a password of any user, and for a
// token of this service, which carries the claims that rules ask for.
func TestOIDC(t *testing.T) {
	k := newKey(t, "k", jose.RS256)
	p := newProvider(t, k)
	g := newRig(t, oidcConfig(p))
	for _, name := range []string{"org/app", "shared", "first", "other"} {
		g.push(name)
	}
	raw := k.sign(t, workloadClaims(p.URL))
	scopes := []string{"repository:org/app:pull,push,delete", "repository:shared:*", "repository:other:pull", "registry:catalog:*", "repository:first:pull"}
	for name, c := range map[string]credentials{
		"bearer": token(raw), "password": password("anything", raw), "token": g.login(password("", raw), scopes...),
	} {
		for _, r := range []struct {
			method, path string
			want         int
		}{
			{"GET", "", 200},
			{"GET", "org/app/manifests/v1", 200},
			{"POST", "org/app/blobs/uploads/", 202},
			{"DELETE", "org/app/manifests/v1", 403},
			{"GET", "shared/manifests/v1", 200},
			{"GET", "first/manifests/v1", 200},
			{"GET", "other/manifests/v1", 403},
		} {
			if w := g.send(r.method, "/v2/"+r.path, "", c); w.Code != r.want {
				t.Errorf("%s: %s %s = %d %s, want %d", name, r.method, r.path, w.Code, w.Body, r.want)
			}
		}
		if w := g.send("GET", "/v2/_catalog", "", c); w.Body.String() != `{"repositories":["first","org/app","shared"]}` {
			t.Errorf("%s: the catalog is %s", name, w.Body)
		}
	}
	for _, user := range g.users {
		if user != "github:org/app" {
			t.Errorf("user for the log: %q", user)
		}
	}
}

func TestOIDCDefects(t *testing.T) {
	k := newKey(t, "k", jose.RS256)
	p := newProvider(t, k)
	g := newRig(t, oidcConfig(p))
	good := workloadClaims(p.URL)
	g.want(200, "GET", "/v2/", token(k.sign(t, good)))
	for name, changes := range map[string]object{
		"other owner":    {"repository_owner": "org2"},
		"no owner":       {"repository_owner": nil},
		"no user":        {"repository": nil},
		"empty user":     {"repository": ""},
		"several users":  {"repository": []string{"a", "b"}},
		"other audience": {"aud": "berth"},
		"expired":        {"exp": time.Now().Add(-2 * time.Minute).Unix()},
		"other issuer":   {"iss": p.URL + "/"},
		"own issuer":     {"iss": "berth:berth", "aud": "berth"},
	} {
		raw := k.sign(t, with(good, changes))
		for _, c := range []credentials{token(raw), password("x", raw)} {
			if w := g.send("GET", "/v2/", "", c); w.Code != http.StatusUnauthorized {
				t.Errorf("%s = %d %s, want 401", name, w.Code, w.Body)
			}
		}
		if w := g.send("GET", TokenPath, "", password("x", raw)); w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") != `Basic realm="berth"` {
			t.Errorf("%s: GET %s = %d %v, want 401", name, TokenPath, w.Code, w.Header())
		}
	}
}

// Several kinds at once.
func TestKinds(t *testing.T) {
	k := newKey(t, "k", jose.ES256)
	p := newProvider(t, k)
	cfg := oidcConfig(p)
	server := tokenServer(t, jwks(t, k))
	cfg.Kind, cfg.Kinds, cfg.Token = "", []string{HTPasswd, Token, OIDC}, server.Token
	cfg.HTPasswd.File = htpasswd(t, "alice")
	cfg.Policy.Rules = append(cfg.Policy.Rules, policy.Rule{Users: []string{"alice"}, Repositories: []string{"a"}, Actions: []string{"pull"}})
	g := newRig(t, cfg)
	g.push("a")
	g.push("org/app")
	raw := k.sign(t, workloadClaims(p.URL))
	g.want(200, "GET", "/v2/a/manifests/v1", password("alice", "alice-pw"))
	g.want(200, "GET", "/v2/a/manifests/v1", token(k.sign(t, tokenClaims(grantOf("a", "pull")))))
	g.want(200, "GET", "/v2/a/manifests/v1", g.login(password("alice", "alice-pw"), "repository:a:pull"))
	g.want(200, "GET", "/v2/org/app/manifests/v1", token(raw))
	g.want(200, "GET", "/v2/org/app/manifests/v1", password("alice", raw))
	g.want(401, "GET", "/v2/a/manifests/v1", password("alice", "a.b.c"))
	g.want(401, "GET", "/v2/a/manifests/v1", password("alice", k.sign(t, tokenClaims(grantOf("a", "pull")))))
	w := g.want(401, "GET", "/v2/", nobody)
	if got := w.Header().Get("WWW-Authenticate"); !strings.HasPrefix(got, `Bearer realm="https://tokens.example/token"`) {
		t.Errorf("WWW-Authenticate: %s, want the token server", got)
	}
}

func TestGroups(t *testing.T) {
	p := Provider{User: "{a}-{b.c}", Groups: []string{"x", "y:{list}:z", "{none}"}}
	values := map[string][]string{"a": {"1"}, "b.c": {"{a}"}, "list": {"m", "n"}}
	if got := p.user(values); got != "1-{a}" {
		t.Errorf("user = %q, want 1-{a}", got)
	}
	if diff := cmp.Diff([]string{"x", "y:m:z", "y:n:z"}, p.groups(values)); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
}
