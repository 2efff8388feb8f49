package auth

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/cmd/berth/policy"
)

func ownConfig(t testing.TB) Config {
	return Config{Kind: HTPasswd, HTPasswd: HTPasswdConfig{htpasswd(t, "alice", "bob")}, Policy: policy.Config{Rules: []policy.Rule{
		{Anonymous: true, Repositories: []string{"public/**"}, Actions: []string{"pull"}},
		{Users: []string{"alice"}, Repositories: []string{"a/**"}, Actions: []string{"pull", "push", "catalog"}},
	}}}
}

// accessIn returns the claim access of a token.
func accessIn(t *testing.T, c credentials) (grants []grant) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
	c(r)
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(r.Header.Get("Authorization"), ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims ownClaims
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims.Access
}

// A token has what the client asked for, as far as the policy allows it.
func TestIssue(t *testing.T) {
	g := newRig(t, ownConfig(t))
	alice := password("alice", "alice-pw")
	for _, c := range []struct {
		who    credentials
		scopes string
		want   []grant
	}{
		{alice, "", []grant{}},
		{alice, "repository:a/b:pull", []grant{{Type: "repository", Name: "a/b", Actions: []string{"pull"}}}},
		{alice, "repository:a/b:push,pull,delete,x", []grant{{Type: "repository", Name: "a/b", Actions: []string{"pull", "push"}}}},
		{alice, "repository:a/b:*", []grant{{Type: "repository", Name: "a/b", Actions: []string{"pull", "push"}}}},
		{alice, "repository(plugin):a/b:pull", []grant{{Type: "repository", Name: "a/b", Actions: []string{"pull"}}}},
		{alice, "repository:a/b:pull+repository:public/x:pull,push", []grant{
			{Type: "repository", Name: "a/b", Actions: []string{"pull"}}, {Type: "repository", Name: "public/x", Actions: []string{"pull"}}}},
		{alice, "repository:b:pull&scope=registry:catalog:*", []grant{{Type: "registry", Name: "catalog", Actions: []string{"*"}}}},
		{alice, "x&scope=:&scope=repository:&scope=repository:a&scope=registry:a/b:*&scope=registry:catalog:pull", []grant{}},
		{nobody, "repository:public/x:pull,push+repository:a/b:pull+registry:catalog:*", []grant{{Type: "repository", Name: "public/x", Actions: []string{"pull"}}}},
		{password("bob", "bob-pw"), "repository:a/b:pull", []grant{}},
	} {
		if diff := cmp.Diff(c.want, accessIn(t, g.login(c.who, c.scopes))); diff != "" {
			t.Errorf("access for %s (-want +got):\n%s", c.scopes, diff)
		}
	}
	if w := g.send("GET", TokenPath+"?scope="+strings.Repeat("a+", maxScopes+1), "", alice); w.Code != http.StatusBadRequest {
		t.Errorf("too many scopes = %d, want 400", w.Code)
	}
}

// A token is good for its access and no other, in this and every other replica, until it
// expires.
func TestOwnTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := ownConfig(t)
		g, replica := newRig(t, cfg), newRig(t, cfg)
		for _, r := range []*rig{g, replica} {
			for _, name := range []string{"a/b", "a/bc", "public/x", "secret"} {
				r.push(name)
				r.pushBlob(name)
			}
		}
		c := g.login(password("alice", "alice-pw"), "repository:a/b:pull")
		anon := g.login(nobody, "repository:public/x:pull")
		for _, r := range []*rig{g, replica} {
			r.want(200, "GET", "/v2/", c)
			r.want(200, "GET", "/v2/a/b/manifests/v1", c)
			w := r.want(401, "GET", "/v2/a/bc/manifests/v1", c)
			if got := w.Header().Get("WWW-Authenticate"); !strings.HasSuffix(got, `,scope="repository:a/bc:pull",error="insufficient_scope"`) {
				t.Errorf("WWW-Authenticate: %s, want insufficient_scope", got)
			}
			r.want(401, "POST", "/v2/a/b/blobs/uploads/", c)
			r.want(401, "GET", "/v2/_catalog", c)
			r.want(403, "GET", "/v2/secret/manifests/v1", c)
			r.want(200, "GET", "/v2/", anon)
			r.want(200, "GET", "/v2/public/x/manifests/v1", anon)
			r.want(401, "GET", "/v2/a/b/manifests/v1", anon)
		}
		push := g.login(password("alice", "alice-pw"), "repository:a/n:pull,push")
		g.want(202, "POST", "/v2/a/n/blobs/uploads/?mount="+helloDigest, push)
		g.want(202, "POST", "/v2/a/n/blobs/uploads/?mount="+helloDigest+"&from=a/b", push)
		g.want(202, "POST", "/v2/a/n/blobs/uploads/?mount="+helloDigest+"&from=secret", push)
		both := g.login(password("alice", "alice-pw"), "repository:a/n:pull,push", "repository:a/b:pull")
		g.want(201, "POST", "/v2/a/n/blobs/uploads/?mount="+helloDigest+"&from=a/b", both)

		// As a password it is worth nothing, and it cannot be exchanged for another.
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		c(r)
		raw := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		g.want(401, "GET", "/v2/", password("alice", raw))
		if w := g.send("GET", TokenPath, "", c); w.Code != http.StatusUnauthorized {
			t.Errorf("a token for a token = %d, want 401", w.Code)
		}
		time.Sleep(5*time.Minute + ownLeeway + time.Second)
		g.want(401, "GET", "/v2/", c)
		replica.want(401, "GET", "/v2/", c)
	})
}

// Clients of OAuth send a form.
func TestTokenForm(t *testing.T) {
	g := newRig(t, ownConfig(t))
	post := func(contentType string, form url.Values) *httptest.ResponseRecorder {
		return g.send("POST", TokenPath, form.Encode(), func(r *http.Request) { r.Header.Set("Content-Type", contentType) })
	}
	const urlencoded = "application/x-www-form-urlencoded"
	form := url.Values{"grant_type": {"password"}, "service": {"berth"}, "client_id": {"containerd-client"}, "username": {"alice"}, "password": {"alice-pw"}, "scope": {"repository:a/b:pull repository:a/c:push"}}
	w := post(urlencoded, form)
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusOK || len(accessIn(t, token(answer.AccessToken))) != 2 || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("POST = %d %v %s, %v, want a token for two repositories", w.Code, w.Header(), w.Body, err)
	}
	for name, c := range map[string]struct {
		contentType string
		change      url.Values
		want        int
	}{
		"wrong password": {urlencoded, url.Values{"password": {"x"}}, 401},
		"no password":    {urlencoded, url.Values{"password": nil}, 401},
		"refresh token":  {urlencoded, url.Values{"grant_type": {"refresh_token"}}, 400},
		"no form":        {"application/json", nil, 415},
		"too long":       {urlencoded, url.Values{"x": {strings.Repeat("x", maxForm)}}, 400},
	} {
		changed := url.Values{}
		maps.Copy(changed, form)
		maps.Copy(changed, c.change)
		if w := post(c.contentType, changed); w.Code != c.want || !strings.Contains(w.Body.String(), `"errors"`) {
			t.Errorf("%s = %d %s, want %d", name, w.Code, w.Body, c.want)
		}
	}
	if w := g.send("PUT", TokenPath, "", nobody); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, POST" {
		t.Errorf("PUT = %d %v, want 405", w.Code, w.Header())
	}
}

// A token of this service does not outlive the token that it was issued for.
func TestShortTokens(t *testing.T) {
	k := newKey(t, "k", "ES256")
	p := newProvider(t, k)
	g := newRig(t, oidcConfig(p))
	raw := k.sign(t, with(workloadClaims(p.URL), object{"exp": time.Now().Add(time.Minute).Unix()}))
	w := g.send("GET", TokenPath, "", password("x", raw))
	var answer struct {
		ExpiresIn int `json:"expires_in"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.ExpiresIn > 120 {
		t.Errorf("expires_in = %d, %v, want the life of the other token with its leeway", answer.ExpiresIn, err)
	}
}
