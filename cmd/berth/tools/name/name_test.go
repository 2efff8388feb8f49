package name

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestParse(t *testing.T) {
	sum := digest.FromString("x")
	long := digest.SHA512.FromString("x")
	for s, want := range map[string]Ref{
		"app":                         {Repository: "app"},
		"team/app":                    {Repository: "team/app"},
		"team/app:v1.0_x-y":           {Repository: "team/app", Tag: "v1.0_x-y"},
		"team/app@" + sum.String():    {Repository: "team/app", Digest: sum},
		"team/app@" + long.String():   {Repository: "team/app", Digest: long},
		"team/app:v1@" + sum.String(): {Repository: "team/app", Digest: sum},
		"a__b/c--d.e:" + strings.Repeat("t", 128): {Repository: "a__b/c--d.e", Tag: strings.Repeat("t", 128)},
	} {
		got, err := Parse(s)
		if err != nil || got != want {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", s, got, err, want)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", got.String(), again, err, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for s, message := range map[string]string{
		"":                                      "the repository \"\" is malformed",
		"Team/app":                              "want lower-case letters",
		"app/":                                  "the repository",
		"../app":                                "the repository",
		"localhost:5000/app":                    "the repository",
		"https://host/app":                      "the repository",
		strings.Repeat("a", 256):                "the repository",
		"app:":                                  "the tag \"\" is malformed",
		"app:-x":                                "the tag",
		"app:" + strings.Repeat("t", 129):       "the tag",
		"app@":                                  "the digest",
		"app@v1":                                "want sha256:",
		"app@sha256:abc":                        "the digest",
		"app@sha384:" + strings.Repeat("a", 96): "the digest",
	} {
		if ref, err := Parse(s); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("Parse(%q) = %+v, %v, want an error with %q", s, ref, err, message)
		}
	}
}
