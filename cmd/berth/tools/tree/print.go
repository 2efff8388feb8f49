package tree

import (
	"fmt"
	"io"
	"strings"

	"github.com/docker/go-units"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Size returns a number of bytes for people, such as 1.5MiB.
func Size(n int64) string { return units.BytesSize(float64(n)) }

// Print prints the tree, with the totals of its nodes. The root has this name.
func Print(w io.Writer, name string, n *Node) error {
	p := &printer{w: w}
	p.line("", name, n)
	p.below("", n)
	return p.err
}

type printer struct {
	w   io.Writer
	err error // the first one
}

func (p *printer) line(indent, label string, n *Node) {
	parts := []string{label, string(n.Digest), Size(n.Total), n.describe()}
	switch {
	case n.Missing:
		parts[2] = "missing"
	case n.Foreign:
		parts[2] = "foreign"
	}
	if _, err := fmt.Fprintln(p.w, indent+strings.Join(parts, "  ")); p.err == nil {
		p.err = err
	}
}

// describe returns what the node is: the type of an artifact or a blob, and the kind of
// other manifests.
func (n *Node) describe() string {
	switch {
	case n.Kind != Index && n.Kind != Image:
		return n.MediaType
	case n.ArtifactType == "" || n.ArtifactType == ocispec.MediaTypeImageConfig || n.ArtifactType == dockerConfig:
		return string(n.Kind)
	}
	return n.ArtifactType
}

// dockerConfig is the media type of the configs of Docker's images
// (https://github.com/distribution/distribution/blob/main/docs/content/spec/manifest-v2-2.md).
const dockerConfig = "application/vnd.docker.container.image.v1+json"

// below prints what is below a node.
func (p *printer) below(indent string, n *Node) {
	total := len(n.Children) + len(n.Referrers)
	for i := range total {
		branch, next := "├── ", "│   "
		if i == total-1 {
			branch, next = "└── ", "    "
		}
		var child *Node
		var name string
		if i < len(n.Children) {
			child = n.Children[i]
			name = label(child)
		} else {
			child = n.Referrers[i-len(n.Children)]
			name = "referrer"
		}
		p.line(indent+branch, name, child)
		p.below(indent+next, child)
	}
}

// label returns what distinguishes a child from its siblings.
func label(n *Node) string {
	switch {
	case n.Platform != "":
		return n.Platform
	case n.Title != "":
		return fmt.Sprintf("%s %q", n.Kind, n.Title)
	}
	return string(n.Kind)
}
