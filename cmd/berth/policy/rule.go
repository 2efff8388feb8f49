package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berthhq/berth/blobstore/access"
	"github.com/berthhq/berth/redirect/match"
)

// actions is a set of actions.
type actions uint8

const (
	pull actions = 1 << iota
	push
	del
	catalog
	admin // what only administrators may do; no endpoint needs it yet

	all = pull | push | del | catalog | admin
)

// bit returns the set with this action alone, or the empty set for an unknown action.
func bit(a access.Action) actions {
	switch a {
	case access.Pull:
		return pull
	case access.Push:
		return push
	case access.Delete:
		return del
	case access.Catalog:
		return catalog
	}
	return 0
}

// rule is a Rule whose globs are compiled.
type rule struct {
	anonymous    bool
	anyone       bool // every caller with credentials
	users        patterns
	groups       patterns
	claims       []claim
	repositories patterns // empty for all
	allows       actions
	denies       actions
}

type claim struct {
	name  string
	value pattern
}

func newRule(path string, r Rule, bad *problems) rule {
	c := rule{anonymous: r.Anonymous, anyone: len(r.Users) == 1 && r.Users[0] == "*"}
	if !c.anyone {
		c.users = newPatterns(path+".Users", r.Users, match.ParseTextGlob, bad)
	}
	c.groups = newPatterns(path+".Groups", r.Groups, match.ParseTextGlob, bad)
	c.repositories = newPatterns(path+".Repositories", r.Repositories, match.ParseGlob, bad)
	for _, s := range r.Claims {
		name, value, err := ParseClaim(s)
		if err != nil {
			bad.add(path+".Claims", err)
			continue
		}
		p, err := newPattern(value, match.ParseTextGlob)
		if err != nil {
			bad.add(path+".Claims", err)
			continue
		}
		c.claims = append(c.claims, claim{name, p})
	}
	c.allows = newActions(path+".Actions", r.Actions, bad)
	c.denies = newActions(path+".Deny", r.Deny, bad)
	named := len(r.Users)+len(r.Groups)+len(r.Claims) > 0
	switch {
	case !named && !r.Anonymous:
		bad.add(path, errors.New("the rule is for no caller: set users, groups, claims or anonymous"))
	case named && r.Anonymous:
		bad.add(path+".Anonymous", errors.New("such a rule is for every caller: want it without users, groups and claims"))
	}
	if len(r.Actions)+len(r.Deny) == 0 {
		bad.add(path+".Actions", errors.New("the rule neither allows nor denies an action: want pull, push, delete, catalog or admin"))
	}
	if c.allows&c.denies != 0 {
		bad.add(path+".Deny", errors.New("the rule allows one of these actions as well"))
	}
	return c
}

func newActions(path string, names []string, bad *problems) (set actions) {
	for _, name := range names {
		if name == "admin" {
			set |= all
			continue
		}
		a := bit(access.Action(name))
		if a == 0 {
			bad.add(path, fmt.Errorf("%q: want pull, push, delete, catalog or admin", name))
		}
		set |= a
	}
	return set
}

func (r *rule) matchesCaller(c Caller) bool {
	if r.anonymous {
		return true
	}
	if c.User == "" {
		return false
	}
	named := r.anyone || len(r.users) == 0 && len(r.groups) == 0 || r.users.match(c.User) || slices.ContainsFunc(c.Groups, r.groups.match)
	return named && !slices.ContainsFunc(r.claims, func(want claim) bool {
		return !slices.ContainsFunc(c.Claims[want.name], want.value.match)
	})
}

func (r *rule) matchesRepository(name string, action access.Action) bool {
	return action == access.Catalog || len(r.repositories) == 0 || r.repositories.match(name)
}

// pattern is a glob. Most have no wildcard, or are a prefix, and need no regular
// expression.
type pattern struct {
	text   string
	prefix bool // anything may follow text
	glob   *match.Glob
}

type patterns []pattern

func newPattern(s string, parse func(string) (match.Glob, error)) (pattern, error) {
	glob, err := parse(s)
	if err != nil {
		return pattern{}, err
	}
	prefix, anything := strings.CutSuffix(s, "**")
	switch {
	case !strings.ContainsAny(prefix, "*?"):
		return pattern{text: prefix, prefix: anything}, nil
	default:
		return pattern{glob: &glob}, nil
	}
}

func newPatterns(path string, list []string, parse func(string) (match.Glob, error), bad *problems) (all patterns) {
	for _, s := range list {
		p, err := newPattern(s, parse)
		if err != nil {
			bad.add(path, err)
			continue
		}
		all = append(all, p)
	}
	return all
}

func (p pattern) match(s string) bool {
	switch {
	case p.glob != nil:
		return p.glob.Match(s)
	case p.prefix:
		return strings.HasPrefix(s, p.text)
	default:
		return s == p.text
	}
}

func (list patterns) match(s string) bool {
	return slices.ContainsFunc(list, func(p pattern) bool { return p.match(s) })
}

// problems collects errors.
type problems []error

// add adds the error of the field at path.
func (p *problems) add(path string, err error) { *p = append(*p, fmt.Errorf("%s: %w", path, err)) }

func (p problems) err() error { return errors.Join(p...) }
