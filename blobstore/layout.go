package blobstore

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
)

// layout makes every key that berth has in the bucket:
//
//	blobs/sha256/<xx>/<hex>/record         the blob: where its bytes are
//	blobs/sha256/<xx>/<hex>/links/<name>   the link: this repository may read it
//	aliases/<alg>/<xx>/<hex>               a digest of another algorithm
//	data/sha256/<xx>/<hex>/<id>            bytes whose digest was known first
//	data/new/<xx>/<id>                     bytes whose digest was not
//	uploads/<upload-id>/<seq>              an upload's session records
//	meta/format, meta/token-key            written once
//	meta/dead/<id>                         data that nothing names any more
//
// xx is the first two digits of what follows it. In a link's name "/" is
// written "!", which no repository's name has. All keys of one digest are
// together, links before the record, and no key is another's directory.
type layout struct{}

const (
	blobsPrefix = "blobs/"
	formatKey   = "meta/format"
)

func (layout) record(d digest.Digest) string { return blobDir(d) + "record" }

func (l layout) link(d digest.Digest, repository string) string {
	return l.links(d) + strings.ReplaceAll(repository, "/", "!")
}

func (layout) links(d digest.Digest) string { return blobDir(d) + linksDir }

// holder is the repository of a link, by its key.
func (layout) holder(key string) string {
	return strings.ReplaceAll(key[strings.LastIndexByte(key, '/')+1:], "!", "/")
}

const linksDir = "links/"

func blobDir(d digest.Digest) string {
	h := d.Encoded()
	return blobsPrefix + d.Algorithm().String() + "/" + h[:2] + "/" + h + "/"
}

// linked takes the key of a link apart: the digest, and whether it is one.
func (layout) linked(key string) (digest.Digest, bool) {
	rest, ok := strings.CutPrefix(key, blobsPrefix)
	if !ok {
		return "", false
	}
	f := strings.SplitN(rest, "/", 4)
	if len(f) != 4 || !strings.HasPrefix(f[3], linksDir) {
		return "", false
	}
	d := digest.NewDigestFromEncoded(digest.Algorithm(f[0]), f[2])
	return d, d.Validate() == nil
}

func (layout) alias(d digest.Digest) string {
	h := d.Encoded()
	return "aliases/" + d.Algorithm().String() + "/" + h[:2] + "/" + h
}

func (layout) dead() string { return "meta/dead/" + randomID() }

// Data, Session, SessionRecord and TokenKey make it an upload.Layout.

func (layout) Data(canonical digest.Digest) string {
	id := randomID()
	if canonical == "" {
		return drivers.BulkPrefix + "new/" + id[:2] + "/" + id
	}
	h := canonical.Encoded()
	return drivers.BulkPrefix + canonical.Algorithm().String() + "/" + h[:2] + "/" + h + "/" + id
}

func (layout) Session(id string) string { return "uploads/" + id + "/" }

func (l layout) SessionRecord(id string, seq int) string {
	return fmt.Sprintf("%s%08d", l.Session(id), seq)
}

func (layout) TokenKey() string { return "meta/token-key" }

// randomID is 128 bits, as hexadecimal digits.
func randomID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
