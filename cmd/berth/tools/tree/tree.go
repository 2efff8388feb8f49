// Package tree reads a manifest with everything that it refers to, and prints it as a
// tree.
package tree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/manifest"
)

// MaxNodes is the largest number of nodes of a tree. Indexes can name the same manifests
// again and again, so that a small bucket can have a huge tree.
const MaxNodes = 100_000

// ErrTooLarge reports that a tree has more than MaxNodes nodes.
var ErrTooLarge = fmt.Errorf("the tree has more than %d nodes", MaxNodes)

// Kind is what a node is in its parent.
type Kind string

// Kinds of nodes. A referrer has the kind of its manifest.
const (
	Index  Kind = "index"
	Image  Kind = "image"
	Config Kind = "config"
	Layer  Kind = "layer"
	Blob   Kind = "blob"
)

// Node is a manifest or a blob.
type Node struct {
	Kind         Kind          `json:"kind"`
	Digest       digest.Digest `json:"digest"`
	Size         int64         `json:"size"`  // bytes, of the manifest or blob itself
	Total        int64         `json:"total"` // bytes, see addTotals
	MediaType    string        `json:"mediaType"`
	ArtifactType string        `json:"artifactType,omitempty"` // of a manifest
	Platform     string        `json:"platform,omitempty"`     // as the index names it
	Title        string        `json:"title,omitempty"`        // of a file, from its annotation

	// Missing means that the repository does not have the manifest. Foreign means that
	// clients fetch the layer from elsewhere. Neither counts in totals.
	Missing bool `json:"missing,omitempty"`
	Foreign bool `json:"foreign,omitempty"`

	Children  []*Node `json:"children,omitempty"`
	Referrers []*Node `json:"referrers,omitempty"`
}

// Options select the nodes of a tree.
type Options struct {
	Blobs     bool // configs, layers and other blobs; without them they still count in totals
	Referrers bool // the manifests that have a node as their subject
}

// Read returns the tree of the manifest with this digest. It reads each manifest in the
// tree, and no blob. It returns blobstore.ErrManifestUnknown if the repository does not
// have the manifest, and ErrTooLarge. Another manifest that the repository does not have
// is a node that is missing.
func Read(ctx context.Context, repo *blobstore.Repository, d digest.Digest, options Options) (*Node, error) {
	r := &reader{manifests: repo.Manifests(), referrers: options.Referrers}
	root := &Node{Digest: d}
	if err := r.read(ctx, root); err != nil {
		return nil, err
	}
	root.addTotals()
	if !options.Blobs {
		root.prune()
	}
	return root, nil
}

type reader struct {
	manifests *blobstore.Manifests
	referrers bool
	nodes     int
}

// document is what a node takes from the bytes of a manifest.
type document struct {
	ArtifactType string                 `json:"artifactType"`
	Config       *blobstore.Descriptor  `json:"config"`
	Layers       []blobstore.Descriptor `json:"layers"`
	Blobs        []blobstore.Descriptor `json:"blobs"`
	Manifests    []blobstore.Descriptor `json:"manifests"`
}

// read completes a node that has the digest of a manifest.
func (r *reader) read(ctx context.Context, n *Node) error {
	if r.nodes++; r.nodes > MaxNodes {
		return ErrTooLarge
	}
	m, err := r.manifests.Get(ctx, n.Digest)
	if err != nil {
		return err
	}
	n.Kind, n.Size, n.MediaType = kindOf(m.MediaType), m.Size, m.MediaType
	parsed, err := manifest.Parse(m.MediaType, m.Content)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", n.Digest, err)
	}
	n.ArtifactType = parsed.ArtifactType
	var doc document
	if err := json.Unmarshal(m.Content, &doc); err != nil {
		return fmt.Errorf("manifest %s: %w", n.Digest, err)
	}
	if err := r.addBlobs(n, doc, parsed); err != nil {
		return err
	}
	for _, desc := range doc.Manifests {
		if err := r.addManifest(ctx, n, desc); err != nil {
			return err
		}
	}
	return r.addReferrers(ctx, n)
}

// addBlobs adds the blobs of an image.
func (r *reader) addBlobs(n *Node, doc document, parsed manifest.Manifest) error {
	foreign := map[digest.Digest]bool{}
	for _, ref := range parsed.References {
		foreign[ref.Digest] = ref.Role == manifest.Foreign
	}
	if doc.Config != nil {
		n.Children = append(n.Children, blobNode(Config, *doc.Config))
	}
	for _, desc := range doc.Layers {
		n.Children = append(n.Children, blobNode(Layer, desc))
	}
	for _, desc := range doc.Blobs {
		n.Children = append(n.Children, blobNode(Blob, desc))
	}
	for _, child := range n.Children {
		child.Foreign = foreign[child.Digest]
	}
	if r.nodes += len(n.Children); r.nodes > MaxNodes {
		return ErrTooLarge
	}
	return nil
}

func blobNode(kind Kind, desc blobstore.Descriptor) *Node {
	return &Node{
		Kind: kind, Digest: desc.Digest, Size: desc.Size, MediaType: desc.MediaType,
		Title: desc.Annotations["org.opencontainers.image.title"],
	}
}

// addManifest adds what an index names: a manifest, or a blob of another type.
func (r *reader) addManifest(ctx context.Context, n *Node, desc blobstore.Descriptor) error {
	if !manifest.IsManifest(desc.MediaType) {
		n.Children = append(n.Children, blobNode(Blob, desc))
		return nil
	}
	child := &Node{Digest: desc.Digest, Platform: platform(desc.Platform)}
	err := r.read(ctx, child)
	if errors.Is(err, blobstore.ErrManifestUnknown) {
		*child = Node{
			Kind: kindOf(desc.MediaType), Digest: desc.Digest, Size: desc.Size, MediaType: desc.MediaType,
			Platform: child.Platform, Missing: true,
		}
		err = nil
	}
	n.Children = append(n.Children, child)
	return err
}

// addReferrers adds the manifests that have n as their subject.
func (r *reader) addReferrers(ctx context.Context, n *Node) error {
	if !r.referrers {
		return nil
	}
	for desc, err := range r.manifests.Referrers(ctx, n.Digest, "") {
		if err != nil {
			return err
		}
		referrer := &Node{Digest: desc.Digest}
		switch err := r.read(ctx, referrer); {
		case errors.Is(err, blobstore.ErrManifestUnknown): // deleted since it was listed
		case err != nil:
			return err
		default:
			n.Referrers = append(n.Referrers, referrer)
		}
	}
	return nil
}

func kindOf(mediaType string) Kind {
	if mediaType == manifest.MediaTypeIndex || mediaType == manifest.MediaTypeDockerList {
		return Index
	}
	return Image
}

// platform returns os/architecture/variant.
func platform(p *blobstore.Platform) string {
	if p == nil {
		return ""
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// addTotals sets the totals of a node and of everything below it: the bytes of the node and
// of all its children, each digest once, without referrers. It is what a client pulls that
// fetches all platforms.
func (n *Node) addTotals() {
	n.Total = n.sum(map[digest.Digest]bool{})
	for _, below := range slices.Concat(n.Children, n.Referrers) {
		below.addTotals()
	}
}

func (n *Node) sum(seen map[digest.Digest]bool) int64 {
	if seen[n.Digest] || n.Missing || n.Foreign {
		return 0
	}
	seen[n.Digest] = true
	total := n.Size
	for _, child := range n.Children {
		total += child.sum(seen)
	}
	return total
}

// prune removes the blobs.
func (n *Node) prune() {
	n.Children = slices.DeleteFunc(n.Children, func(c *Node) bool { return c.Kind != Index && c.Kind != Image })
	for _, below := range slices.Concat(n.Children, n.Referrers) {
		below.prune()
	}
}

// Complete reports whether no manifest below the node is missing.
func (n *Node) Complete() bool {
	for _, child := range n.Children {
		if child.Missing || !child.Complete() {
			return false
		}
	}
	return !n.Missing
}
