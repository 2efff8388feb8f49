package auth

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/berthhq/berth/cmd/berth/policy"
)

// endpoint is a method and path of the API. REPO stands for a repository.
type endpoint struct{ method, path string }

const upload = "REPO/blobs/uploads/"

// pullEndpoints, pushEndpoints and deleteEndpoints are the endpoints of a repository by
// the action that they need.
var (
	pullEndpoints = []endpoint{
		{"GET", "REPO/manifests/v1"}, {"HEAD", "REPO/manifests/v1"}, {"GET", "REPO/manifests/" + helloDigest}, {"HEAD", "REPO/manifests/" + helloDigest},
		{"GET", "REPO/blobs/" + helloDigest}, {"HEAD", "REPO/blobs/" + helloDigest}, {"GET", "REPO/tags/list"}, {"GET", "REPO/tags/list?n=1&last=a"},
		{"GET", "REPO/referrers/" + helloDigest}, {"GET", "REPO/referrers/" + helloDigest + "?artifactType=x"},
	}
	pushEndpoints = []endpoint{
		{"POST", upload}, {"POST", "REPO/blobs/uploads"}, {"POST", upload + "?digest=" + helloDigest}, {"POST", upload + "?mount=" + helloDigest},
		{"POST", upload + "?mount=" + helloDigest + "&from=public/app"}, {"GET", upload + "x?_state=x"}, {"HEAD", upload + "x?_state=x"},
		{"PATCH", upload + "x?_state=x"}, {"PUT", upload + "x?_state=x&digest=" + helloDigest}, {"DELETE", upload + "x?_state=x"},
		{"PUT", "REPO/manifests/v1"}, {"PUT", "REPO/manifests/" + helloDigest + "?tag=a&tag=b"},
	}
	deleteEndpoints = []endpoint{{"DELETE", "REPO/manifests/v1"}, {"DELETE", "REPO/manifests/" + helloDigest}, {"DELETE", "REPO/blobs/" + helloDigest}}
)

// callers of the security table. Each may do what its name in the rules allows.
func securityRig(t *testing.T) (g *rig, callers map[string]credentials, authenticated map[string]bool) {
	k := newKey(t, "k", jose.ES256)
	p := newProvider(t, k)
	cfg := oidcConfig(p)
	cfg.Kind, cfg.Kinds = "", []string{HTPasswd, OIDC, Token}
	cfg.Token = tokenServer(t, jwks(t, k)).Token
	cfg.HTPasswd.File = htpasswd(t, "puller", "pusher", "deleter", "other", "nothing")
	cfg.Policy.Rules = append(cfg.Policy.Rules,
		policy.Rule{Users: []string{"puller", "server"}, Repositories: []string{"team/**"}, Actions: []string{"pull"}},
		policy.Rule{Users: []string{"pusher", "server"}, Repositories: []string{"team/**"}, Actions: []string{"push"}},
		policy.Rule{Users: []string{"deleter"}, Repositories: []string{"team/**"}, Actions: []string{"delete"}},
		policy.Rule{Users: []string{"other"}, Repositories: []string{"other/**"}, Actions: []string{"pull", "push", "delete"}},
	)
	g = newRig(t, cfg)
	for _, name := range []string{"team/app", "other/app", "public/app"} {
		g.push(name)
		g.pushBlob(name)
	}
	now := time.Now()
	server := with(tokenClaims(grantOf("team/app", "pull", "push")), object{"sub": "server"})
	bad := func(changes object) credentials { return token(k.sign(t, with(server, changes))) }
	callers = map[string]credentials{
		"anonymous": nobody, "wrong password": password("puller", "x"), "unknown user": password("x", "x"),
		"expired": bad(object{"exp": now.Add(-time.Hour).Unix()}), "not yet valid": bad(object{"nbf": now.Add(time.Hour).Unix()}),
		"other audience": bad(object{"aud": "x"}), "other issuer": bad(object{"iss": "https://x"}), "no exp": bad(object{"exp": nil}),
		"unknown key":  token(newKey(t, "k", jose.ES256).sign(t, server)),
		"none":         token(forge(t, object{"alg": "none"}, server, func([]byte) []byte { return nil })),
		"HS256":        token(forge(t, object{"alg": "HS256", "kid": "k"}, server, hs256(k.pem(t)))),
		"other scope":  bad(object{"access": []object{grantOf("team/ap", "pull", "push", "delete"), grantOf("team", "*"), grantOf("team/app/x", "*")}}),
		"workload":     token(k.sign(t, workloadClaims(p.URL))),
		"workload pw":  password("puller", k.sign(t, workloadClaims(p.URL))),
		"other":        password("other", "other-pw"),
		"nothing":      password("nothing", "nothing-pw"),
		"own token":    g.login(password("nothing", "nothing-pw"), "repository:team/app:pull,push,delete"),
		"puller":       password("puller", "puller-pw"),
		"pusher":       password("pusher", "pusher-pw"),
		"deleter":      password("deleter", "deleter-pw"),
		"two entries":  bad(object{"access": []object{grantOf("other/app", "pull"), grantOf("team/app", "pull"), grantOf("team/none", "pull")}}),
		"server token": bad(object{"access": []object{grantOf("team/app", "push", "delete"), grantOf("team/none", "push", "delete")}}),
	}
	authenticated = map[string]bool{
		"workload": true, "workload pw": true, "other": true, "nothing": true, "own token": true, "puller": true, "pusher": true, "deleter": true,
	}
	return g, callers, authenticated
}

// allowedActions are the actions on team/ of the callers who have one.
var allowedActions = map[string]string{
	"puller": "pull", "pusher": "push", "deleter": "delete", "two entries": "pull", "server token": "push",
}

// Every endpoint refuses every caller who lacks its permission, with 401 and a challenge,
// or with 403 if other credentials of the same caller cannot help. The refusal is the
// same, byte for byte, whether the repository exists or not.
func TestSecurity(t *testing.T) {
	g, callers, authenticated := securityRig(t)
	for _, name := range slices.Sorted(maps.Keys(callers)) {
		for action, endpoints := range map[string][]endpoint{"pull": pullEndpoints, "push": pushEndpoints, "delete": deleteEndpoints} {
			for _, e := range endpoints {
				// Each from a client of its own, because wrong passwords are limited.
				exists := g.refusal(e, "team/app", callers[name])
				absent := g.refusal(e, "team/none", callers[name])
				if problem := judge(name, action, authenticated[name], exists, absent); problem != "" {
					t.Errorf("%s %s by %s: %s: %+v, and %+v without the repository", e.method, e.path, name, problem, exists, absent)
				}
			}
		}
		if w := g.sendFrom(g.newClient(), "GET", "/v2/_catalog", "", callers[name]); name != "workload" && name != "workload pw" && w.Code != 401 && w.Code != 403 {
			t.Errorf("the catalog for %s = %d %s, want a refusal", name, w.Code, w.Body)
		}
	}
}

// judge returns what is wrong with the responses to a caller, in a repository that exists
// and in one that does not.
func judge(name, action string, authenticated bool, exists, absent refusal) string {
	refused := func(r refusal) bool {
		return r.status == http.StatusUnauthorized || r.status == http.StatusForbidden
	}
	switch {
	case allowedActions[name] == action:
		if refused(exists) || refused(absent) {
			return "refused"
		}
	case exists != absent:
		return "the repository's existence makes a difference"
	case !refused(exists):
		return "not refused"
	case exists.status == http.StatusUnauthorized && authenticated:
		return "want 403"
	case exists.status == http.StatusForbidden && !authenticated && allowedActions[name] == "" && name != "other scope": // the rules deny its user some actions
		return "want 401"
	case (exists.status == http.StatusUnauthorized) != (exists.challenge != ""):
		return "want a challenge with 401 only"
	}
	return ""
}

// refusal is what a client learns from a response.
type refusal struct {
	status          int
	challenge, body string
	headers         string
}

// refusal sends a request for a repository. In what it returns, REPO stands for the name.
func (g *rig) refusal(e endpoint, repository string, c credentials) refusal {
	w := g.sendFrom(g.newClient(), e.method, "/v2/"+strings.ReplaceAll(e.path, "REPO", repository), "x", c)
	h := w.Header().Clone()
	h.Del("X-Request-Id")
	if h.Get("Content-Length") != "" && !strings.Contains(w.Body.String(), repository) {
		h.Set("Content-Length", fmt.Sprint(w.Body.Len()))
	}
	anonymize := func(s string) string { return strings.ReplaceAll(s, repository, "REPO") }
	return refusal{w.Code, anonymize(h.Get("WWW-Authenticate")), anonymize(w.Body.String()), anonymize(fmt.Sprint(h))}
}

// newClient returns the address of a client that has sent nothing yet.
func (g *rig) newClient() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.clients++
	return fmt.Sprintf("10.%d.%d.%d", g.clients>>16&255, g.clients>>8&255, g.clients&255)
}

// No form of a path leads around the rules: the name that is checked is the name that is
// served.
func TestPathTricks(t *testing.T) {
	g, callers, _ := securityRig(t)
	for _, path := range []string{
		"other/app/../../team/app/manifests/v1", "other/../team/app/manifests/v1", "other%2f..%2fteam/app/manifests/v1", "other/app/%2e%2e/%2e%2e/team/app/manifests/v1",
		"/team/app/manifests/v1", "team//app/manifests/v1", "./team/app/manifests/v1", "team/app/./manifests/v1", "team%2Fapp/manifests/v1", "team%2fapp%2fmanifests%2fv1",
		"TEAM/app/manifests/v1", "team/app\x00/manifests/v1", "team/app%00/manifests/v1", "team/app;x/manifests/v1", "team/app/manifests/v1/../v1", "team\\app/manifests/v1",
		"other/app/manifests/..%2f..%2f..%2fteam%2fapp%2fmanifests%2fv1", "other/app/blobs/../../../team/app/blobs/" + helloDigest,
		"other/app/manifests/v1%2f..%2fv1", "other/app/blobs/uploads/..%2f..%2f..%2fteam", "ｔeam/app/manifests/v1",
	} {
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "POST"} {
			r := httptest.NewRequestWithContext(t.Context(), method, "/v2/x", strings.NewReader(emptyIndex))
			u, err := r.URL.Parse("/v2/" + strings.ReplaceAll(strings.ReplaceAll(path, "\x00", "%00"), "\\", "%5C"))
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(path, "/") || strings.Contains(path, ".") { // URL.Parse would clean it
				u.Path, u.RawPath = "/v2/"+unescaped(path), "/v2/"+path
			}
			r.URL = u
			callers["other"](r)
			w := httptest.NewRecorder()
			g.handler.ServeHTTP(w, r)
			if w.Code < 400 || w.Code >= 500 {
				t.Errorf("%s %s = %d %s, want a refusal", method, path, w.Code, w.Body)
			}
		}
	}
	if w := g.sendFrom(g.newClient(), "GET", "/v2/team/app/manifests/v1", "", callers["puller"]); w.Code != http.StatusOK {
		t.Errorf("after the tricks: %d %s, want the manifest as it was", w.Code, w.Body)
	}
}

func unescaped(path string) string {
	return strings.NewReplacer("%2f", "/", "%2F", "/", "%2e", ".", "%00", "\x00").Replace(path)
}

// Tokens of uploads are good for their upload in their repository, and a caller must
// still have the permission to push.
func TestUploadTokens(t *testing.T) {
	g, callers, _ := securityRig(t)
	start := func(name string, c credentials) string {
		w := g.sendFrom(g.newClient(), "POST", "/v2/"+name+"/blobs/uploads/", "", c)
		if w.Code != http.StatusAccepted {
			t.Fatalf("POST = %d %s", w.Code, w.Body)
		}
		return w.Header().Get("Location")
	}
	location := start("team/app", callers["pusher"])
	moved := strings.Replace(start("other/app", callers["other"]), "/other/app/", "/team/app/", 1)
	forged := location[:len(location)-8] + "AAAAAAAA"
	for _, c := range []struct {
		name, location, caller string
		want                   int
	}{
		{"own", location, "pusher", 204}, {"own without push", location, "puller", 403}, {"own by another", location, "other", 403},
		{"forged", forged, "pusher", 404}, {"of another repository", moved, "pusher", 404},
	} {
		if w := g.sendFrom(g.newClient(), "GET", c.location, "", callers[c.caller]); w.Code != c.want {
			t.Errorf("%s = %d %s, want %d", c.name, w.Code, w.Body, c.want)
		}
	}
}
