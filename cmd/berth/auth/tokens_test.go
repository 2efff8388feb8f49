package auth

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/berthhq/berth/cmd/berth/policy"
)

// Tokens of every algorithm are accepted, with keys from PEM files and key sets.
func TestAlgorithms(t *testing.T) {
	for _, a := range algorithms {
		k := newKey(t, "key-"+string(a), a)
		unnamed := keyPair{"", a, k.private}
		for name, c := range map[string]struct {
			file   []byte
			signer keyPair
		}{
			"JWKS":               {jwks(t, newKey(t, "other", a), k), k},
			"JWKS without kid":   {jwks(t, k), unnamed},
			"PEM":                {k.pem(t), unnamed},
			"PEM, kid in token":  {append(newKey(t, "", jose.ES256).pem(t), k.pem(t)...), k},
			"certificate":        {certificate(t, k), k},
			"JWKS, keys no kids": {jwks(t, unnamed), k},
		} {
			g := newRig(t, tokenServer(t, c.file))
			g.push("a/b")
			if w := g.send("GET", "/v2/a/b/manifests/v1", "", token(c.signer.sign(t, tokenClaims(grantOf("a/b", "pull"))))); w.Code != http.StatusOK {
				t.Errorf("%s with %s: %d %s, want 200", a, name, w.Code, w.Body)
			}
		}
	}
}

func certificate(t testing.TB, k keyPair) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.private.Public(), k.private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// No token is accepted that has a defect, and the response does not reveal which.
func TestDefects(t *testing.T) {
	k, other := newKey(t, "k", jose.RS256), newKey(t, "other", jose.ES256)
	stranger := newKey(t, "k", jose.ES256)
	g := newRig(t, tokenServer(t, jwks(t, k, other)))
	g.push("a/b")
	good := tokenClaims(grantOf("a/b", "pull"))
	now := time.Now()
	signWith := func(header object) string {
		return forge(t, header, good, func(text []byte) []byte {
			sum := sha256.Sum256(text)
			sig, err := rsa.SignPKCS1v15(nil, k.private.(*rsa.PrivateKey), 5, sum[:]) // 5 is crypto.SHA256
			if err != nil {
				t.Fatal(err)
			}
			return sig
		})
	}
	if w := g.send("GET", "/v2/a/b/manifests/v1", "", token(signWith(object{"alg": "RS256", "kid": "k"}))); w.Code != http.StatusOK {
		t.Fatalf("a good token = %d %s, want 200", w.Code, w.Body)
	}
	valid := k.sign(t, good)
	for name, raw := range map[string]string{
		"expired":             k.sign(t, with(good, object{"exp": now.Add(-time.Minute).Unix()})),
		"not yet valid":       k.sign(t, with(good, object{"nbf": now.Add(time.Minute).Unix()})),
		"from the future":     k.sign(t, with(good, object{"iat": now.Add(time.Minute).Unix()})),
		"no exp":              k.sign(t, with(good, object{"exp": nil})),
		"exp is no number":    k.sign(t, with(good, object{"exp": "tomorrow"})),
		"other audience":      k.sign(t, with(good, object{"aud": "other"})),
		"other audiences":     k.sign(t, with(good, object{"aud": []string{"other", "berth2"}})),
		"no audience":         k.sign(t, with(good, object{"aud": nil})),
		"other issuer":        k.sign(t, with(good, object{"iss": "https://other.example"})),
		"no issuer":           k.sign(t, with(good, object{"iss": nil})),
		"unknown key":         keyPair{"z", jose.RS256, stranger.private}.resigned(t, good),
		"key id of another":   stranger.sign(t, good),
		"other key's id":      keyPair{"other", jose.RS256, k.private}.sign(t, good),
		"algorithm not key's": keyPair{"k", jose.RS384, k.private}.sign(t, good),
		"none":                forge(t, object{"alg": "none", "kid": "k"}, good, func([]byte) []byte { return nil }),
		"None":                forge(t, object{"alg": "None", "kid": "k"}, good, func([]byte) []byte { return nil }),
		"no alg":              forge(t, object{"kid": "k"}, good, func([]byte) []byte { return nil }),
		"HS256 by public key": forge(t, object{"alg": "HS256", "kid": "k"}, good, hs256(k.pem(t))),
		"HS256 by nothing":    forge(t, object{"alg": "HS256"}, good, hs256(nil)),
		"crit":                signWith(object{"alg": "RS256", "kid": "k", "crit": []string{"x"}, "x": 1}),
		"crit b64":            signWith(object{"alg": "RS256", "kid": "k", "crit": []string{"b64"}, "b64": true}),
		"empty signature":     valid[:strings.LastIndexByte(valid, '.')+1],
		"changed signature":   valid[:len(valid)-8] + "AAAAAAAA",
		"own key in header":   ownKey(t, stranger, good),
		"not a token":         "x.y.z",
		"nothing":             "",
		"too long":            k.sign(t, with(good, object{"x": strings.Repeat("x", maxToken)})),
	} {
		w := g.send("GET", "/v2/a/b/manifests/v1", "", token(raw))
		want := `Bearer realm="https://tokens.example/token",service="berth",scope="repository:a/b:pull",error="invalid_token"`
		if got := w.Header().Get("WWW-Authenticate"); w.Code != http.StatusUnauthorized || got != want {
			t.Errorf("%s = %d, %s %s, want 401, %s", name, w.Code, got, w.Body, want)
		}
	}
	if log := g.log.String(); log != "" {
		t.Errorf("the log has %s, want nothing", log)
	}
}

// resigned signs with the key, whatever its algorithm is.
func (k keyPair) resigned(t testing.TB, claims object) string {
	return forge(t, object{"alg": "ES256", "kid": k.id}, claims, func(text []byte) []byte {
		sum := sha256.Sum256(text)
		r, s, err := ecdsa.Sign(rand.Reader, k.private.(*ecdsa.PrivateKey), sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	})
}

// ownKey returns a token that brings its own key in the header.
func ownKey(t testing.TB, k keyPair, claims object) string {
	public := jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id}
	return forge(t, object{"alg": "ES256", "jwk": public}, claims, func(text []byte) []byte {
		sum := sha256.Sum256(text)
		r, s, err := ecdsa.Sign(rand.Reader, k.private.(*ecdsa.PrivateKey), sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	})
}

// The access of a token is for the repositories that it names, and no others.
func TestTokenAccess(t *testing.T) {
	k := newKey(t, "k", jose.ES256)
	g := newRig(t, tokenServer(t, jwks(t, k)))
	for _, name := range []string{"a/b", "a/bc", "a", "c"} {
		g.push(name)
		g.pushBlob(name)
	}
	catalogAccess := object{"type": "registry", "name": "catalog", "actions": []string{"*"}}
	for _, c := range []struct {
		access []object
		method string
		path   string
		want   int
	}{
		{[]object{grantOf("a/b", "pull")}, "GET", "a/b/manifests/v1", 200},
		{[]object{grantOf("a/b", "pull")}, "GET", "a/bc/manifests/v1", 401},
		{[]object{grantOf("a/b", "pull")}, "GET", "a/manifests/v1", 401},
		{[]object{grantOf("a/b", "pull")}, "GET", "a/b/c/manifests/v1", 401},
		{[]object{grantOf("a/b", "pull")}, "PUT", "a/b/manifests/v1", 401},
		{[]object{grantOf("a/b", "pull")}, "GET", "none/manifests/v1", 401},
		{[]object{grantOf("a/b", "pull")}, "GET", "", 200},
		{[]object{grantOf("a/b", "pull")}, "GET", "_catalog", 401},
		{[]object{grantOf("a/b", "push"), grantOf("c", "pull")}, "GET", "c/manifests/v1", 200},
		{[]object{grantOf("a/b", "push"), grantOf("c", "pull")}, "GET", "a/b/manifests/v1", 401},
		{[]object{grantOf("a/b", "push"), grantOf("c", "pull")}, "POST", "a/b/blobs/uploads/", 202},
		{[]object{grantOf("n", "push"), grantOf("c", "pull")}, "POST", "n/blobs/uploads/?mount=" + helloDigest + "&from=c", 201},
		{[]object{grantOf("n", "push"), grantOf("c", "pull")}, "POST", "n/blobs/uploads/?mount=" + helloDigest, 201},
		{[]object{grantOf("m", "push"), grantOf("c", "push")}, "POST", "m/blobs/uploads/?mount=" + helloDigest + "&from=c", 202},
		{[]object{grantOf("m", "push")}, "POST", "m/blobs/uploads/?mount=" + helloDigest, 202},
		{[]object{grantOf("a", "*")}, "DELETE", "a/manifests/v1", 202},
		{[]object{grantOf("*", "pull"), grantOf("a/*", "pull"), grantOf("", "pull")}, "GET", "a/b/manifests/v1", 401},
		{[]object{{"type": "registry", "name": "a/b", "actions": []string{"*"}}}, "GET", "a/b/manifests/v1", 401},
		{[]object{{"type": "repository", "name": "catalog", "actions": []string{"*"}}}, "GET", "_catalog", 401},
		{nil, "GET", "a/b/manifests/v1", 401},
		{[]object{catalogAccess, grantOf("c", "pull")}, "GET", "_catalog", 200},
	} {
		g.want(c.want, c.method, "/v2/"+c.path, token(k.sign(t, tokenClaims(c.access...))))
	}
	if w := g.send("GET", "/v2/_catalog", "", token(k.sign(t, tokenClaims(catalogAccess, grantOf("c", "pull"))))); w.Body.String() != `{"repositories":["c"]}` {
		t.Errorf("the catalog = %s, want what the token may pull", w.Body)
	}
	w := g.want(401, "DELETE", "/v2/c/manifests/v1", token(k.sign(t, tokenClaims(grantOf("c", "pull")))))
	if got, want := w.Header().Get("WWW-Authenticate"), `Bearer realm="https://tokens.example/token",service="berth",scope="repository:c:delete",error="insufficient_scope"`; got != want {
		t.Errorf("WWW-Authenticate: %s, want %s", got, want)
	}
	g.want(401, "GET", "/v2/", password("alice", "x"))
}

// With rules, a request needs both the access of the token and a rule.
func TestTokenPolicy(t *testing.T) {
	k := newKey(t, "k", jose.ES256)
	cfg := tokenServer(t, jwks(t, k))
	cfg.Token.GroupsClaim = "roles"
	cfg.Policy.Rules = []policy.Rule{{Groups: []string{"dev"}, Repositories: []string{"dev/**"}, Actions: []string{"pull", "catalog"}}}
	g := newRig(t, cfg)
	g.push("dev/a")
	g.push("ops/a")
	claims := with(tokenClaims(grantOf("dev/a", "pull", "push"), grantOf("ops/a", "pull"), object{"type": "registry", "name": "catalog", "actions": []string{"*"}}),
		object{"roles": []string{"x", "dev"}})
	c := token(k.sign(t, claims))
	g.want(200, "GET", "/v2/dev/a/manifests/v1", c)
	g.want(401, "GET", "/v2/dev/b/manifests/v1", c)
	g.want(403, "POST", "/v2/dev/a/blobs/uploads/", c)
	g.want(403, "GET", "/v2/ops/a/manifests/v1", c)
	if w := g.want(200, "GET", "/v2/_catalog", c); w.Body.String() != `{"repositories":["dev/a"]}` {
		t.Errorf("the catalog = %s, want what the rules allow", w.Body)
	}
	g.want(403, "GET", "/v2/dev/a/manifests/v1", token(k.sign(t, with(claims, object{"roles": "ops"}))))
	g.want(401, "GET", "/v2/dev/a/manifests/v1", token(k.sign(t, with(claims, object{"roles": nil, "sub": ""}))))
}

// A token that was verified is remembered until it expires, and not longer.
func TestTokenExpires(t *testing.T) {
	k := newKey(t, "k", jose.ES256)
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, tokenServer(t, jwks(t, k)))
		c := token(k.sign(t, tokenClaims()))
		g.want(200, "GET", "/v2/", c)
		time.Sleep(5*time.Minute + 9*time.Second)
		g.want(200, "GET", "/v2/", c)
		time.Sleep(2 * time.Second)
		g.want(401, "GET", "/v2/", c)
	})
}

func TestParseKeys(t *testing.T) {
	k := newKey(t, "k", jose.ES256)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		t.Fatal(err)
	}
	symmetric := `{"keys":[{"kty":"oct","k":"AAAA","kid":"x"}]}`
	for name, c := range map[string]struct{ data, want string }{
		"nothing":      {"", "has no key"},
		"text":         {"hello", "has no key"},
		"bad JSON":     {"{", "is not a JSON Web Key Set"},
		"symmetric":    {symmetric, "has no key"},
		"private key":  {string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), `has a PEM block of type "PRIVATE KEY"`},
		"short RSA":    {string(keyPair{"", jose.RS256, small}.pem(t)), "has an RSA key of 1024 bits"},
		"for others":   {strings.Replace(string(jwks(t, k)), `"use":"sig"`, `"use":"enc"`, 1), "has no key"},
		"other alg":    {strings.Replace(string(jwks(t, k)), `"ES256"`, `"ES384"`, 1), "has no key"},
		"private JWKS": {`{"keys":[` + privateJWK(t, k) + `]}`, "has no key"},
	} {
		if _, err := parseKeys([]byte(c.data)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
	mixed := strings.Replace(string(jwks(t, k)), `{"keys":[`, `{"keys":[{"kty":"oct","k":"AAAA","kid":"x"},{"kty":"new"},`, 1)
	if set, err := parseKeys([]byte(mixed)); err != nil || len(set) != 1 {
		t.Errorf("a set with keys of other kinds = %v, %v, want one key", set, err)
	}
}

func privateJWK(t testing.TB, k keyPair) string {
	t.Helper()
	data, err := jose.JSONWebKey{Key: k.private, KeyID: k.id}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
