package s3double

import (
	"net/http"
	"time"
)

// Knobs are the differences of a store from Amazon S3. The zero value behaves
// as Amazon S3.
type Knobs struct {
	// Conditions is how the store handles If-Match and If-None-Match on writes.
	Conditions Conditions

	// Locks is the lock that excludes two conditional writes of one key. Delay
	// is how long a front end waits between checking a condition and writing.
	Locks Locks
	Delay time.Duration

	// NoDeleteByTag makes the store answer 501 to If-Match on DeleteObject, as
	// Cloudflare R2 does.
	NoDeleteByTag bool

	// CompleteIgnores is the same as Ignored, but for CompleteMultipartUpload
	// only. CompleteAborts makes the store drop the upload if that condition
	// fails, as R2 does.
	CompleteIgnores bool
	CompleteAborts  bool

	// EqualParts makes the store refuse to complete an upload unless all parts
	// except the last have the same size. The error is that of R2.
	EqualParts bool

	// NoWholeChecksum makes the store answer 501 to a checksum of type
	// FULL_OBJECT, as R2 does.
	NoWholeChecksum bool

	// IgnoreChecksums makes the store neither compare nor keep checksums. It
	// also simulates a gateway that flips a bit of each body that the signature
	// does not cover by x-amz-content-sha256.
	IgnoreChecksums bool

	// RandomETags makes equal bytes get different ETags, as with SSE-KMS.
	RandomETags bool

	// MinPart is the minimum size of all parts except the last, in bytes. It is
	// 5 MiB if zero.
	MinPart int

	// PageSize is the maximum number of entries of a listing. It is 1,000 if
	// zero.
	PageSize int

	// Faults maps the name of an operation to the error that the store answers
	// instead. The name "" means every operation.
	Faults map[string]Fault

	// Skew is how far the store's clock is ahead of this machine's. Responses
	// have that Date, requests are refused if their time differs from it by
	// more than 15 minutes, and URLs expire by it.
	Skew time.Duration

	// Lag splits the store into two regions, "a" and "b". Each region judges
	// conditions by its own contents, and receives the writes of the other
	// region after this time.
	Lag time.Duration

	// Server is the Server header of all responses. It is "AmazonS3" if empty.
	Server string
}

// Conditions is how a store handles If-Match and If-None-Match on writes.
type Conditions int

// How a store can handle conditions.
const (
	Obeyed      Conditions = iota // 412 or 404 if the condition does not hold
	Ignored                       // the write takes place
	Unsupported                   // 501 NotImplemented, as Backblaze B2 answers
)

// Locks is the lock that excludes two conditional writes of one key.
type Locks int

// The locks that a store can have.
const (
	Shared Locks = iota // one lock for all front ends
	Apart               // one lock in each front end
	None                // no lock

	NoneForReplaces // no lock for If-Match, one lock for all front ends for If-None-Match
)

// Fault is an error response of the store.
type Fault struct {
	Status  int
	Code    string
	Message string
	Header  http.Header // further headers
}

// CloudflareR2 returns the knobs of Cloudflare R2.
// https://developers.cloudflare.com/r2/api/s3/api/
func CloudflareR2() Knobs {
	return Knobs{EqualParts: true, NoDeleteByTag: true, NoWholeChecksum: true, CompleteAborts: true, Server: "cloudflare"}
}
