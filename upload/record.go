package upload

import (
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
)

// sessionRecord is one record of the chain uploads/<id>/1, 2, …: see the package
// documentation. A record without Refs holds all parts and the whole tail.
type sessionRecord struct {
	Kind       Kind             `json:"kind"`
	Repository string           `json:"repository"`
	Started    time.Time        `json:"started"`
	Algorithm  digest.Algorithm `json:"algorithm"`

	// Refs are the earlier records that hold the parts and the bytes of the
	// tail before those in this record, oldest first.
	Refs []ref `json:"refs,omitempty"`

	// Upload is where the parts are, if any was stored. The records that end a
	// session have it too, for the collector. Parts are the parts that the record
	// holds. A committed record has Parts only if no record before it has any.
	Upload *drivers.Upload `json:"upload,omitempty"`
	Sizes  sizes           `json:"sizes,omitzero"`
	Parts  []drivers.Part  `json:"parts,omitempty"`

	// PartsCRC is the CRC-32C of all parts, in a record with Refs.
	PartsCRC uint32 `json:"parts_crc,omitempty"`

	Offset int64     `json:"offset"` // bytes of the upload so far, the tail included
	Hashes hashState `json:"hashes,omitzero"`

	// Digest is the canonical digest of a session that was committed.
	// RequestedDigest is the digest that the client requested, if that is another
	// one. Committed records have them, and the records that a commit has spent.
	Digest          digest.Digest `json:"digest,omitempty"`
	RequestedDigest digest.Digest `json:"named,omitempty"`

	// CRC32C is the checksum of the raw bytes in an open record, and of the whole
	// content in a committed record.
	CRC32C uint32 `json:"crc,omitempty"`
	End    int    `json:"end,omitempty"` // in a spent record: the number of the record that ended the session
}

// cancelled returns the record that cancels a session after r. If r is zero, the
// session has no record.
func (r sessionRecord) cancelled() sessionRecord {
	return sessionRecord{Kind: KindCancelled, Upload: r.Upload, Offset: r.Offset}
}

// check returns an error if the record number seq, with rawSize raw bytes, cannot
// have been created by this package.
func (r sessionRecord) check(seq int, rawSize int64) error {
	last, left := 0, r.Offset-rawSize
	for _, f := range r.Refs {
		if f.Seq <= last || f.Seq >= seq || f.Raw > left {
			return fmt.Errorf("upload: session record %d: wrong reference to %d", seq, f.Seq)
		}
		last, left = f.Seq, left-f.Raw
	}
	if left < 0 || len(r.Refs) > maxRefs {
		return fmt.Errorf("upload: session record %d: %d references and %d raw bytes, at offset %d", seq, len(r.Refs), rawSize, r.Offset)
	}
	return nil
}
