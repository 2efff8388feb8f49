package policy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berthhq/berth/blobstore/access"
)

// open returns a policy that must be valid.
func open(t testing.TB, rules ...Rule) *Policy {
	t.Helper()
	p, err := New(Config{rules})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var (
	anonymous = Caller{}
	alice     = Caller{User: "alice", Groups: []string{"dev", "ops"}}
	bob       = Caller{User: "bob"}
	workflow  = Caller{User: "github:org/app", Claims: map[string][]string{
		"iss": {"https://issuer.example"}, "repository": {"org/app"}, "ref": {"refs/heads/main"}, "aud": {"one", "two"},
	}}
)

func TestDecide(t *testing.T) {
	p := open(t,
		Rule{Users: []string{"mallory"}, Deny: []string{"admin"}},
		Rule{Anonymous: true, Repositories: []string{"public/**"}, Actions: []string{"pull"}},
		Rule{Groups: []string{"ops"}, Repositories: []string{"secret/*"}, Deny: []string{"delete"}},
		Rule{Groups: []string{"ops"}, Actions: []string{"admin"}},
		Rule{Users: []string{"*"}, Repositories: []string{"shared"}, Actions: []string{"pull", "push"}},
		Rule{Claims: []string{"repository=org/*", "ref=refs/heads/main"}, Repositories: []string{"org/app"}, Actions: []string{"push"}},
		Rule{Users: []string{"bob"}, Claims: []string{"aud=two"}, Actions: []string{"pull"}},
		Rule{Users: []string{"github:**"}, Repositories: []string{"x/?"}, Actions: []string{"catalog"}},
	)
	otherRef := Caller{User: "w", Claims: map[string][]string{"repository": {"org/app"}, "ref": {"refs/heads/main2"}}}
	deeper := Caller{User: "w", Claims: map[string][]string{"repository": {"org/app/x"}, "ref": {"refs/heads/main"}}}
	bobWithClaim := Caller{User: "bob", Claims: workflow.Claims}
	for _, c := range []struct {
		caller     Caller
		repository string
		action     access.Action
		want       Decision
	}{
		{anonymous, "public/a/b", access.Pull, Decision{true, 1}},
		{anonymous, "public", access.Pull, Decision{false, -1}},
		{anonymous, "publics/a", access.Pull, Decision{false, -1}},
		{anonymous, "public/a", access.Push, Decision{false, -1}},
		{anonymous, "shared", access.Pull, Decision{false, -1}},
		{anonymous, "", access.Catalog, Decision{false, -1}},
		{alice, "public/a", access.Pull, Decision{true, 1}},
		{alice, "public/a", access.Push, Decision{true, 3}},
		{alice, "secret/a", access.Delete, Decision{false, 2}},
		{alice, "secret/a/b", access.Delete, Decision{true, 3}},
		{alice, "", access.Catalog, Decision{true, 3}},
		{bob, "shared", access.Push, Decision{true, 4}},
		{bob, "shared/x", access.Push, Decision{false, -1}},
		{bob, "shared", access.Delete, Decision{false, -1}},
		{bob, "a", access.Pull, Decision{false, -1}},
		{bobWithClaim, "a", access.Pull, Decision{true, 6}},
		{workflow, "org/app", access.Push, Decision{true, 5}},
		{workflow, "org/app", access.Pull, Decision{false, -1}},
		{workflow, "", access.Catalog, Decision{true, 7}},
		{otherRef, "org/app", access.Push, Decision{false, -1}},
		{deeper, "org/app", access.Push, Decision{false, -1}},
		{Caller{User: "mallory", Groups: []string{"ops"}}, "public/a", access.Pull, Decision{false, 0}},
		{Caller{User: "mallory", Groups: []string{"ops"}}, "", access.Catalog, Decision{false, 0}},
		{alice, "a", "admin", Decision{false, -1}},
		{alice, "a", "", Decision{false, -1}},
	} {
		got := p.Decide(c.caller, c.repository, c.action)
		if got != c.want {
			t.Errorf("Decide(%v, %q, %s) = %v, want %v", c.caller, c.repository, c.action, got, c.want)
		}
		steps := p.Explain(c.caller, c.repository, c.action)
		last := steps[len(steps)-1]
		if last.Decides != (got.Rule >= 0) || got.Rule >= 0 && len(steps) != got.Rule+1 || got.Allowed && !strings.HasPrefix(last.Why, "allows") {
			t.Errorf("Explain(%v, %q, %s) = %v, but Decide returns %v", c.caller, c.repository, c.action, steps, got)
		}
	}
}

func TestExplain(t *testing.T) {
	p := open(t,
		Rule{Groups: []string{"ops"}, Actions: []string{"admin"}},
		Rule{Users: []string{"bob"}, Repositories: []string{"b"}, Actions: []string{"push"}},
		Rule{Users: []string{"bob"}, Actions: []string{"push"}},
		Rule{Users: []string{"bob"}, Deny: []string{"pull"}},
		Rule{Anonymous: true, Actions: []string{"pull"}},
	)
	want := []Step{
		{"policy.Config.Rules[0]", false, "the rule is for other callers"},
		{"policy.Config.Rules[1]", false, "the rule is for other repositories"},
		{"policy.Config.Rules[2]", false, "the rule neither allows nor denies pull"},
		{"policy.Config.Rules[3]", true, "denies pull"},
	}
	if diff := cmp.Diff(want, p.Explain(bob, "a", access.Pull)); diff != "" {
		t.Errorf("Explain (-want +got):\n%s", diff)
	}
}

func TestInvalid(t *testing.T) {
	_, err := New(Config{[]Rule{
		{Actions: []string{"pull"}},
		{Anonymous: true, Users: []string{"a"}, Actions: []string{"pull"}},
		{Users: []string{"a"}},
		{Users: []string{"a", "ü"}, Actions: []string{"pul"}, Deny: []string{"*"}},
		{Groups: []string{"a\n"}, Claims: []string{"a", "=b", "a=", "a=ü"}, Actions: []string{"push"}, Deny: []string{"admin"}},
		{Users: []string{"a"}, Repositories: []string{"A", "/a"}, Actions: []string{"pull"}},
	}})
	want := `policy.Config.Rules[0]: the rule is for no caller: set users, groups, claims or anonymous
policy.Config.Rules[1].Anonymous: such a rule is for every caller: want it without users, groups and claims
policy.Config.Rules[2].Actions: the rule neither allows nor denies an action: want pull, push, delete, catalog or admin
policy.Config.Rules[3].Users: "ü": want printable ASCII
policy.Config.Rules[3].Actions: "pul": want pull, push, delete, catalog or admin
policy.Config.Rules[3].Deny: "*": want pull, push, delete, catalog or admin
policy.Config.Rules[4].Groups: "a\n": want printable ASCII
policy.Config.Rules[4].Claims: "a": want name=value, such as repository=my-org/app
policy.Config.Rules[4].Claims: "=b": want name=value, such as repository=my-org/app
policy.Config.Rules[4].Claims: "a=": want name=value, such as repository=my-org/app
policy.Config.Rules[4].Claims: "ü": want printable ASCII
policy.Config.Rules[4].Deny: the rule allows one of these actions as well
policy.Config.Rules[5].Repositories: "A" has a 'A', which no repository name has
policy.Config.Rules[5].Repositories: "/a" has an empty segment, which no repository name has`
	if err == nil {
		t.Fatal("New accepts invalid rules")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("New (-want +got):\n%s", diff)
	}
}

// Text before or after a line break does not make a name match.
func TestLineBreaks(t *testing.T) {
	p := open(t, Rule{Users: []string{"ci-*"}, Actions: []string{"pull"}}, Rule{Claims: []string{"ref=main"}, Actions: []string{"pull"}})
	for _, c := range []Caller{
		{User: "x\nci-a"}, {User: "a", Claims: map[string][]string{"ref": {"main\n"}}},
		{User: "a", Claims: map[string][]string{"ref": {"x\nmain"}}},
	} {
		if d := p.Decide(c, "a", access.Pull); d.Allowed {
			t.Errorf("Decide(%q) = %v, want no permission", c, d)
		}
	}
}
