// Package drivers is the contract between berth and an object store.
//
// A [Bucket] speaks the verbs that every object store has and no others:
// create, compare-and-swap, delete, ranged read, list, multipart upload. There
// is no copy, move, append, directory or unconditional put, because nothing in
// berth needs one. A driver knows keys and bytes; digests, repositories and
// HTTP requests are the business of the packages above.
//
// # Outcomes
//
// A write that reports [ErrNotFound], and [ErrExists] or [ErrChanged] too,
// changes nothing by itself. Where the driver has tried again after a lost
// answer, though, what it met may be the first try's own write: ErrExists and
// ErrChanged say that something is there, not whose it is. A write that fails
// with any other error may have happened, and may still happen later: a request
// can outlive the answer to it. The caller finds out by reading back. Package
// envelope does that for small bodies.
//
// [ErrBusy] and [ErrRefused] are about the store, the other sentinels claims by
// it about a key. A missing bucket, a refused credential, a name that does not
// resolve or a cancelled context is no such claim, and an error that wraps none
// says nothing about the key.
package drivers

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// Sentinel errors of a [Bucket], found with [errors.Is]. A driver that cannot
// do a thing at all reports [errors.ErrUnsupported].
var (
	// ErrNotFound says that the store has nothing under this key, or no such
	// upload.
	ErrNotFound = errors.New("not found")

	// ErrExists says that a create-only write found the key taken.
	ErrExists = errors.New("already exists")

	// ErrChanged says that the tag no longer matches: the object, or a part
	// named to Complete, was replaced or deleted since.
	ErrChanged = errors.New("changed since it was read")

	// ErrRange says that a read begins at or past the end of the object.
	ErrRange = errors.New("range not satisfiable")

	// ErrBusy says that the store throttles or is unavailable, after the
	// retries that the driver makes by itself. Whether a write took effect is
	// unknown. Trying again later is right.
	ErrBusy = errors.New("store is busy")

	// ErrRefused says that the store can't be used as things are: it does not
	// take this process's credentials or clock, denies it access, or has no
	// such bucket, or its name does not resolve. Whether a write took effect is
	// unknown: an earlier attempt at it may have. The rest of the error says
	// what to mend; then trying again is right, without opening the bucket
	// again.
	ErrRefused = errors.New("store can't be used")
)

// Object describes a stored object.
type Object struct {
	Key  string
	Size int64 // bytes

	// Tag names this version of the object, opaque outside the driver. It
	// changes with every Replace whose body differs; equal bodies may give
	// equal tags, which is why every body that is ever compared and swapped
	// carries a nonce. Objects from List have no tag.
	Tag string

	// Modified is the store's own time of the write, never the clock of this
	// machine. For an object made by a multipart upload some stores report the
	// time at which the upload began. It may be zero in what a write returns,
	// where the store does not tell; and a listing may tell the same time more
	// exactly than Stat does.
	Modified time.Time
}

// Upload is a multipart upload in progress. It is plain data: any process that
// has it can go on with the upload.
type Upload struct {
	Key     string    `json:"key"`
	ID      string    `json:"id"`      // opaque outside the driver
	Started time.Time `json:"started"` // by the store's clock where it tells, to the second
}

// Part is one stored part of an upload, as [Bucket.PutPart] answered it.
type Part struct {
	Number int    `json:"n"`    // from 1
	Size   int64  `json:"size"` // bytes
	Tag    string `json:"tag"`  // opaque; pins these very bytes
	CRC32C uint32 `json:"crc"`
}

// Limits is what a store can hold and how it wants to be fed.
type Limits struct {
	MinPart  int64 // least size of every part but the last, in bytes; 0 if there is none
	MaxPart  int64 // largest size of a part, in bytes
	MaxParts int   // most parts in an upload

	// Stream says that StreamPart works: a part of unknown length is taken
	// straight from a reader, with no buffering.
	Stream bool

	// EqualParts says that all parts of an upload but the last must have one
	// size (Cloudflare R2).
	EqualParts bool
}

// SignOptions says what a signed URL should do.
type SignOptions struct {
	// Expires is how long the URL should be good for, from now. It is more
	// than zero.
	Expires time.Duration

	// Window, if more than zero, rounds the signing time down to a multiple of
	// itself, so that all processes with the same credentials give the same
	// URL within it. The URL is then good for at least Expires and less than
	// Expires + Window.
	Window time.Duration

	// ContentType and ContentDisposition override the headers of the answer,
	// where they are not empty.
	ContentType        string
	ContentDisposition string
}

// Signed is a URL that lets whoever holds it read one object.
type Signed struct {
	URL string

	// Expires is by this machine's clock, also where the URL was signed by the
	// store's (see Clock). It is never later than the end of the credentials
	// that signed it.
	Expires time.Time
}

// Bucket is one bucket, container or directory. All keys are relative to the
// prefix it was opened with, and obey [CheckKey]. It is safe for concurrent use
// by any number of goroutines and processes: a write that returned is seen by
// every later read and list, anywhere.
//
// Keys under "parts/" are the driver's own: staged parts, temporary files and
// the like. List never shows them.
//
// A Body whose CRC32C is not that of its bytes is refused, where the store can
// check it. A tag that this driver cannot have given is one that does not
// match: it never stands for no condition.
type Bucket interface {
	// Create stores body under key, if and only if the key is free. It reports
	// ErrExists if it is taken, and then has changed nothing. An empty body is
	// refused: a store without conditional delete has only an empty body to
	// say "absent" with.
	Create(ctx context.Context, key string, body Body) (Object, error)

	// Replace stores body under key, if and only if the object there still has
	// this tag. It reports ErrChanged if it has another, or is gone, and then
	// has changed nothing. An empty body is refused. Stores may answer ErrBusy
	// to more than one Replace of a key within a second.
	Replace(ctx context.Context, key, tag string, body Body) (Object, error)

	// DeleteIf deletes the object, if and only if it still has this tag. It
	// reports ErrChanged if it has another. An absent key is success.
	DeleteIf(ctx context.Context, key, tag string) error

	// Delete deletes the objects, whatever their tags; absent keys are
	// success. If it fails, any of them may be deleted and any may be there.
	Delete(ctx context.Context, keys ...string) error

	// Open reads n bytes from off, or to the end of the object if n is -1 or
	// there are fewer. off is not negative; n is -1 or more than zero. It
	// reports ErrNotFound if the key is absent, and ErrRange if off is not zero
	// and is at or past the end. The reader goes on reading the version that it
	// began with, or fails; it never mixes two. The Object is that version's,
	// with its whole size. A connection that breaks under the reader is ErrBusy,
	// as it is under a call. A driver that keeps objects in files returns an
	// *os.File if n is -1, and else what has the method Outer of an
	// [io.SectionReader] of one, so that it can be sent from the kernel.
	Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, Object, error)

	// Stat describes the object. It reports ErrNotFound if the key is absent.
	Stat(ctx context.Context, key string) (Object, error)

	// List gives the objects whose keys begin with prefix and are greater than
	// after ("" for all), in ascending order of their bytes, without tags. It
	// streams: it holds a page at a time, however many there are. Objects that
	// are created or deleted while it runs may or may not be given. After an
	// error it ends.
	List(ctx context.Context, prefix, after string) iter.Seq2[Object, error]

	// StartUpload begins a multipart upload of what shall become the object at
	// key. Nothing is visible there until Complete. Every call begins another.
	StartUpload(ctx context.Context, key string) (Upload, error)

	// PutPart stores a part, 1 <= number <= Limits().MaxParts, not empty.
	// Parts come in any order and from any process. A part that is put again
	// under its number may replace the one before, or stand beside it; the tag
	// tells them apart unless their bytes are the same. It reports ErrNotFound
	// if the upload was completed or aborted, where the store notices.
	PutPart(ctx context.Context, u Upload, number int, body Body) (Part, error)

	// StreamPart is PutPart for a part of unknown length, which it reads from
	// body to its end. An error of body makes it fail, and nothing is stored.
	// An empty part is refused. Where Limits().Stream is false it reports
	// errors.ErrUnsupported.
	StreamPart(ctx context.Context, u Upload, number int, body io.Reader) (Part, error)

	// Complete makes of exactly these parts, in this order, the object at the
	// upload's key. Their numbers ascend, and may have gaps; there is at least
	// one; all but the last have MinPart bytes or more. crc32c is that of the
	// whole.
	//
	// It reports ErrChanged if a part is not, or no longer, the one its tag
	// names, and ErrNotFound if there is neither the upload nor an object at
	// the key; in both cases nothing becomes visible. It never replaces an
	// object. If one is at the key already, Complete takes it for its own and
	// returns it: the caller sees to it that a key belongs to one upload and is
	// completed with one content only, so that a second call after a lost
	// answer finds what the first one made.
	//
	// A wrong crc32c makes it fail where the store can check it, and then
	// nothing becomes visible.
	Complete(ctx context.Context, u Upload, parts []Part, crc32c uint32) (Object, error)

	// Abort drops the upload's staged parts, never an object that was
	// completed. An upload that is gone is success. Where the store drops
	// staged parts by itself it may do nothing.
	Abort(ctx context.Context, u Upload) error

	// Uploads gives the uploads in progress whose keys begin with prefix, in
	// no order, for the collector. Where the store drops staged parts by
	// itself there may be none.
	Uploads(ctx context.Context, prefix string) iter.Seq2[Upload, error]

	// SignGet makes a URL that reads the object for whoever holds it, until it
	// expires. It does not look whether the object exists. It reports
	// errors.ErrUnsupported where there is nobody to serve such a URL.
	SignGet(ctx context.Context, key string, opts SignOptions) (Signed, error)

	// Limits never changes for an open Bucket.
	Limits() Limits

	// Close frees what the Bucket holds. Calls under way may fail.
	Close() error
}
