// Package drivers is the contract between berth and an object store.
//
// A [Bucket] has the verbs that every object store has: create,
// compare-and-swap, delete, ranged read, list, multipart upload. It has no copy,
// move, append, directory or unconditional put, because nothing in berth needs
// one. A driver deals with keys and bytes. Digests, repositories and HTTP
// requests belong to the packages above.
//
// Package drivertest explains how to write a driver, and tests it. The functions
// of this package are checks and checksums that all drivers share.
//
// # Outcomes
//
// A write that returns [ErrNotFound], [ErrExists] or [ErrChanged] has changed
// nothing by itself. After a retry inside the driver, however, ErrExists and
// ErrChanged may be caused by the driver's own first attempt: they report that
// an object is there, not who wrote it. Such an error also wraps [ErrUnanswered],
// if the driver can find out that it has retried.
//
// A write that returns any other error may have taken effect, and may still
// take effect later, because a request can outlive its answer. The caller reads
// back to find out. Package envelope does that for small bodies.
//
// [ErrNotFound], [ErrExists], [ErrChanged] and [ErrRange] are claims by the
// store about a key. The error of a missing bucket, of refused credentials, of a
// host name that does not resolve or of a canceled context makes no such claim.
//
// # Buckets for data only
//
// The keys under [BulkPrefix] may be in a bucket of their own (see package split), whose
// store has to do less. Each of these keys is generated at random, is written by one
// upload, is never used again, and is named only by a record in the other bucket. So
//
//   - Create and Complete may replace the object at their key: only a repetition of the
//     same write finds one, and it has the same bytes. A repetition that arrives after
//     the object was deleted restores bytes that nothing names. The collector, which
//     deletes data that nothing names, finds them again.
//   - Replace and DeleteIf are not called, and may return [errors.ErrUnsupported].
//   - Everything else is as in any bucket: Complete makes visible exactly the parts that
//     it is given, a read returns bytes of one version, and what was written is seen by
//     every later read and list.
package drivers

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"time"
)

// Sentinel errors of a [Bucket], to be matched with [errors.Is]. A driver returns
// [errors.ErrUnsupported] for an operation that its store does not have.
var (
	// ErrNotFound reports that the store has no object under the key, or no such
	// upload.
	ErrNotFound = errors.New("not found")

	// ErrExists reports that a create-only write found the key taken.
	ErrExists = errors.New("already exists")

	// ErrChanged reports that the tag no longer matches: the object, or a part
	// passed to Complete, was replaced or deleted.
	ErrChanged = errors.New("changed since it was read")

	// ErrUnanswered accompanies ErrExists or ErrChanged if an attempt of the same write
	// got no answer. That attempt may have taken effect, and another writer may have
	// replaced or deleted its result since.
	ErrUnanswered = errors.New("an attempt got no answer")

	// ErrRange reports that a read starts at or past the end of the object.
	ErrRange = errors.New("range not satisfiable")

	// ErrBusy reports that the store throttles or is unavailable, after the
	// driver's own retries. A write may have taken effect. The caller may retry
	// later.
	ErrBusy = errors.New("store is busy")

	// ErrRefused reports that an operator has to act: the store does not accept
	// this process's credentials or clock, denies it access, or has no such
	// bucket, or the store's name does not resolve. The error's text names what
	// to fix. Afterwards the same Bucket works again. A write may have taken
	// effect in an earlier attempt.
	ErrRefused = errors.New("store can't be used")

	// ErrFull reports that the store has no room for a write: its disk is full, or
	// a quota is used up. What is stored stays, and can be read and deleted. Once
	// there is room the same Bucket works again. A write may have taken effect in
	// an earlier attempt.
	ErrFull = errors.New("store is full")
)

// Object describes a stored object.
type Object struct {
	Key  string
	Size int64 // bytes

	// Tag identifies this version of the object. It is opaque outside the driver.
	// It changes with every Replace by other bytes. Equal bodies may have equal
	// tags, so every body that is compared and swapped carries a nonce.
	// Objects returned by List have no tag.
	Tag string

	// Modified is the time of the write by the store's clock, never by this
	// machine's. For an object made by a multipart upload, some stores report the
	// time at which the upload started. It may be zero in the result of a write.
	// A listing may report the same time more precisely than Stat.
	Modified time.Time
}

// Upload is a multipart upload in progress. It is plain data: any process that
// has it can continue the upload.
type Upload struct {
	Key     string    `json:"key"`
	ID      string    `json:"id"`      // opaque outside the driver
	Started time.Time `json:"started"` // by the store's clock if it reports one, to the second
}

// Part is one stored part of an upload, as returned by [Bucket.PutPart].
type Part struct {
	Number int    `json:"n"`    // from 1
	Size   int64  `json:"size"` // bytes
	Tag    string `json:"tag"`  // opaque; pins these very bytes
	CRC32C uint32 `json:"crc"`
}

// Limits are the sizes that a store accepts, and how it takes parts.
type Limits struct {
	MinPart  int64 // least size of every part but the last, in bytes; 0 if there is none
	MaxPart  int64 // largest size of a part, in bytes
	MaxParts int   // most parts in an upload

	// Stream reports whether StreamPart works: the driver takes a part of unknown
	// length straight from a reader, without buffering it.
	Stream bool

	// EqualParts reports whether all parts of an upload except the last must have
	// the same size (Cloudflare R2).
	EqualParts bool
}

// SignOptions are the properties of a signed URL.
type SignOptions struct {
	// Expires is how long the URL must stay valid, from now. It is positive.
	Expires time.Duration

	// Window, if positive, rounds the signing time down to a multiple of itself.
	// All processes with the same credentials then return the same URL within a
	// window. The URL stays valid for at least Expires and less than Expires +
	// Window.
	Window time.Duration

	// ContentType and ContentDisposition, if not empty, override the headers of
	// the response.
	ContentType        string
	ContentDisposition string
}

// Signed is a URL with which any client can read one object.
type Signed struct {
	URL string

	// Expires is by this machine's clock, even if the URL was signed by the store's
	// (see package presign). It is never later than the end of the credentials that
	// signed the URL.
	Expires time.Time
}

// FileReader is a reader that [Bucket.Open] returns for an object in a file, so
// that the kernel can send the bytes.
type FileReader interface {
	io.ReadCloser

	// File returns the open file of the whole object. The caller may seek in it,
	// and close it instead of the reader.
	File() *os.File
}

// Bucket is one bucket, container or directory. All keys are relative to the
// prefix it was opened with, and pass [CheckKey]. It is safe for concurrent use
// by any number of goroutines and processes: once a write has returned, every
// later read and list sees it, in every process.
//
// Keys under "parts/" belong to the driver: staged parts, temporary files and
// the like. List never returns them.
//
// A Body with a wrong CRC32C is refused if the driver or the store can check it. A
// tag that this driver cannot have returned never matches. In particular, an empty
// tag does not mean "no condition".
type Bucket interface {
	// Create stores body under key if the key is free. If it is taken, Create
	// returns ErrExists and changes nothing. An empty body is refused, because
	// stores without conditional delete use an empty object to represent an
	// absent one.
	Create(ctx context.Context, key string, body Body) (Object, error)

	// Replace stores body under key if the object there still has this tag. If
	// the object has another tag or is gone, Replace returns ErrChanged and
	// changes nothing. An empty body is refused. Some stores return ErrBusy for a
	// second Replace of a key within one second.
	Replace(ctx context.Context, key, tag string, body Body) (Object, error)

	// DeleteIf deletes the object if it still has this tag. If it has another,
	// DeleteIf returns ErrChanged. It returns nil if the key is absent.
	DeleteIf(ctx context.Context, key, tag string) error

	// Delete deletes the objects, in any version. Absent keys are skipped. After
	// an error, each of the objects may be deleted or not.
	Delete(ctx context.Context, keys ...string) error

	// Open reads n bytes from off. If n is -1, or fewer bytes are left, it reads
	// to the end of the object. off is not negative; n is -1 or positive. Open
	// returns ErrNotFound if the key is absent, and ErrRange if off is positive
	// and at or past the end.
	//
	// The reader returns bytes of one version of the object, or fails; it never
	// mixes two. The Object describes that version, with its whole size. If the
	// connection breaks while reading, Read returns ErrBusy. A driver that keeps
	// objects in files returns a [FileReader].
	Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, Object, error)

	// Stat returns the object's description. It returns ErrNotFound if the key is
	// absent.
	Stat(ctx context.Context, key string) (Object, error)

	// List returns the objects with this prefix and a key greater than after (""
	// for all), in ascending byte order of their keys, without tags. Objects that are
	// created or deleted meanwhile may or may not be included. An error ends the
	// sequence.
	//
	// List reads as the caller iterates, and holds one page in memory. want is about
	// how many objects the caller is going to read, or 0 for all. It is a hint for the
	// size of the pages, see PageSize: the sequence does not end after so many objects.
	List(ctx context.Context, prefix, after string, want int) iter.Seq2[Object, error]

	// StartUpload starts a multipart upload that will become the object at key, which
	// is under BulkPrefix. Nothing is visible there until Complete. Each call starts a
	// new upload.
	StartUpload(ctx context.Context, key string) (Upload, error)

	// PutPart stores a part that is not empty, with 1 <= number <=
	// Limits().MaxParts. Parts may arrive in any order and from any process. A
	// second part under the same number may replace the first or be kept beside
	// it; their tags differ unless their bytes are the same. If the store notices
	// that the upload was completed or aborted, PutPart returns ErrNotFound.
	PutPart(ctx context.Context, u Upload, number int, body Body) (Part, error)

	// StreamPart is PutPart for a part of unknown length: it reads body to its
	// end. If body returns an error, so does StreamPart, and nothing is stored. An
	// empty part is refused. If Limits().Stream is false, StreamPart returns
	// errors.ErrUnsupported.
	StreamPart(ctx context.Context, u Upload, number int, body io.Reader) (Part, error)

	// Complete creates the object at the upload's key from exactly these parts, in
	// this order. Their numbers ascend and may have gaps. There is at least one
	// part, and all except the last have at least MinPart bytes. crc32c is the
	// checksum of the whole object.
	//
	// Complete returns the error of CheckParts, if there is one. It returns
	// ErrChanged if a part is no longer the one that its tag identifies, and
	// ErrNotFound if neither the upload nor an object at the key exists. In each of
	// these cases nothing becomes visible.
	//
	// Complete never replaces an object. If there is one at the key already,
	// Complete returns it as its own result. This is safe because callers use a
	// key for one upload, and complete an upload with one content only; so a
	// second call after a lost answer finds the result of the first.
	Complete(ctx context.Context, u Upload, parts []Part, crc32c uint32) (Object, error)

	// Abort deletes the upload's staged parts, never a completed object. It
	// returns nil if the upload is gone. If the store deletes staged parts by
	// itself, Abort may do nothing.
	Abort(ctx context.Context, u Upload) error

	// Uploads returns the uploads in progress for keys with this prefix, in no
	// particular order, for the collector. If the store deletes staged parts by
	// itself, there may be none.
	Uploads(ctx context.Context, prefix string) iter.Seq2[Upload, error]

	// SignGet returns a URL with which any client can read the object until the
	// URL expires. It does not check that the object exists. It returns
	// errors.ErrUnsupported if the store cannot serve such URLs.
	SignGet(ctx context.Context, key string, opts SignOptions) (Signed, error)

	// Limits returns the store's limits. They never change for an open Bucket.
	Limits() Limits

	// Close releases the Bucket's resources. Calls in progress may fail.
	Close() error
}
