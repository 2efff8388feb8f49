package s3double

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"

	"github.com/berthhq/berth/drivers"
)

const (
	headerCRC32C = "X-Amz-Checksum-Crc32c"
	headerSHA256 = "X-Amz-Checksum-Sha256"
)

func encodeSHA256(data []byte) string {
	s := sha256.Sum256(data)
	return base64.StdEncoding.EncodeToString(s[:])
}

func encodeMD5(data []byte) string {
	s := md5.Sum(data)
	return base64.StdEncoding.EncodeToString(s[:])
}

// checkBody compares the body with the checksums in the request's headers, and
// returns these headers, which the store keeps with an object.
func (c *call) checkBody() (http.Header, error) {
	kept := make(http.Header)
	if c.knobs.IgnoreChecksums {
		return kept, nil
	}
	for name, compute := range map[string]func([]byte) string{
		headerCRC32C:  func(data []byte) string { return drivers.EncodeCRC32C(drivers.UpdateCRC32C(0, data)) },
		headerSHA256:  encodeSHA256,
		"Content-Md5": encodeMD5,
	} {
		switch sent := c.r.Header.Get(name); {
		case sent == "":
		case sent != compute(c.body):
			return nil, fault(http.StatusBadRequest, "BadDigest", "The "+name+" you specified did not match what we received.")
		default:
			kept.Set(name, sent)
		}
	}
	return kept, nil
}

// etag returns the ETag of a body with this MD5, with its quotes.
func (c *call) etag(sum [md5.Size]byte) string {
	if c.knobs.RandomETags {
		return `"` + rand.Text() + `"`
	}
	return `"` + hex.EncodeToString(sum[:]) + `"`
}
