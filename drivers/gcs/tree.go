package gcs

import (
	"github.com/berthhq/berth/drivers"
)

// maxSources is the maximum number of sources of a compose:
// https://cloud.google.com/storage/docs/composite-objects.
const maxSources = 32

// A node is a part or, if it has sources, the object composed of them.
type node struct {
	key     string
	size    int64
	crc32c  uint32
	sources []*node
	parent  *node // nil for the root

	generation int64 // of a part, by its tag
}

// plan returns the tree that completes u from the parts. Its shape depends only
// on the number of parts, so all replicas create the same nodes. The number of
// nodes is minimal: all but one have 32 sources. It returns ErrChanged if a tag
// is not valid.
func plan(u drivers.Upload, parts []drivers.Part) (*node, error) {
	leaves := make([]*node, len(parts))
	for i, p := range parts {
		a, ok := parseAttempt(p.Tag)
		if !ok {
			return nil, errTag(p)
		}
		leaves[i] = &node{key: partKey(u, p.Number, a.id), size: p.Size, crc32c: p.CRC32C, generation: a.generation}
	}
	root := build(u, parts, leaves)
	root.key = u.Key
	return root, nil
}

// build returns the tree of the leaves, which are these parts.
func build(u drivers.Upload, parts []drivers.Part, leaves []*node) *node {
	n := &node{key: nodeKey(u, parts[0].Number, parts[len(parts)-1].Number)}
	if len(leaves) <= maxSources {
		n.sources = leaves
	} else {
		for size := range split(len(leaves)) {
			if size == 1 {
				n.sources = append(n.sources, leaves[0])
			} else {
				n.sources = append(n.sources, build(u, parts[:size], leaves[:size]))
			}
			parts, leaves = parts[size:], leaves[size:]
		}
	}
	for _, s := range n.sources {
		s.parent = n
		n.size += s.size
		n.crc32c = drivers.CombineCRC32C(n.crc32c, s.crc32c, s.size)
	}
	return n
}

// split returns the sizes of the 32 subtrees of n > 32 leaves. full is the
// largest power of 32 below n. Each subtree has at least full/32 leaves, and at
// most full; a subtree of either size is a full tree. All subtrees but one are
// full, so only one subtree, only one node in it, and so on down, has fewer
// than 32 sources.
func split(n int) func(yield func(int) bool) {
	full := maxSources
	for full*maxSources < n {
		full *= maxSources
	}
	least := full / maxSources
	return func(yield func(int) bool) {
		rest := n - full // the leaves that remain when each subtree has the least
		for range maxSources {
			more := min(rest, full-least)
			rest -= more
			if !yield(least + more) {
				return
			}
		}
	}
}

// composes returns the number of requests that the tree takes.
func (n *node) composes() int {
	if n.sources == nil {
		return 0
	}
	sum := 1
	for _, s := range n.sources {
		sum += s.composes()
	}
	return sum
}
