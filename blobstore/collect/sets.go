package collect

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
)

// digestSet is a set of hashes, in 32 bytes each. It sorts when it is asked.
type digestSet struct {
	all    [][32]byte
	sorted int // the first of all are sorted, each once
}

func compareSums(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) }

func (s *digestSet) add(d [32]byte) {
	s.all = append(s.all, d)
	if len(s.all) > 2*s.sorted+1024 { // most are added several times
		s.sort()
	}
}

func (s *digestSet) sort() {
	slices.SortFunc(s.all, compareSums)
	s.all = slices.Compact(s.all)
	s.sorted = len(s.all)
}

func (s *digestSet) has(d [32]byte) bool {
	if s.sorted < len(s.all) {
		s.sort()
	}
	_, ok := slices.BinarySearchFunc(s.all, d, compareSums)
	return ok
}

// knownManifest is a manifest that can be read.
type knownManifest struct {
	digest [32]byte
	id     [16]byte // of a hash of the id
	old    bool     // it is live, and older than a grace
}

// knownManifests are the manifests of a repository that can be read. They are looked up
// once they are sorted.
type knownManifests struct {
	all   []knownManifest
	other map[[32]byte]digest.Digest // those of other algorithms
}

func idHash(id string) (short [16]byte) {
	full := sha256.Sum256([]byte(id))
	copy(short[:], full[:])
	return short
}

func (k *knownManifests) add(d digest.Digest, id string, old bool) {
	m := knownManifest{sum(d), idHash(id), old}
	k.all = append(k.all, m)
	if d.Algorithm() != digest.Canonical {
		if k.other == nil {
			k.other = map[[32]byte]digest.Digest{}
		}
		k.other[m.digest] = d
	}
}

func (k *knownManifests) sort() {
	slices.SortFunc(k.all, func(a, b knownManifest) int { return compareSums(a.digest, b.digest) })
}

func (k *knownManifests) find(d digest.Digest) (knownManifest, bool) {
	i, ok := slices.BinarySearchFunc(k.all, sum(d), func(m knownManifest, d [32]byte) int { return compareSums(m.digest, d) })
	if !ok {
		return knownManifest{}, false
	}
	return k.all[i], true
}

func (k *knownManifests) has(d digest.Digest) bool {
	_, ok := k.find(d)
	return ok
}

// resolves reports whether the tag resolves to one of the manifests.
func (k *knownManifests) resolves(t catalog.Tag) bool {
	m, ok := k.find(t.Digest)
	return ok && m.id == idHash(t.ID)
}

// digestOf returns the digest of one of the manifests.
func (k *knownManifests) digestOf(m knownManifest) digest.Digest {
	if d, ok := k.other[m.digest]; ok {
		return d
	}
	return digest.NewDigestFromBytes(digest.Canonical, m.digest[:])
}
