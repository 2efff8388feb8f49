package s3double

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"net/http"

	"github.com/berthhq/berth/drivers"
)

const (
	headerCRC32C = "X-Amz-Checksum-Crc32c"
	headerSHA256 = "X-Amz-Checksum-Sha256"
)

func encodeCRC32C(crc uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
}

func encodeSHA256(data []byte) string {
	s := sha256.Sum256(data)
	return base64.StdEncoding.EncodeToString(s[:])
}

func encodeMD5(data []byte) string {
	s := md5.Sum(data)
	return base64.StdEncoding.EncodeToString(s[:])
}

// checked compares the body with the checksums in the request's headers, and
// returns the headers that the store keeps.
func (c *call) checked() (http.Header, error) {
	kept := make(http.Header)
	if c.knobs.IgnoreChecksums {
		return kept, nil
	}
	for name, compute := range map[string]func([]byte) string{
		headerCRC32C:  func(data []byte) string { return encodeCRC32C(drivers.UpdateCRC32C(0, data)) },
		headerSHA256:  encodeSHA256,
		"Content-Md5": encodeMD5,
	} {
		switch stated := c.r.Header.Get(name); {
		case stated == "":
		case stated != compute(c.body):
			return nil, fault(http.StatusBadRequest, "BadDigest", "The "+name+" you specified did not match what we received.")
		default:
			kept.Set(name, stated)
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
