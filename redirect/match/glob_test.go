package match

import (
	"strings"
	"testing"
)

func TestGlob(t *testing.T) {
	for _, test := range []struct {
		glob     string
		yes, not string // names, separated by spaces
	}{
		{"library/ubuntu", "library/ubuntu", "library/ubuntu2 alibrary/ubuntu library library/ubuntu/x"},
		{"library/*", "library/ubuntu library/a.b_c-d", "library library/a/b xlibrary/a"},
		{"library/**", "library/ubuntu library/a/b", "library xlibrary/a"},
		{"**/private", "a/private a/b/private", "private a/private/b"},
		{"**private", "private a/private myprivate", "private/a"},
		{"*", "ubuntu", "library/ubuntu"},
		{"**", "ubuntu library/ubuntu", ""},
		{"v?", "v1 va", "v v12 v/"},
		{"a.c", "a.c", "abc"},
	} {
		g, err := ParseGlob(test.glob)
		if err != nil {
			t.Fatal(err)
		}
		for name := range strings.FieldsSeq(test.yes) {
			if !g.Match(name) {
				t.Errorf("%q does not match %q", test.glob, name)
			}
		}
		for name := range strings.FieldsSeq(test.not) {
			if g.Match(name) {
				t.Errorf("%q matches %q", test.glob, name)
			}
		}
	}
}

func TestTagGlob(t *testing.T) {
	for _, glob := range []string{"", ".x", "-x", "a/b", "v:1", "é"} {
		if _, err := ParseTagGlob(glob); err == nil {
			t.Errorf("ParseTagGlob(%q) = nil, want an error", glob)
		}
	}
	for _, test := range []struct {
		glob, tag string
		want      bool
	}{
		{"v*", "v1.2.3-RC_1", true},
		{"v*", "V1", false},
		{"V?.*", "V1.2", true},
		{"*-release", "2.0-release", true},
		{"*-release", "2.0-release-1", false},
		{"_x", "_x", true},
	} {
		g, err := ParseTagGlob(test.glob)
		if err != nil || g.Match(test.tag) != test.want {
			t.Errorf("%q matches %q: %v, %v, want %v", test.glob, test.tag, g.Match(test.tag), err, test.want)
		}
	}
}

// FuzzGlob compares globs with a matcher that tries every split.
func FuzzGlob(f *testing.F) {
	f.Add("library/**", "library/a/b")
	f.Add("a*b?/**c", "axxby/z/c")
	f.Add("***", "a")
	f.Fuzz(func(t *testing.T, glob, name string) {
		if len(glob) > 12 || len(name) > 24 || strings.Contains(name, "\n") || strings.ToValidUTF8(name, "") != name {
			t.Skip("too slow to try everything, or no repository name")
		}
		g, err := ParseGlob(glob)
		if err != nil {
			return
		}
		if got, want := g.Match(name), slowGlob(glob, []rune(name)); got != want {
			t.Errorf("%q matches %q: %v, want %v", glob, name, got, want)
		}
	})
}

func slowGlob(glob string, name []rune) bool {
	switch {
	case glob == "":
		return len(name) == 0
	case strings.HasPrefix(glob, "**"):
		return slowGlob(glob[2:], name) || len(name) > 0 && slowGlob(glob, name[1:])
	case glob[0] == '*':
		return slowGlob(glob[1:], name) || len(name) > 0 && name[0] != '/' && slowGlob(glob, name[1:])
	case len(name) == 0:
		return false
	case glob[0] == '?':
		return name[0] != '/' && slowGlob(glob[1:], name[1:])
	}
	return rune(glob[0]) == name[0] && slowGlob(glob[1:], name[1:])
}
