package system

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// tokenServer is a registry token server in the manner of GitLab's, whose tokens another
// library than berth's makes. Its only user is alice, who may do everything below team/.
func tokenServer(t *testing.T, key *ecdsa.PrivateKey) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if r.Method == http.MethodPost {
			user, password = r.PostFormValue("username"), r.PostFormValue("password")
		}
		if user != "" && (user != "alice" || password != "alice-pw") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_ = r.ParseForm()
		var access []map[string]any
		for scope := range strings.FieldsSeq(strings.Join(r.Form["scope"], " ")) {
			part := strings.Split(scope, ":")
			if len(part) == 3 && user != "" && strings.HasPrefix(part[1], "team/") {
				access = append(access, map[string]any{"type": part[0], "name": part[1], "actions": strings.Split(part[2], ",")})
			}
		}
		signed, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
			"iss": "gitlab-issuer", "aud": "container_registry", "sub": user, "access": access, "jti": "a", "auth_type": "gitlab_or_ldap",
			"iat": time.Now().Unix(), "nbf": time.Now().Unix() - 5, "exp": time.Now().Add(5 * time.Minute).Unix(),
		}).SignedString(key)
		if err != nil {
			t.Error(err)
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"token": signed, "access_token": signed})
	}))
	t.Cleanup(s.Close)
	return s
}

// TestTokenServer pushes and pulls with clients that log in at a token server.
func TestTokenServer(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys.pem")
	if err := os.WriteFile(keys, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	// crane requests no token from a private address other than the registry's, unless it
	// has a name. oras resolves the name.
	realm := strings.Replace(tokenServer(t, key).URL, "127.0.0.1", "localhost", 1) + "/jwt/auth"
	p := serving(t, t.TempDir(), "BERTH_AUTH_KIND=token", "BERTH_AUTH_SERVICE=container_registry", "BERTH_AUTH_TOKEN_ISSUER=gitlab-issuer",
		"BERTH_AUTH_TOKEN_KEYS_FILE="+keys, "BERTH_AUTH_TOKEN_REALM="+realm)
	logInAndOut(t, p, "alice", "alice-pw", false)
}

// TestWorkloadLogins pushes and pulls with clients whose password is the token of a
// workload, from an issuer with a discovery document.
func TestWorkloadLogins(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	const issuer = "https://token.actions.example"
	token, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": issuer, "aud": "registry", "sub": "repo:org/app:ref:refs/heads/main", "repository": "org/app", "exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"keys.pem": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
		"berth.yaml": "auth: {kind: oidc, oidc: [{issuer: '" + issuer + "', audience: registry, user: 'github:{repository}', keys_file: '" + filepath.Join(dir, "keys.pem") + "'}]}\n" +
			"policy: {rules: [{claims: ['repository=org/*'], repositories: [team/**], actions: [pull, push]}]}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := start(dir, cleanEnv(), "--config", filepath.Join(dir, "berth.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	logInAndOut(t, p, "workload", token, true)
}

// logInAndOut pushes and pulls below team/ with clients that have a password, and checks
// that they cannot without it, nor elsewhere.
func logInAndOut(t *testing.T, p *process, user, password string, withOras bool) {
	t.Helper()
	tools, dir, host := toolsDir(t), t.TempDir(), strings.TrimPrefix(p.url, "http://")
	if _, err := writeLayout(filepath.Join(dir, "img"), "hello from a token\n"); err != nil {
		t.Fatal(err)
	}
	run := func(fails bool, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(tools, args[0]), args[1:]...)
		cmd.Dir = dir
		cmd.Env = append(cleanEnv(), "HOME="+dir, "DOCKER_CONFIG="+dir, "XDG_RUNTIME_DIR="+dir, "_CONTAINERS_ROOTLESS_UID=1")
		if out, err := cmd.CombinedOutput(); (err != nil) != fails {
			t.Errorf("%q: %v, want an error: %t\n%s", strings.ReplaceAll(strings.Join(args, " "), password, "PASSWORD"), err, fails, out)
		}
	}
	policy := filepath.Join(dir, "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	run(true, "crane", "push", "img", host+"/team/crane:v1")
	run(false, "crane", "auth", "login", host, "-u", user, "-p", password)
	run(false, "crane", "push", "img", host+"/team/crane:v1")
	run(false, "crane", "validate", "--remote", host+"/team/crane:v1")
	run(false, "crane", "copy", host+"/team/crane:v1", host+"/team/copy:v1")
	run(true, "crane", "push", "img", host+"/other/crane:v1")
	if withOras {
		run(true, "oras", "login", "--plain-http", "--registry-config", "oras.json", "-u", user, "-p", "wrong", host)
		run(false, "oras", "login", "--plain-http", "--registry-config", "oras.json", "-u", user, "-p", password, host)
		run(false, "oras", "copy", "--from-plain-http", "--to-plain-http", "--from-registry-config", "oras.json", "--to-registry-config", "oras.json",
			host+"/team/crane:v1", host+"/team/oras:v1")
	}
	run(false, "skopeo", "--policy", policy, "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false",
		"--src-creds", user+":"+password, "--dest-creds", user+":"+password, "docker://"+host+"/team/copy:v1", "docker://"+host+"/team/skopeo:v1")
	run(true, "skopeo", "--policy", policy, "inspect", "--tls-verify=false", "--creds", user+":wrong", "docker://"+host+"/team/skopeo:v1")
	run(false, "regctl", "registry", "set", "--tls", "disabled", host)
	run(false, "regctl", "registry", "login", "--user", user, "--pass", password, host)
	run(false, "regctl", "image", "copy", host+"/team/skopeo:v1", host+"/team/regctl:v1")
	if log := p.stderr.String(); strings.Contains(log, password) {
		t.Error("the log has the password")
	}
}
