package config

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/berthhq/berth/cmd/berth/auth"
)

// authKeys returns the keys of authentication, and of each issuer in the file.
func authKeys(c *Config) []key {
	a := &c.Auth
	all := []key{
		{name: "auth.kind", value: choice(&a.Kind, "", auth.None, auth.HTPasswd, auth.Token, auth.OIDC), help: "how clients prove who they are; without it berth listens on loopback addresses only, and none lets every client do everything at any address"},
		{name: "auth.kinds", value: list(&a.Kinds), help: "several of htpasswd, token and oidc, instead of auth.kind"},
		{name: "auth.service", value: text(&a.Service, auth.DefaultService), help: "name of this service in challenges, and the audience of the tokens of auth.token"},
		{name: "auth.token_lifetime", value: duration(5*time.Minute, time.Minute, time.Hour, &a.TokenLifetime), help: "how long the tokens are valid that berth issues, with htpasswd and oidc"},

		{name: "auth.htpasswd.file", value: text(&a.HTPasswd.File, ""), help: "file of users and bcrypt hashes, written by htpasswd -B; berth reads it again when it changes"},

		{name: "auth.token.realm", value: webURL(&a.Token.Realm), help: "URL at which clients request tokens from the token server"},
		{name: "auth.token.issuer", value: text(&a.Token.Issuer, ""), help: "claim iss of its tokens"},
		{name: "auth.token.keys_file", value: text(&a.Token.KeysFile, ""), help: "file with the keys that sign its tokens: a JSON Web Key Set, or certificates or public keys in PEM; berth reads it again when it changes"},
		{name: "auth.token.keys_url", value: webURL(&a.Token.KeysURL), help: "URL of a JSON Web Key Set, instead of auth.token.keys_file; berth reads it every quarter of an hour, and when a token names another key"},
		{name: "auth.token.ca_file", value: text(&a.Token.CAFile, ""), help: "PEM file of certificate authorities to trust for auth.token.keys_url, besides the system's"},
		{name: "auth.token.leeway", value: duration(time.Minute, 0, 10*time.Minute, &a.Token.Leeway), help: "by how much the clock of the token server may differ"},
		{name: "auth.token.groups_claim", value: text(&a.Token.GroupsClaim, ""), help: "claim that has the groups of a user, for the rules of policy"},
	}
	for i := range a.OIDC {
		at, p := fmt.Sprintf("auth.oidc[%d]", i), &a.OIDC[i]
		all = append(all,
			key{name: at + ".issuer", value: webURL(&p.Issuer), help: "claim iss of the tokens of an OpenID Connect issuer, and where its discovery document is, such as https://token.actions.githubusercontent.com"},
			key{name: at + ".audience", value: text(&p.Audience, ""), help: "audience that tokens must have, such as the URL of this registry"},
			key{name: at + ".user", value: text(&p.User, ""), help: "name of the user, in which {claim} stands for the value of a claim, such as github:{repository}; {sub} if empty"},
			key{name: at + ".groups", value: list(&p.Groups), help: "groups of the user, in the same form; a claim with several values makes several groups"},
			key{name: at + ".claims", value: list(&p.Claims), help: "claims that tokens must have, such as [repository_owner=my-org]; * matches within a segment, ** also matches slashes"},
			key{name: at + ".keys_file", value: text(&p.KeysFile, ""), help: "file with the issuer's keys, instead of its discovery document"},
			key{name: at + ".ca_file", value: text(&p.CAFile, ""), help: "PEM file of certificate authorities to trust for discovery, besides the system's"},
		)
	}
	return all
}

// policyKeys returns the keys of each rule in the file.
func policyKeys(c *Config) (all []key) {
	for i := range c.Auth.Policy.Rules {
		at, r := fmt.Sprintf("policy.rules[%d]", i), &c.Auth.Policy.Rules[i]
		all = append(all,
			key{name: at + ".anonymous", value: boolean(&r.Anonymous), help: "the rule is for every caller, also without credentials"},
			key{name: at + ".users", value: list(&r.Users), help: "the rule is for these users, such as [alice, ci-*]; [\"*\"] is every user"},
			key{name: at + ".groups", value: list(&r.Groups), help: "the rule is for users in one of these groups too"},
			key{name: at + ".claims", value: list(&r.Claims), help: "the rule is for callers with a token that has all these claims, such as [ref=refs/heads/main]"},
			key{name: at + ".repositories", value: list(&r.Repositories), help: "the rule is for repositories that match one of these patterns, such as [team/**]; all if empty"},
			key{name: at + ".actions", value: list(&r.Actions), help: "what the rule allows: pull, push, delete, catalog (to list repositories), or admin for everything; the first rule for the caller and the repository that lists an action decides"},
			key{name: at + ".deny", value: list(&r.Deny), help: "what the rule denies, although a rule below it allows it"},
		)
	}
	return all
}

// checkAuth returns an error if the configuration would expose a service without
// authentication by mistake.
func (c *Config) checkAuth() error {
	if !c.Auth.IsSet() && !isLocal(c.Address) {
		return fmt.Errorf("auth.kind: not set, and %s is not a loopback address: every client that reaches berth could push and delete. "+
			"Set auth.kind to htpasswd, token or oidc, or to none if a proxy in front of berth authenticates clients", c.Address)
	}
	return c.Auth.Validate()
}

// isLocal reports whether only this machine can connect to an address.
func isLocal(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
