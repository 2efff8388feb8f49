package config

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// WriteYAML writes the configuration as a file that --config takes, with a
// comment at each value that says where it came from. REDACTED stands for
// secrets, and --config refuses it.
func (c *Config) WriteYAML(w io.Writer) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, k := range c.table {
		n := k.value.node()
		if k.secret && n.Value != "" {
			n.Value = redacted
		}
		n.LineComment = "# " + k.origin
		path := strings.Split(k.name, ".")
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

// descend goes to the member of that name, which is the last one or is made
// now. A number makes n a list.
func descend(n *yaml.Node, name string) *yaml.Node {
	if i, err := strconv.Atoi(name); err == nil {
		n.Kind = yaml.SequenceNode
		if i == len(n.Content) {
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.MappingNode})
		}
		return n.Content[i]
	}
	if last := len(n.Content) - 1; last > 0 && n.Content[last-1].Value == name {
		return n.Content[last]
	}
	member := &yaml.Node{Kind: yaml.MappingNode}
	n.Content = append(n.Content, scalar(name), member)
	return member
}

// alignComments puts the comments at the ends of lines under one another, as
// far as the lines are not too long.
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

// WriteReference writes a table of all keys in Markdown, for the README.
func WriteReference(w io.Writer) error {
	c := &Config{Redirect: Redirect{CDN: map[string]*CDN{"NAME": {}}, Rules: make([]Rule, 1)}}
	lines := []string{"| key | default | what it is |", "|---|---|---|"}
	for _, k := range keys(c) {
		name := strings.NewReplacer(".rules.0.", ".rules[].", ".NAME.", ".<name>.").Replace(k.name)
		def := ""
		if s := k.value.String(); s != "" {
			def = "`" + s + "`"
		}
		help := k.help
		if want := k.value.wants(); strings.HasPrefix(want, "one of ") {
			help += " (" + want + ")"
		}
		if k.flag != "" {
			help += "; `--" + k.flag + "`"
		}
		lines = append(lines, fmt.Sprintf("| `%s` | %s | %s |", name, def, help))
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}
