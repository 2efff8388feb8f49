package redirect_test

import (
	"fmt"
	"net/netip"

	"github.com/berthhq/berth/redirect"
)

// Explain shows which rule decides about a read, and why the rules before it do
// not.
func ExamplePolicy_Explain() {
	policy, err := redirect.New(redirect.Config{
		CDN: map[string]redirect.CDN{"edge": {Kind: "plain", BaseURL: "https://edge.example"}},
		Rules: []redirect.Rule{
			{From: []string{"10.0.0.0/8"}, Target: "direct"},
			{Repository: "library/**", MinSize: 1 << 20, Target: "cdn:edge"},
		},
		Default: "presign",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, step := range policy.Explain(redirect.Request{
		Repository: "library/ubuntu",
		Size:       30 << 20,
		Client:     netip.MustParseAddr("192.0.2.1"),
		Key:        "data/new/9f/9f86d081884c7d659a2feaa0c55ad015",
	}) {
		fmt.Printf("%s: %s: %v: %s\n", step.Rule, step.Target, step.Matches, step.Why)
	}
	// Output:
	// redirect.Config.Rules[0]: direct: false: client 192.0.2.1 is in none of 10.0.0.0/8
	// redirect.Config.Rules[1]: cdn:edge: true: all conditions hold
}
