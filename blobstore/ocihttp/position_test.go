package ocihttp

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// FuzzPosition tests that a position splits all entries as the text of the client
// does, and that the store can have it as a key.
func FuzzPosition(f *testing.F) {
	for _, last := range []string{
		"", "v1", "/", "a/b", "a b", "v1\x00", "~", "\xff", "a~z", "-", "é", "v1,v2", strings.Repeat("z", 200), strings.Repeat("z", 127) + "~", strings.Repeat("z", 300),
	} {
		f.Add(last, uint64(1))
	}
	f.Fuzz(func(t *testing.T, last string, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 0))
		at := position(last, tagBytes, maxTag)
		if len(at) > maxTag || strings.Trim(at, tagBytes) != "" {
			t.Errorf("position(%q) = %q, want at most %d bytes of tags", last, at, maxTag)
		}
		for range 20 {
			tag := near(rng, last, tagBytes, maxTag)
			if (tag > last) != (tag > at) {
				t.Errorf("position(%q) = %q, and the tag %q is after one of them only", last, at, tag)
			}
		}
	})
}

// near returns an entry that shares its first bytes with text.
func near(rng *rand.Rand, text, alphabet string, longest int) string {
	entry := []byte(text[:rng.IntN(min(len(text), longest)+1)])
	entry = slices.DeleteFunc(entry, func(b byte) bool { return strings.IndexByte(alphabet, b) < 0 })
	for range rng.IntN(3) {
		entry = append(entry, alphabet[rng.IntN(len(alphabet))])
	}
	return string(entry[:min(len(entry), longest)])
}

// The names of repositories are ordered as in the store, where "/" comes before all
// other characters.
func TestNamePosition(t *testing.T) {
	for last, want := range map[string]string{
		"": "", "a": "a", "a/b": "a/b", "a-b": "a-b", "library/": "library/", " ": "",
		"A":  "9" + strings.Repeat("z", 254),
		"a~": "az" + strings.Repeat("z", 253),
		"a,": "a/" + strings.Repeat("z", 253),
		".":  ".",
	} {
		if got := namePosition(last); got != want {
			t.Errorf("namePosition(%q) = %q, want %q", last, got, want)
		}
	}
	if !slices.IsSorted([]byte(nameBytes)) || !slices.IsSorted([]byte(tagBytes)) {
		t.Error("the bytes of names or tags are not sorted")
	}
}

// A sealed position reveals nothing to its caller. Others, and sealed positions of
// another service, are texts.
func TestSealedPosition(t *testing.T) {
	p, err := newPositions(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	other, err := newPositions([]byte(strings.Repeat("x", 32)))
	if err != nil {
		t.Fatal(err)
	}
	at := p.seal("team/secret")
	if got := p.open(at); got != "team/secret" || strings.Contains(at, "secret") || at == p.seal("team/secret") {
		t.Errorf("open(%q) = %q, want team/secret, and another text each time", at, got)
	}
	for _, text := range []string{".", ".x", "./", at + "x", at[:len(at)-1], other.seal("team/secret"), strings.ToUpper(at)} {
		if got := p.open(text); got != namePosition(text) {
			t.Errorf("open(%q) = %q, want %q", text, got, namePosition(text))
		}
	}
}
