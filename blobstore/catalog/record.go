package catalog

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/envelope"
)

// State is what may be done with a blob or a manifest.
type State string

// States of a record, a link, a manifest and a marker.
const (
	// Live means that the blob can be read and linked.
	Live State = "live"

	// Condemned means that nothing names the blob or the manifest, and that the
	// collector is about to remove it. A request that relies on it makes it live
	// again first.
	Condemned State = "condemned"

	// Unverified means that the blob was adopted from another registry, and that
	// its bytes were not hashed here. It can be read where it is linked already.
	// A push replaces its data.
	Unverified State = "unverified"

	// Damaged means that the bytes are known to be wrong. The blob cannot be
	// read. A push replaces its data.
	Damaged State = "damaged"

	// Deleted means that a client deleted the manifest. It reads as absent, and
	// its bytes are gone. Only manifests have this state.
	Deleted State = "deleted"
)

// Record describes a blob, and where its bytes are. A push creates it, only if it
// is absent, once the bytes are durable. The blob exists from that moment.
//
// A link is a copy of the record under the name of a repository, so that a read
// costs one request. It lets the repository read the blob.
//
// If Data is empty, the bytes are the raw bytes of the stored body.
type Record struct {
	ID        string        `json:"id"`     // random; kept for as long as the record exists
	Digest    digest.Digest `json:"digest"` // canonical
	Size      int64         `json:"size"`   // bytes
	MediaType string        `json:"mediaType"`
	CRC32C    uint32        `json:"crc"`
	Created   time.Time     `json:"created"`
	State     State         `json:"state"`
	Data      string        `json:"data,omitempty"` // data key

	// Condemned is a mark of links only: no manifest of the repository names the
	// blob, and the collector is about to remove the link. It reads as before. A
	// request that relies on the link takes the mark off first.
	Condemned bool `json:"condemned,omitempty"`
}

// StoredRecord is a record or a link as it is stored in the bucket.
type StoredRecord = envelope.Stored[Record]

// Agrees reports whether link is a current copy of the record: it has the same
// id, data key and state, and the link is not condemned.
func (r Record) Agrees(link Record) bool {
	return r.ID == link.ID && r.Data == link.Data && r.State == link.State && !link.Condemned
}

// Alias maps the digest in its key, which is of another algorithm, to the canonical
// digest of the same bytes. It grants nothing: a read still needs the link.
type Alias struct {
	Digest digest.Digest `json:"digest"` // canonical

	// Condemned means that the collector is about to remove the alias. It reads as
	// before. A request that relies on the alias takes the mark off first.
	Condemned bool `json:"condemned,omitempty"`
}

// StoredAlias is an alias as it is stored in the bucket.
type StoredAlias = envelope.Stored[Alias]

// Dead is a dead entry. It names data of the blob with this canonical digest that a
// push has replaced. The collector deletes the data once no record, link or open upload
// names it.
type Dead struct {
	Digest digest.Digest `json:"digest"`
	Data   string        `json:"data"` // data key
}
