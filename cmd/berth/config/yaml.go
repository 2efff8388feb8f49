package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// tree is a flattened YAML document: storage: {driver: s3} becomes the leaf
// storage.driver. A list of scalars becomes one leaf, separated by commas. The
// members of a list of mappings are numbered, as in redirect.rules[0].target.
//
// Scalars keep their text without the conversions of YAML, so an access key 012345
// keeps its zero.
type tree struct {
	leaves map[string]leaf
	empty  map[string]int // line numbers of keys without a value, which set nothing
	items  map[string]int // lengths of lists of mappings
}

type leaf struct {
	text string
	line int
}

// leaf returns the leaf of a key and reports whether it exists. A key is never both
// a value and a map.
func (t tree) leaf(k key) (leaf, bool) {
	l, ok := t.leaves[k.name]
	if !ok && k.inMap != "" {
		l, ok = t.leaves[k.inMap]
	}
	return l, ok
}

// parseYAML parses a document. It returns an error for duplicate keys, anchors,
// aliases and a second document.
func parseYAML(data []byte) (tree, error) {
	t := tree{leaves: map[string]leaf{}, empty: map[string]int{}, items: map[string]int{}}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return t, nil
	} else if err != nil {
		return t, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return t, errors.New("want one YAML document, and nothing after it")
	}
	root := doc.Content[0]
	if isNull(root) {
		return t, nil
	}
	if root.Kind != yaml.MappingNode {
		return t, fmt.Errorf("line %d: want keys and values, such as listen: 127.0.0.1:5000", root.Line)
	}
	return t, t.mapping("", root)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// add adds the leaves of a node under name.
func (t tree) add(name string, n *yaml.Node) error {
	switch {
	case n.Anchor != "" || n.Kind == yaml.AliasNode:
		return fmt.Errorf("line %d: %s: anchors and aliases are not supported", n.Line, name)
	case isNull(n), n.Kind != yaml.ScalarNode && len(n.Content) == 0:
		t.empty[name] = n.Line
		return nil
	case n.Kind == yaml.MappingNode:
		return t.mapping(name+".", n)
	case n.Kind == yaml.SequenceNode:
		return t.sequence(name, n)
	default:
		t.leaves[name] = leaf{n.Value, n.Line}
		return nil
	}
}

// mapping adds the leaves of a mapping under names with this prefix.
func (t tree) mapping(prefix string, n *yaml.Node) error {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Value == "" || strings.Contains(k.Value, ".") || k.Anchor != "" {
			return fmt.Errorf("line %d: %swant keys that are plain words", k.Line, prefix)
		}
		if seen[k.Value] {
			return fmt.Errorf("line %d: duplicate key %s%s", k.Line, prefix, k.Value)
		}
		seen[k.Value] = true
		if err := t.add(prefix+k.Value, v); err != nil {
			return err
		}
	}
	return nil
}

// sequence adds a list of scalars or of mappings under name.
func (t tree) sequence(name string, n *yaml.Node) error {
	var scalars []string
	for i, item := range n.Content {
		switch {
		case item.Kind == yaml.ScalarNode && strings.TrimSpace(item.Value) == "":
			return fmt.Errorf("line %d: %s: an item of the list is empty", item.Line, name)
		case item.Kind == yaml.MappingNode && len(scalars) == 0 && item.Anchor == "":
			t.items[name] = i + 1
			if err := t.mapping(fmt.Sprintf("%s[%d].", name, i), item); err != nil {
				return err
			}
		case item.Kind == yaml.ScalarNode && t.items[name] == 0 && item.Anchor == "":
			scalars = append(scalars, item.Value)
		default:
			return fmt.Errorf("line %d: %s: want a list of values, or a list of keys and values", item.Line, name)
		}
	}
	if scalars != nil {
		t.leaves[name] = leaf{strings.Join(scalars, ","), n.Line}
	}
	return nil
}
