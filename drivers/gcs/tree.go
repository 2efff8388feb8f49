package gcs

import (
	"github.com/berthhq/berth/drivers"
)

// maxSources is the most sources of a compose:
// https://cloud.google.com/storage/docs/composite-objects.
const maxSources = 32

// A node is a part or, if it has sources, what is composed of them.
type node struct {
	key     string
	size    int64
	crc32c  uint32
	sources []*node
	parent  *node // nil for the root

	generation int64 // of a part, by its tag
}

// plan is the tree that makes u of the parts. Its shape follows from how many
// there are, so everybody who completes the upload makes the same nodes. It has
// as few as there can be: all but one have 32 sources.
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

// build makes the tree of some leaves, and the parts that they are.
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

// split gives the sizes of the 32 subtrees of n > 32 leaves. With full the
// largest power of 32 below n, a full tree of full/32 leaves is the least that
// each of them is, and one of full leaves the most. All but one are full, so
// only one of them, and only one node in it, and so on down, has fewer sources
// than 32.
func split(n int) func(yield func(int) bool) {
	full := maxSources
	for full*maxSources < n {
		full *= maxSources
	}
	least := full / maxSources
	return func(yield func(int) bool) {
		rest := n - full // what is left when each has the least
		for range maxSources {
			more := min(rest, full-least)
			rest -= more
			if !yield(least + more) {
				return
			}
		}
	}
}

// composes is how many requests make the tree.
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
