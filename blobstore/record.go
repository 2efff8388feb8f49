package blobstore

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/envelope"
)

// state is what may be done with a blob.
type state string

const (
	// live: it can be read and linked.
	live state = "live"

	// condemned: nobody links it, and the collector is about to forget it. A
	// push or mount makes it live again.
	condemned state = "condemned"

	// unverified: it was adopted, and nobody hashed its bytes. It is read
	// where it is linked already; a push keeps its own bytes instead.
	unverified state = "unverified"

	// damaged: its bytes are not what they were. It can't be read; a push
	// heals it.
	damaged state = "damaged"
)

// record is a blob: that it exists, and where its bytes are. It is created, only
// if absent, once the bytes are durable; that is the moment at which the blob
// comes to exist.
//
// A link is a copy of the record under the name of a repository, so that a read
// costs one request. It says that the repository may read the blob.
//
// If Data is empty, the bytes are the raw bytes of the stored body.
type record struct {
	ID        string        `json:"id"` // drawn when it is created, kept as long as it exists
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"` // bytes
	MediaType string        `json:"mediaType"`
	CRC32C    uint32        `json:"crc"`
	Created   time.Time     `json:"created"`
	State     state         `json:"state"`
	Data      string        `json:"data,omitempty"` // data key
}

type storedRecord = envelope.Stored[record]

// agrees says that a link still says what the record says.
func (r record) agrees(link record) bool {
	return r.ID == link.ID && r.Data == link.Data && r.State == link.State
}

func (r record) descriptor() Descriptor {
	return Descriptor{MediaType: r.MediaType, Size: r.Size, Digest: r.Digest}
}

// alias says that a digest of another algorithm, which is its key, is of the
// same bytes as the canonical one. It grants nothing: reading goes on to the
// link.
type alias struct {
	Digest digest.Digest `json:"digest"`
}

type storedAlias = envelope.Stored[alias]

// deadData is data that no record names any more, for the collector to delete.
type deadData struct {
	Digest digest.Digest `json:"digest"`
	Data   string        `json:"data"`
}
