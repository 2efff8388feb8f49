// Package s3 is a driver for Amazon S3 and for stores that speak its protocol.
//
// # Requirements
//
// berth's protocol depends on create-only writes (If-None-Match: *) and on
// compare-and-swap (If-Match), so the bucket must have one authoritative region.
// [Open] tries both with several concurrent writers. It refuses a store that
// ignores a condition, or that checks it in one step and writes in another.
// Open also probes the store for other differences from Amazon S3, which the
// driver works around:
//
//   - If the store has no conditional delete, or versitygw's, which is not
//     atomic, DeleteIf overwrites the object with an empty one, using If-Match.
//     From then on every process treats empty objects as absent. A marker
//     object under parts/ records this.
//   - If parts with equal bytes have different ETags, as with SSE-KMS, parts
//     carry a SHA-256, and a part's tag contains it after the ETag. Complete
//     uses it to find the attempt at a part that the store has kept.
//   - If the store accepts the CRC-32C of a whole multipart object, Complete
//     sends it. Otherwise the store checks only the CRC-32C of each part.
//   - If the store accepts a body with a wrong checksum, payloads are hashed
//     for the signature (x-amz-content-sha256), which every store compares.
//   - If the store ignores If-None-Match on CompleteMultipartUpload, Open logs
//     a warning: a data key is completed once, but a Complete that arrives late
//     could restore data that was collected.
//   - Cloudflare R2, recognized by its host, requires parts of equal size.
//     Tigris, also recognized by its host, requires the header
//     X-Tigris-Consistent. Without it, conditions hold in one region only.
//
// # Bytes and their checksums
//
// Bodies are read once, from the caller's memory, and are sent with the CRC-32C
// that the caller computed. They are not hashed for the signature
// (UNSIGNED-PAYLOAD), not even over plain HTTP. A tag is the ETag.
//
// # Errors
//
// The SDK retries requests. If the response to an attempt was lost and the
// condition fails on the next attempt, the outcome is unknown, and the error
// wraps neither ErrExists nor ErrChanged. An error that an operator can fix by a
// setting starts with the setting's name.
//
// # Credentials and the clock
//
// Shared credential files are checked every few seconds. They are read again if
// they have changed or if the store has refused the key. A refused request is
// retried with the new key. URLs are signed by the store's clock if this
// machine's clock is more than a minute off; see package presign.
//
// # How the package is divided
//
// [Open] makes a connection, probes the store over it, and returns a bucket:
//
//   - Config is checked (config.go) and completed by the SDK (sdk.go). A
//     credentialsCache keeps the credentials (credentials.go, sharedfiles.go).
//   - store sends single requests to the bucket (store.go), and its advisor
//     explains the store's errors (errors.go, advice.go).
//   - multipart sends the requests of multipart uploads, with one kind of
//     checksum (multipart.go).
//   - prober determines the capabilities of the store (probe.go,
//     probe_upload.go, race.go).
//   - bucket implements drivers.Bucket with a store, a multipart, a signer and
//     the capabilities (bucket.go, objects.go, delete.go, list.go, uploads.go,
//     complete.go, sign.go).
package s3
