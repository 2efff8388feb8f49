package memory

import "github.com/berthhq/berth/drivers"

// Habits is what differs from store to store within the contract. The zero
// value is a directory's: parts are streamed, each attempt at a part is kept
// beside the others, and small objects of equal bytes have equal tags.
type Habits struct {
	// Limits are the Bucket's; the zero value stands for those of a directory.
	// All of them are enforced.
	Limits drivers.Limits

	// OverwriteParts makes a part that is put again under its number replace
	// the one before, and gives parts of equal bytes equal tags.
	OverwriteParts bool

	// Generations gives every write a tag of its own. Without it, objects of
	// equal bytes have equal tags, so that a compare-and-swap cannot tell that
	// one was replaced and put back.
	Generations bool

	// DatedByStart dates an object made by an upload by the upload's start
	// instead of its completion.
	DatedByStart bool

	// Sessionless says that an upload is no more than a name that its parts
	// share: a part is taken for any upload, also one that was completed or
	// aborted, and Uploads gives only those that have parts.
	Sessionless bool

	// DropsParts says that the store drops staged parts by itself after a
	// while: Abort leaves them alone and Uploads gives none.
	DropsParts bool
}

const (
	miB = 1 << 20
	giB = 1 << 30
)

var directoryLimits = drivers.Limits{MaxPart: 1 << 40, MaxParts: 1_000_000, Stream: true}

// S3 are the habits of Amazon S3. An ETag is a checksum of the content, a part
// has the number for its name, and Last-Modified of a multipart object is the
// time of CreateMultipartUpload. The limits are those of
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html.
func S3() Habits {
	return Habits{
		Limits:         drivers.Limits{MinPart: 5 * miB, MaxPart: 5 * giB, MaxParts: 10_000},
		OverwriteParts: true,
		DatedByStart:   true,
	}
}

// GCS are the habits of Google Cloud Storage, with parts that are objects of
// their own until they are composed. The largest part is the largest object
// of https://cloud.google.com/storage/quotas.
func GCS() Habits {
	return Habits{
		Limits:      drivers.Limits{MaxPart: 5 << 40, MaxParts: 10_000},
		Generations: true,
		Sessionless: true,
	}
}

// Azure are the habits of Azure block blobs, with block ids that are unique to
// the attempt. The service drops uncommitted blocks after a week. The limits
// are those of
// https://learn.microsoft.com/rest/api/storageservices/understanding-block-blobs--append-blobs--and-page-blobs.
func Azure() Habits {
	return Habits{
		Limits:      drivers.Limits{MaxPart: 4000 * miB, MaxParts: 50_000},
		Generations: true,
		Sessionless: true,
		DropsParts:  true,
	}
}
