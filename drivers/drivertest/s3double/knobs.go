package s3double

import (
	"net/http"
	"time"
)

// Knobs is what a store does otherwise than Amazon S3. The zero value is Amazon.
type Knobs struct {
	// Conditions is what becomes of If-Match and If-None-Match on writes.
	Conditions Conditions

	// Locks is what excludes two conditional writes of one key, and Delay how
	// long a front end waits between the check of a condition and the write.
	Locks Locks
	Delay time.Duration

	// NoDeleteByTag answers 501 to If-Match on DeleteObject, as Cloudflare R2.
	NoDeleteByTag bool

	// CompleteIgnores is the same as Ignored, for CompleteMultipartUpload only;
	// CompleteAborts drops the upload when that condition fails, as R2 does.
	CompleteIgnores bool
	CompleteAborts  bool

	// EqualParts refuses to complete an upload unless all its parts but the last
	// have one size, with R2's error.
	EqualParts bool

	// NoWholeChecksum answers 501 to a checksum of type FULL_OBJECT, as R2.
	NoWholeChecksum bool

	// IgnoreChecksums has the store neither compare nor keep checksums, and a
	// gateway before it that flips a bit of each body which is not covered by
	// the signature, by way of x-amz-content-sha256.
	IgnoreChecksums bool

	// RandomETags gives equal bytes different ETags, as with SSE-KMS.
	RandomETags bool

	// Faults are answers in place of those to an operation, by its name; "" is
	// any operation.
	Faults map[string]Fault

	// Skew is how far the store's clock is ahead of this machine's. Its answers
	// have that Date, requests are refused if their time is more than 15 minutes
	// from it, and URLs expire by it.
	Skew time.Duration

	// Lag makes two regions of the store, "a" and "b". Each judges conditions by
	// what it has itself, and gets copies of the other's writes after this time.
	Lag time.Duration

	// Server is the Server header of all answers: "AmazonS3" if empty.
	Server string
}

// Conditions is what a store does with If-Match and If-None-Match on writes.
type Conditions int

// What a store does with conditions.
const (
	Obeyed      Conditions = iota // 412 or 404 if they don't hold
	Ignored                       // the write takes place
	Unsupported                   // 501 NotImplemented, as Backblaze B2
)

// Locks is what two conditional writes of one key exclude each other by.
type Locks int

// What there is to exclude two writes of one key.
const (
	Shared Locks = iota // one lock of all front ends
	Apart               // a lock in each front end
	None                // no lock

	NoneForReplaces // no lock for If-Match, one of all front ends for If-None-Match
)

// Fault is an error that the store answers.
type Fault struct {
	Status  int
	Code    string
	Message string
	Header  http.Header // further headers
}

// CloudflareR2 returns the knobs of R2.
// https://developers.cloudflare.com/r2/api/s3/api/
func CloudflareR2() Knobs {
	return Knobs{EqualParts: true, NoDeleteByTag: true, NoWholeChecksum: true, CompleteAborts: true, Server: "cloudflare"}
}
