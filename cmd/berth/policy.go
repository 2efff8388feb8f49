package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/berthhq/berth/blobstore/access"
	"github.com/berthhq/berth/blobstore/ocihttp"
	"github.com/berthhq/berth/cmd/berth/auth"
	"github.com/berthhq/berth/cmd/berth/config"
	"github.com/berthhq/berth/cmd/berth/policy"
)

func policyCommand(stdout io.Writer) *cobra.Command {
	group := &cobra.Command{
		Use:   "policy",
		Short: "Explain what callers may do",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() }, // without it, cobra treats any word as "help"
	}
	group.AddCommand(explainPolicyCommand(stdout))
	return group
}

func explainPolicyCommand(stdout io.Writer) *cobra.Command {
	var user, repository, name string
	var groups, claims []string
	cmd := configured(&cobra.Command{
		Use:   "explain",
		Short: "Explain which rule decides about an action",
		Long: "Print for each rule up to the one that decides whether it does, and why. Then print the decision. Without --user the\n" +
			"caller is anonymous. Nothing is read but the configuration.",
	}, func(_ context.Context, cfg *config.Config) error {
		action, err := policy.ParseAction(name)
		if err != nil {
			return badFlag("action", name, "pull, push, delete or catalog")
		}
		if !ocihttp.IsName(repository) && action != access.Catalog {
			return badFlag("repo", repository, "the name of a repository")
		}
		caller := policy.Caller{User: user, Groups: groups, Claims: make(map[string][]string)}
		for _, c := range claims {
			claim, value, err := policy.ParseClaim(c)
			if err != nil {
				return badFlag("claim", c, "name=value, such as repository=my-org/app")
			}
			caller.Claims[claim] = append(caller.Claims[claim], value)
		}
		if user == "" && len(groups)+len(claims) > 0 {
			return badFlag("user", "", "the name of a user, because an anonymous caller has no groups and claims")
		}
		return explainPolicy(&cfg.Auth, caller, repository, action, stdout)
	})
	cmd.Flags().StringVar(&user, "user", "", "name of the user; an anonymous caller if empty")
	cmd.Flags().StringArrayVar(&groups, "group", nil, "group of the user; can be repeated")
	cmd.Flags().StringArrayVar(&claims, "claim", nil, "claim of the user's token, name=value; can be repeated")
	cmd.Flags().StringVar(&repository, "repo", "", "repository")
	cmd.Flags().StringVar(&name, "action", string(access.Pull), "pull, push, delete or catalog")
	return cmd
}

// explainPolicy prints the decision about an action.
func explainPolicy(cfg *auth.Config, caller policy.Caller, repository string, action access.Action, stdout io.Writer) error {
	if len(cfg.Policy.Rules) == 0 {
		_, err := fmt.Fprintln(stdout, withoutRules(cfg, caller))
		return err
	}
	rules, err := policy.New(cfg.Policy)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	steps := rules.Explain(caller, repository, action)
	for _, s := range steps {
		mark := "no"
		if s.Decides {
			mark = "yes"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", mark, config.KeysIn(s.Rule), s.Why)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	decision := "denied: no rule allows it"
	switch d := rules.Decide(caller, repository, action); {
	case d.Allowed:
		decision = "allowed by " + config.KeysIn(steps[d.Rule].Rule)
	case d.Rule >= 0:
		decision = "denied by " + config.KeysIn(steps[d.Rule].Rule)
	}
	_, err = fmt.Fprintln(stdout, decision)
	return err
}

// withoutRules returns the decision if there are no rules.
func withoutRules(cfg *auth.Config, caller policy.Caller) string {
	switch {
	case len(cfg.All()) == 0:
		return "allowed: there is no authentication, so every client may do everything"
	case cfg.Has(auth.HTPasswd) && caller.User != "":
		return "allowed: there are no rules, so every user of the htpasswd file may do everything"
	case cfg.Has(auth.Token):
		return "decided by the claim access of the token: there are no rules"
	}
	return "denied: there are no rules, so anonymous callers may do nothing"
}
