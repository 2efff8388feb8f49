package config

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// WriteYAML writes the configuration as a file for --config, with the source of
// each value in a comment. It replaces secrets with REDACTED, which Load does not
// accept as a secret.
func (c *Config) WriteYAML(w io.Writer) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, k := range c.table {
		name, shown := c.nameInFile(k)
		if !shown {
			continue
		}
		n := k.value.node()
		if k.secret && n.Value != "" {
			n.Value = redacted
		}
		n.LineComment = "# " + k.origin
		path := strings.Split(name, ".")
		section := root
		for _, name := range path[:len(path)-1] {
			section = descend(section, name)
		}
		section.Content = append(section.Content, scalar(path[len(path)-1]), n)
	}
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		return err
	}
	return alignComments(w, text.String())
}

// nameInFile returns the name under which WriteYAML writes a key, and reports
// whether WriteYAML writes the key at all. A key that can also be a map (listen) is
// written as a value if all other keys of the map have their defaults. WriteYAML leaves
// out the keys of the second bucket if there is none, and they have their defaults.
func (c *Config) nameInFile(k key) (name string, shown bool) {
	if strings.HasPrefix(k.name, "storage.data.") && k.origin == "default" && !c.isSet("storage.data.driver") {
		return k.name, false
	}
	for _, m := range c.table {
		if m.inMap == "" || k.name != m.name && !strings.HasPrefix(k.name, m.name+".") {
			continue
		}
		isSet := func(other key) bool { return strings.HasPrefix(other.name, m.name+".") && other.origin != "default" }
		switch needsMap := slices.ContainsFunc(c.table, isSet); {
		case k.name != m.name:
			return k.name, needsMap
		case needsMap:
			return m.inMap, true
		}
	}
	return k.name, true
}

// isSet reports whether the key with this name has another value than its default.
func (c *Config) isSet(name string) bool {
	return slices.ContainsFunc(c.table, func(k key) bool { return k.name == name && k.origin != "default" })
}

// descend returns the last member of n if it has this name. Otherwise it adds a
// member and returns it. The name "rules[0]" is the first item of the list "rules".
func descend(n *yaml.Node, name string) *yaml.Node {
	name, index, isList := strings.Cut(strings.TrimSuffix(name, "]"), "[")
	last := len(n.Content) - 1
	if last < 0 || n.Content[last-1].Value != name {
		n.Content = append(n.Content, scalar(name), &yaml.Node{Kind: yaml.MappingNode})
		last += 2
	}
	member := n.Content[last]
	if !isList {
		return member
	}
	member.Kind = yaml.SequenceNode
	if index == strconv.Itoa(len(member.Content)) {
		member.Content = append(member.Content, &yaml.Node{Kind: yaml.MappingNode})
	}
	return member.Content[len(member.Content)-1]
}

// alignComments writes text with the comments at the ends of lines in one column.
// Comments on long lines stay where they are.
func alignComments(w io.Writer, text string) error {
	const widest = 48
	width := 0
	for line := range strings.Lines(text) {
		if i := strings.LastIndex(line, " # "); i <= widest {
			width = max(width, i)
		}
	}
	for line := range strings.Lines(text) {
		if i := strings.LastIndex(line, " # "); i >= 0 {
			line = fmt.Sprintf("%-*s%s", width, line[:i], line[i:])
		}
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
	}
	return nil
}
