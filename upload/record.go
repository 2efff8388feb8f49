package upload

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
)

// kind is what a session record says.
type kind string

const (
	// kindOpen: bytes came; this is where it stands. The raw bytes are the
	// tail, what came past the last part.
	kindOpen kind = "open"

	// kindCommitted and kindCancelled end a session. Nothing is created after
	// them.
	kindCommitted kind = "committed"
	kindCancelled kind = "cancelled"

	// kindSpent takes the place of an open record that is no longer needed,
	// and says how the session ended.
	kindSpent kind = "spent"
)

// record is one link of the chain uploads/<id>/1, 2, …, each created only if
// absent. Creating one is the only way to go on, to commit and to cancel, so of
// two requests that go on from the same record one loses, and nothing is ever
// locked. A number is never used twice: only the collector deletes records, and
// a whole session at once.
type record struct {
	Kind       kind             `json:"kind"`
	Repository string           `json:"repository"`
	Started    time.Time        `json:"started"`
	Algorithm  digest.Algorithm `json:"algorithm"`

	// Upload is where the parts are, if any was stored; on the records that
	// end a session too, for the collector. Committed has the Parts where no
	// record before it does.
	Upload *drivers.Upload `json:"upload,omitempty"`
	Sizes  sizes           `json:"sizes,omitzero"`
	Parts  []drivers.Part  `json:"parts,omitempty"`

	Offset int64     `json:"offset"` // bytes so far, the tail among them
	Hashes hashState `json:"hashes,omitzero"`

	// Of committed, and of spent if the session ended so: the canonical
	// digest, and the one that the client named if that is another.
	Digest digest.Digest `json:"digest,omitempty"`
	Named  digest.Digest `json:"named,omitempty"`

	// CRC32C is of the tail, in an open record, and of the whole in committed.
	CRC32C uint32 `json:"crc,omitempty"`
	End    int    `json:"end,omitempty"` // of spent: the number of the record that ended the session
}

// checksum is the CRC-32C of the parts, one after the other.
func checksum(parts []drivers.Part) uint32 {
	var crc uint32
	for _, p := range parts {
		crc = drivers.CombineCRC32C(crc, p.CRC32C, p.Size)
	}
	return crc
}
