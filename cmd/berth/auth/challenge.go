package auth

import (
	"net/http"
	"slices"
	"strings"

	"github.com/berthhq/berth/blobstore/access"
)

// unauthenticated returns the refusal of a request that other credentials may help. code
// is an error code of RFC 6750, or empty.
//
// The challenge is Bearer alone, also if passwords are accepted without a token: clients
// of Docker's library answer every challenge that they receive, and fail if they have no
// password for one of them.
func (a *Auth) unauthenticated(req *request, need access.Need, code string) error {
	reason := "authentication required"
	switch {
	case req.with == noCredentials:
		code = "" // no token was insufficient
	case code == "insufficient_scope":
		reason = "the token is not valid for this access: request one with the scope in WWW-Authenticate"
	case req.with == basic:
		reason, code = "the user name or password is wrong", ""
	case code != "":
		reason = "the token is not valid, or no longer: request another"
	}
	var b strings.Builder
	b.WriteString(`Bearer realm="` + quoted(a.realm(req.http)) + `",service="` + a.cfg.Service + `"`)
	if scope := scopeOf(need); scope != "" {
		b.WriteString(`,scope="` + scope + `"`)
	}
	if code != "" {
		b.WriteString(`,error="` + code + `"`)
	}
	return &access.UnauthenticatedError{Challenge: b.String(), Reason: reason}
}

// scopeOf returns the scope that a client should ask a token server for. One who pushes
// pulls too, to find out what exists. The source of a mount is part of it.
func scopeOf(need access.Need) string {
	if need.Required.Repository == "" {
		if slices.Contains(need.Required.Actions, access.Catalog) {
			return catalogScope
		}
		return ""
	}
	actions := need.Required.Actions
	if slices.Contains(actions, access.Push) {
		actions = []access.Action{access.Pull, access.Push}
	}
	scope := scopeString(need.Required.Repository, actions)
	if from := need.Optional; from.Repository != "" && from.Repository != need.Required.Repository {
		scope += " " + scopeString(from.Repository, from.Actions)
	}
	return scope
}

// catalogScope is the scope for the list of repositories
// (https://distribution.github.io/distribution/spec/auth/scope/#resource-type).
const catalogScope = "registry:catalog:*"

func scopeString(repository string, actions []access.Action) string {
	words := make([]string, len(actions))
	for i, a := range actions {
		words[i] = string(a)
	}
	return "repository:" + repository + ":" + strings.Join(words, ",")
}

// quoted returns s for a quoted string.
func quoted(s string) string { return strings.NewReplacer(`\`, "%5C", `"`, "%22").Replace(s) }

// refuse answers a request for a token that is refused.
func refuse(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, map[string]any{"errors": []any{map[string]string{"code": code, "message": message}}})
}
