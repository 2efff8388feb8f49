package manifest

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// decodedNames returns the names of the fields of an object as Go's decoder reads
// them. It reports false if p is not a JSON object.
func decodedNames(p []byte) (names []string, ok bool) {
	dec := json.NewDecoder(bytes.NewReader(p))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, false
		}
		names = append(names, t.(string))
		var skipped json.RawMessage
		if err := dec.Decode(&skipped); err != nil {
			return nil, false
		}
	}
	return names, true
}

// FuzzFieldNames checks that fieldNames returns what the decoder reads. Invalid UTF-8
// in a name may differ; no known field has any.
func FuzzFieldNames(f *testing.F) {
	for _, object := range []string{
		`{}`, ` { } `, `{"a":1}`, `{"a":{"b":[1,{"c":"d"}]},"e":[],"f":"g,\"h\":"}`, `{"a\"b":"}","\u0061":null,"a":true}`,
		`{"":"","\\":"\\"}`, "{\n\t\"a\" : [ \"b\" , \"c\" ] ,\r\n\"d\":-1.5e3}", `[{"a":1}]`, `"a"`, `{"a":1`,
	} {
		f.Add([]byte(object))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		want, ok := decodedNames(p)
		if !ok || !json.Valid(p) {
			return
		}
		var got []string
		for name := range fieldNames(bytes.TrimLeft(p, space)) {
			got = append(got, string(name))
		}
		if len(got) != len(want) {
			t.Fatalf("fieldNames(%q) = %q, want %q", p, got, want)
		}
		for i := range want {
			if got[i] != want[i] && !strings.ContainsRune(want[i], '\ufffd') {
				t.Errorf("fieldNames(%q) = %q, want %q", p, got, want)
			}
		}
	})
}

// BenchmarkParse parses an image with 100 layers.
func BenchmarkParse(b *testing.B) {
	layers := bytes.Repeat([]byte(desc(layer, digestB)+","), 100)
	body := []byte(`{"schemaVersion":2,"config":` + desc(config, digestA) + `,"layers":[` + string(layers[:len(layers)-1]) + `]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(MediaTypeImage, body); err != nil {
			b.Fatal(err)
		}
	}
}
