package inspect

import "testing"

// TestRulePrefix converts prefixes of rules for buckets with and without a prefix.
func TestRulePrefix(t *testing.T) {
	for _, tc := range []struct {
		bucket, rule, want string
		ok                 bool
	}{
		{"", "", "", true},
		{"", "data/", "data/", true},
		{"team/", "", "", true},
		{"team/", "te", "", true},
		{"team/", "team/", "", true},
		{"team/", "team/data/new", "data/new", true},
		{"team/", "data/", "", false},
		{"team/", "other/", "", false},
	} {
		got, ok := RulePrefix(tc.bucket, tc.rule)
		if ok != tc.ok || ok && got != tc.want {
			t.Errorf("RulePrefix(%q, %q) = %q, %v, want %q, %v", tc.bucket, tc.rule, got, ok, tc.want, tc.ok)
		}
	}
}

// TestRuleReach checks which keys a rule touches and covers.
func TestRuleReach(t *testing.T) {
	for _, tc := range []struct {
		rule            Rule
		prefix          string
		touches, covers bool
	}{
		{Rule{}, "data/", true, true},
		{Rule{Narrowed: true}, "data/", true, false},
		{Rule{Prefix: "data/"}, "data/", true, true},
		{Rule{Prefix: "data/new/"}, "data/", true, false},
		{Rule{Prefix: "blobs/"}, "data/", false, false},
		{Rule{Prefix: "da"}, "data/", true, true},
		{Rule{Prefix: "data/"}, "", true, false},
	} {
		if touches, covers := tc.rule.Touches(tc.prefix), tc.rule.Covers(tc.prefix); touches != tc.touches || covers != tc.covers {
			t.Errorf("%+v: Touches(%q) = %v, Covers = %v, want %v, %v", tc.rule, tc.prefix, touches, covers, tc.touches, tc.covers)
		}
	}
}
