package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/cmd/berth/auth"
	"github.com/berthhq/berth/cmd/berth/policy"
)

// Without authentication, berth serves at an address that others can reach only if the
// configuration chooses that.
func TestAuthIsChosen(t *testing.T) {
	for listen, local := range map[string]bool{
		"127.0.0.1:5000": true, "localhost:0": true, "'[::1]:5000'": true, "127.8.0.1:1": true,
		"':5000'": false, "0.0.0.0:5000": false, "'[::]:5000'": false, "192.0.2.1:1": false, "berth.example:1": false, "localhost.example:1": false,
	} {
		_, err := loadText(t, "listen: "+listen, nil)
		if (err == nil) != local {
			t.Errorf("listen: %s without auth.kind: %v, want an error: %t", listen, err, !local)
		}
		for _, auth := range []string{"{kind: none}", "{kinds: [none]}", "{kind: htpasswd, htpasswd: {file: x}}"} {
			if _, err := loadText(t, "listen: "+listen+"\nauth: "+auth, nil); err != nil {
				t.Errorf("listen: %s with auth: %s: %v", listen, auth, err)
			}
		}
	}
}

func TestAuth(t *testing.T) {
	c := mustLoad(t, `
auth:
  kinds: [htpasswd, oidc]
  service: registry
  htpasswd: {file: users}
  oidc:
  - issuer: https://token.actions.githubusercontent.com
    audience: https://registry.example.com
    user: github:{repository}
    groups: [github, 'github:{repository_owner}']
    claims: [repository_owner=org]
policy:
  rules:
  - {anonymous: true, repositories: [public/**], actions: [pull]}
  - users: [alice, bob]
    groups: [ops]
    claims: [ref=refs/heads/main]
    actions: [admin]
    deny: []
`, []string{"BERTH_POLICY_RULES_0_REPOSITORIES=open/**"})
	want := auth.Config{
		Kinds: []string{"htpasswd", "oidc"}, Service: "registry", TokenLifetime: c.Auth.TokenLifetime,
		HTPasswd: auth.HTPasswdConfig{File: "users"},
		Token:    auth.TokenConfig{Leeway: c.Auth.Token.Leeway},
		OIDC: []auth.Provider{{
			Issuer: "https://token.actions.githubusercontent.com", Audience: "https://registry.example.com", User: "github:{repository}",
			Groups: []string{"github", "github:{repository_owner}"}, Claims: []string{"repository_owner=org"},
		}},
		Policy: policy.Config{Rules: []policy.Rule{
			{Anonymous: true, Repositories: []string{"open/**"}, Actions: []string{"pull"}},
			{Users: []string{"alice", "bob"}, Groups: []string{"ops"}, Claims: []string{"ref=refs/heads/main"}, Actions: []string{"admin"}},
		}},
	}
	if diff := cmp.Diff(want, c.Auth); diff != "" {
		t.Errorf("Auth (-want +got):\n%s", diff)
	}
}
