// Package policy decides what callers may do in which repositories, by rules in order.
//
// A rule is for certain callers and repositories. It lists actions that it allows and
// actions that it denies. For each action, the first rule that is for the caller and the
// repository and lists the action decides. An action that no such rule lists is denied.
// So rules that only allow add up, in any order, and a rule that denies makes an
// exception from the rules below it.
//
// The action catalog, to list repositories, belongs to no repository. Repositories of a
// rule make no difference for it. A list has only repositories that the caller may pull
// from.
package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berthhq/berth/blobstore/access"
)

// Caller is what is known of the caller of a request. The zero Caller is anonymous.
type Caller struct {
	User   string // empty for an anonymous caller
	Groups []string

	// Claims are the claims of the caller's token. A claim that is a list has each of
	// its members as a value. The members of an object have names with a dot:
	// kubernetes.io.namespace.
	Claims map[string][]string
}

// Config has the rules.
type Config struct {
	Rules []Rule
}

// Rule is a rule of a policy.
//
// A rule is for every caller if Anonymous is set. Otherwise it is for callers who are
// one of Users or in one of Groups, and have all Claims. With Users and Groups empty, the
// Claims alone decide.
type Rule struct {
	Anonymous bool     // every caller, also without credentials
	Users     []string // names or globs; "*" alone is every caller with credentials
	Groups    []string // names or globs
	Claims    []string // name=value, in which value may be a glob

	Repositories []string // globs; empty for all

	Actions []string // that the rule allows; see ParseAction
	Deny    []string // that the rule denies
}

// Policy is a list of rules. It is safe for concurrent use.
type Policy struct {
	rules  []rule
	claims []string // names of the claims in rules
}

// Decision is the decision about an action.
type Decision struct {
	Allowed bool

	// Rule is the number of the rule that decides, counted from 0. It is -1 if no
	// rule does.
	Rule int
}

// New returns the policy of these rules. It returns an error that names the field of
// each invalid value.
func New(cfg Config) (*Policy, error) {
	p := &Policy{rules: make([]rule, len(cfg.Rules))}
	var problems problems
	for i, r := range cfg.Rules {
		p.rules[i] = newRule(fmt.Sprintf("policy.Config.Rules[%d]", i), r, &problems)
		for _, c := range p.rules[i].claims {
			if !slices.Contains(p.claims, c.name) {
				p.claims = append(p.claims, c.name)
			}
		}
	}
	return p, problems.err()
}

// Decide decides whether a caller may act on a repository. The repository is empty for
// [access.Catalog]. An action that is not one of package access is denied.
func (p *Policy) Decide(c Caller, repository string, action access.Action) Decision {
	a := bit(action)
	for i := range p.rules {
		r := &p.rules[i]
		if listed := (r.allows | r.denies) & a; listed != 0 && r.matchesRepository(repository, action) && r.matchesCaller(c) {
			return Decision{Allowed: r.denies&a == 0, Rule: i}
		}
	}
	return Decision{Rule: -1}
}

// Step is the reason for which a rule decides about an action, or does not.
type Step struct {
	Rule    string // "policy.Config.Rules[0]"
	Decides bool
	Why     string
}

// Explain returns a step for each rule up to the one that decides.
func (p *Policy) Explain(c Caller, repository string, action access.Action) []Step {
	var steps []Step
	for i := range p.rules {
		s := p.rules[i].explain(c, repository, action)
		s.Rule = fmt.Sprintf("policy.Config.Rules[%d]", i)
		steps = append(steps, s)
		if s.Decides {
			break
		}
	}
	return steps
}

func (r *rule) explain(c Caller, repository string, action access.Action) Step {
	a := bit(action)
	switch {
	case !r.matchesCaller(c):
		return Step{Why: "the rule is for other callers"}
	case !r.matchesRepository(repository, action):
		return Step{Why: "the rule is for other repositories"}
	case r.denies&a != 0:
		return Step{Decides: true, Why: "denies " + string(action)}
	case r.allows&a != 0:
		return Step{Decides: true, Why: "allows " + string(action)}
	}
	return Step{Why: fmt.Sprintf("the rule neither allows nor denies %s", action)}
}

// ParseAction returns the action with this name: pull, push, delete or catalog.
func ParseAction(name string) (access.Action, error) {
	action := access.Action(name)
	if bit(action) == 0 {
		return "", fmt.Errorf("%q: want pull, push, delete or catalog", name)
	}
	return action, nil
}

// ParseClaim splits name=value.
func ParseClaim(s string) (name, value string, err error) {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" || value == "" {
		return "", "", fmt.Errorf("%q: want name=value, such as repository=my-org/app", s)
	}
	return name, value, nil
}

// ClaimNames returns the names of the claims that rules ask for.
func (p *Policy) ClaimNames() []string { return p.claims }
