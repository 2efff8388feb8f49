package s3

import "github.com/berthhq/berth/drivers"

// capabilities are what Open found out about the store.
type capabilities struct {
	// conditionalDelete: the store deletes by tag, atomically.
	conditionalDelete bool

	// emptyIsAbsent: some process deletes, or has deleted, by overwriting an
	// object with an empty one.
	emptyIsAbsent bool

	// versityGW: the store identifies itself as versitygw. As of 1.8.0
	// (backend/posix of github.com/versity/versitygw)
	//   - DeleteObject checks the tag and removes the object in two steps,
	//     without the lock that writes take. It can remove an object that was
	//     written in between, so it is not a conditional delete;
	//   - HeadObject reads the size and the tag in two steps as well;
	//   - CompleteMultipartUpload may report success although it has
	//     failed (see completionConfirmed).
	versityGW bool

	// checksums is the kind of checksums that multipart uploads carry.
	checksums checksumMode

	// ignoresChecksums: the store accepts a body with a wrong checksum.
	// Payloads are then hashed for the signature, since every store compares
	// that.
	ignoresChecksums bool

	// completeReplaces: the store ignores If-None-Match on
	// CompleteMultipartUpload, so that a Complete can replace an object.
	completeReplaces bool
}

// emptyMark is the key of the object that marks empty objects as absent. It is
// never deleted, because the empty objects remain and every process must treat
// them as absent.
const emptyMark = drivers.PartsPrefix + "empty-is-absent"
