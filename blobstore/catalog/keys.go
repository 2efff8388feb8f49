package catalog

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
)

// Prefixes of all keys in the bucket, besides [drivers.BulkPrefix] (the data of
// blobs), [drivers.PartsPrefix] (reserved for drivers) and those of repositories.
const (
	BlobsPrefix   = "blobs/"   // records and links
	AliasesPrefix = "aliases/" // aliases
	UploadsPrefix = "uploads/" // session records of uploads
	MetaPrefix    = "meta/"    // the objects that belong to no blob
)

// Keys and prefixes under [MetaPrefix].
const (
	// FormatKey is the key of the format marker. Every bucket that was opened
	// once has it.
	FormatKey = MetaPrefix + "format"

	// TokenKey is the key of the secret that signs the tokens of uploads. A CDN
	// must not serve it.
	TokenKey = MetaPrefix + "token-key"

	// SigningKey is the key of the secret that signs the tokens of clients. A CDN
	// must not serve it.
	SigningKey = MetaPrefix + "signing-key"

	// DeadPrefix is the prefix of dead entries.
	DeadPrefix = MetaPrefix + "dead/"

	// CollectPrefix is the prefix of the state of the collector.
	CollectPrefix = MetaPrefix + "gc/"

	// FinishedKey is the key of what the last finished run of the collector has read.
	FinishedKey = CollectPrefix + "finished"

	// WalkedKey is the key of how far the collector has compared data with records.
	WalkedKey = CollectPrefix + "walked"

	// LeaseKey is the key of the lease of the replica that runs the collector.
	LeaseKey = CollectPrefix + "lease"

	// CheckPrefix is the prefix of the objects that berth check stores to try
	// the bucket out. No other process reads them.
	CheckPrefix = MetaPrefix + "check/"
)

// NamedDataPrefix is the prefix of the data with its digest in its key.
const NamedDataPrefix = drivers.BulkPrefix + "sha256/"

// ExampleDataKey has the form of a data key, but no object has it. Sign a URL for it
// to find out how a read of some blob would be redirected.
const ExampleDataKey = drivers.BulkPrefix + "sha256/00/example"

const (
	linksDir   = "links/"
	recordName = "record"
)

// RecordKey returns the key of the record of the blob with this canonical digest.
// It is the last of the blob's keys under [BlobsPrefix].
func RecordKey(d digest.Digest) string { return blobDir(d) + recordName }

// ParseRecordKey reports whether key is the key of a record, and returns the
// canonical digest in it.
func ParseRecordKey(key string) (d digest.Digest, ok bool) {
	d, name, ok := splitBlobKey(key)
	if !ok || name != recordName {
		return "", false
	}
	return d, true
}

// LinkKey returns the key of a repository's link to the blob with this canonical
// digest.
func LinkKey(d digest.Digest, repository string) string {
	return LinksPrefix(d) + encodeName(repository)
}

// LinksPrefix returns the prefix of all links to the blob with this canonical
// digest.
func LinksPrefix(d digest.Digest) string { return blobDir(d) + linksDir }

// ParseLinkKey reports whether key is the key of a link, and returns the canonical
// digest and the repository in it.
func ParseLinkKey(key string) (d digest.Digest, repository string, ok bool) {
	d, name, ok := splitBlobKey(key)
	name, isLink := strings.CutPrefix(name, linksDir)
	if !ok || !isLink {
		return "", "", false
	}
	return d, decodeName(name), true
}

// AliasKey returns the key of the alias of a digest of another algorithm than the
// canonical one.
func AliasKey(d digest.Digest) string { return AliasesPrefix + digestDir(d) }

// NewDeadKey returns a new key for a dead entry.
func NewDeadKey() string { return DeadPrefix + NewID() }

// NewDataKey returns a new data key, for bytes with the canonical digest d, or for
// bytes of unknown digest if d is empty. No two calls return the same key.
func NewDataKey(d digest.Digest) string {
	id := NewID()
	if d == "" {
		return drivers.BulkPrefix + "new/" + id[:2] + "/" + id
	}
	return drivers.BulkPrefix + digestDir(d) + "/" + id
}

// ParseDataKey reports whether key is the key of data with its digest in the key, and
// returns the canonical digest.
func ParseDataKey(key string) (d digest.Digest, ok bool) {
	rest, ok := strings.CutPrefix(key, NamedDataPrefix)
	f := strings.Split(rest, "/")
	if !ok || len(f) != 3 || f[2] == "" {
		return "", false
	}
	d = digest.NewDigestFromEncoded(digest.SHA256, f[1])
	return d, d.Validate() == nil && strings.HasPrefix(f[1], f[0])
}

const startName = "/start"

// NewStartKey returns a new key for the start of a run of the collector.
func NewStartKey() string { return CollectPrefix + NewID() + startName }

// IsStartKey reports whether key is the key of the start of a run of the collector.
func IsStartKey(key string) bool {
	return strings.HasPrefix(key, CollectPrefix) && strings.HasSuffix(key, startName)
}

// NewID returns 128 random bits as hexadecimal digits.
func NewID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Layout makes the keys that package upload needs. It implements upload.Layout.
type Layout struct{}

// Sessions returns the prefix of the session records of all uploads.
func (Layout) Sessions() string { return UploadsPrefix }

// Session returns the prefix of the session records of one upload.
func (Layout) Session(id string) string { return UploadsPrefix + id + "/" }

// SessionRecord returns the key of session record number seq. Keys sort by
// number.
func (l Layout) SessionRecord(id string, seq int) string {
	return fmt.Sprintf("%s%08d", l.Session(id), seq)
}

// Data returns a new data key, as NewDataKey does.
func (Layout) Data(canonical digest.Digest) string { return NewDataKey(canonical) }

// TokenKey returns the key of the secret that signs tokens.
func (Layout) TokenKey() string { return TokenKey }

// blobDir returns the prefix of all keys of one blob under BlobsPrefix.
func blobDir(d digest.Digest) string { return BlobsPrefix + digestDir(d) + "/" }

// digestDir returns <alg>/<xx>/<hex>.
func digestDir(d digest.Digest) string {
	h := d.Encoded()
	return d.Algorithm().String() + "/" + h[:2] + "/" + h
}

// splitBlobKey returns the digest in a key under BlobsPrefix, and the rest of the
// key after it.
func splitBlobKey(key string) (d digest.Digest, rest string, ok bool) {
	key, ok = strings.CutPrefix(key, BlobsPrefix)
	if !ok {
		return "", "", false
	}
	f := strings.SplitN(key, "/", 4)
	if len(f) != 4 {
		return "", "", false
	}
	d = digest.NewDigestFromEncoded(digest.Algorithm(f[0]), f[2])
	return d, f[3], d.Validate() == nil
}
