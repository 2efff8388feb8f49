package manifest

import (
	"bytes"
	"encoding/json"
	"iter"
)

// scanFields returns which of the known fields a JSON object has, with any value. The
// JSON must be valid. scanFields returns an error if it is no object, or if a field is
// there twice or in other letter case: Go's decoder takes "Layers" for "layers", and
// other decoders do not.
func scanFields(object []byte, known []string) (map[string]bool, error) {
	object = bytes.TrimLeft(object, space)
	if object[0] != '{' {
		return nil, invalid("want a JSON object, not %.20q", object)
	}
	fields := make(map[string]bool, len(known))
	for name := range fieldNames(object) {
		for _, k := range known {
			switch {
			case !bytes.EqualFold(name, []byte(k)):
			case string(name) != k:
				return nil, invalid("the field %q must be written %q", name, k)
			case fields[k]:
				return nil, invalid("the field %q is there twice", k)
			default:
				fields[k] = true
			}
		}
	}
	return fields, nil
}

// space is the white space of JSON.
const space = " \t\r\n"

// fieldNames returns the names of the fields of a valid JSON object, which starts with
// "{". A decoder would return them too, but needs many allocations for each object, and
// a manifest can have thousands of descriptors.
func fieldNames(object []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		depth, isName := 0, false // whether a string at depth 1 is a name
		for i := 0; i < len(object); i++ {
			switch object[i] {
			case '{', '[':
				depth++
				isName = depth == 1
			case '}', ']':
				depth--
			case ',':
				isName = depth == 1
			case '"':
				end := i + stringLength(object[i:])
				if isName && !yield(unquote(object[i:end])) {
					return
				}
				isName = false
				i = end - 1
			}
		}
	}
}

// stringLength returns the length of the JSON string at the start of p, with its
// quotes.
func stringLength(p []byte) int {
	for i := 1; i < len(p); i++ {
		switch p[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return len(p)
}

// unquote returns the text of a valid JSON string.
func unquote(quoted []byte) []byte {
	text := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(text, '\\') < 0 {
		return text
	}
	var decoded string
	_ = json.Unmarshal(quoted, &decoded) // it is valid
	return []byte(decoded)
}

// annotations checks that a JSON value is an object whose values are strings. It keeps
// nothing: a push does not need the annotations, which may be as long as the manifest.
type annotations struct{}

// UnmarshalJSON implements [json.Unmarshaler].
func (*annotations) UnmarshalJSON(p []byte) error {
	dec := json.NewDecoder(bytes.NewReader(p))
	t, err := dec.Token()
	if err != nil || t == nil { // null is an object without fields
		return err
	}
	if t != json.Delim('{') {
		return wrongAnnotation(t)
	}
	for dec.More() {
		if _, err := dec.Token(); err != nil { // the name
			return err
		}
		t, err := dec.Token()
		if err != nil {
			return err
		}
		if _, isString := t.(string); !isString && t != nil {
			return wrongAnnotation(t)
		}
	}
	return nil
}

// wrongAnnotation returns the error for a value that starts with this token.
func wrongAnnotation(t json.Token) error {
	kind := "object"
	switch t := t.(type) {
	case string:
		kind = "string"
	case float64:
		kind = "number"
	case bool:
		kind = "bool"
	case json.Delim:
		if t == '[' {
			kind = "array"
		}
	}
	return &json.UnmarshalTypeError{Value: kind, Field: "annotations"}
}
