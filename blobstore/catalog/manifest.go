package catalog

import (
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/envelope"
)

// MaxHints is the largest number of tags that a manifest lists in its hints.
const MaxHints = 100

// Manifest describes a manifest of one repository. The bytes of the manifest are
// the raw bytes of the stored body. A deleted manifest has none.
//
// The manifest decides: a tag resolves, and a referrers entry counts, only while
// the manifest can be read. One write of this object therefore makes a manifest, all
// its tags and its entry appear or disappear.
type Manifest struct {
	// ID is random. A manifest gets a new ID when it is created, and each time
	// that it comes back after a deletion. A tag names the ID too, so a tag of
	// an earlier life does not resolve.
	ID string `json:"id"`

	Digest       digest.Digest `json:"digest"` // the digest that the manifest was pushed by, as in its key
	Size         int64         `json:"size"`   // bytes
	MediaType    string        `json:"mediaType"`
	Subject      digest.Digest `json:"subject,omitempty"`
	ArtifactType string        `json:"artifactType,omitempty"`
	State        State         `json:"state"` // Live, Condemned or Deleted

	// Hints are tags that may name this manifest, at most MaxHints. A deletion of
	// the manifest tidies them up. MoreHints means that there were more. Only a tag
	// itself decides what it names.
	Hints     []string `json:"hints,omitempty"`
	MoreHints bool     `json:"moreHints,omitempty"`
}

// StoredManifest is a manifest as it is stored in the bucket.
type StoredManifest = envelope.Stored[Manifest]

// Readable reports whether clients can read the manifest: it is live or condemned.
func (m Manifest) Readable() bool { return m.State == Live || m.State == Condemned }

// Hinted reports whether the hints have all of these tags, or cannot take more.
func (m Manifest) Hinted(tags ...string) bool {
	for _, tag := range tags {
		if !m.MoreHints && !slices.Contains(m.Hints, tag) {
			return false
		}
	}
	return true
}

// WithHints returns m with these tags added to its hints. It shares no memory with
// m's hints.
func (m Manifest) WithHints(tags ...string) Manifest {
	m.Hints = slices.Clone(m.Hints)
	for _, tag := range tags {
		switch {
		case slices.Contains(m.Hints, tag):
		case len(m.Hints) < MaxHints:
			m.Hints = append(m.Hints, tag)
		default:
			m.MoreHints = true
		}
	}
	return m
}

// Tag is the manifest that a tag names. It resolves only while the repository has a
// readable manifest with this digest and ID.
type Tag struct {
	Digest    digest.Digest `json:"digest"`
	ID        string        `json:"id"` // of the manifest
	MediaType string        `json:"mediaType"`
	Size      int64         `json:"size"` // of the manifest, in bytes
}

// StoredTag is a tag as it is stored in the bucket.
type StoredTag = envelope.Stored[Tag]

// Names reports whether the tag names this manifest, in this life of it.
func (t Tag) Names(m Manifest) bool { return t.Digest == m.Digest && t.ID == m.ID }

// TagOf returns the tag that names a manifest.
func TagOf(m Manifest) Tag {
	return Tag{Digest: m.Digest, ID: m.ID, MediaType: m.MediaType, Size: m.Size}
}

// Entry states that a manifest names another one as its subject. It counts only
// while the manifest can be read.
type Entry struct {
	Subject  digest.Digest `json:"subject"`
	Referrer digest.Digest `json:"referrer"`
}

// StoredEntry is a referrers entry as it is stored in the bucket.
type StoredEntry = envelope.Stored[Entry]

// Marker states that a repository has, or had, manifests. Repositories without a
// marker are not listed.
type Marker struct {
	State State `json:"state"` // Live or Condemned

	// Collect means that the collector may remove links of this repository that no
	// manifest names. Only the collector sets it, after it has read a manifest there
	// that is old enough: a repository that is used for blobs alone keeps them.
	Collect bool `json:"collect,omitempty"`
}

// StoredMarker is a marker as it is stored in the bucket.
type StoredMarker = envelope.Stored[Marker]
