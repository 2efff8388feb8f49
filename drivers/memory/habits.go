package memory

import "github.com/berthhq/berth/drivers"

// Habits are the properties that differ between stores within the contract. The
// zero value is a directory's: parts are streamed, every attempt at a part is
// kept beside the earlier ones, and small objects of equal bytes have equal
// tags.
type Habits struct {
	// Limits are the Bucket's limits. The zero value means those of a
	// directory. Every limit is enforced.
	Limits drivers.Limits

	// OverwriteParts makes a part replace an earlier part with the same number,
	// and gives parts of equal bytes equal tags.
	OverwriteParts bool

	// Generations gives every write a new tag. Without it, objects of equal
	// bytes have equal tags, so a compare-and-swap cannot detect that an object
	// was replaced and then restored.
	Generations bool

	// DatedByStart makes the Modified time of an object made by an upload the
	// start of the upload instead of its completion.
	DatedByStart bool

	// Sessionless makes an upload only a name that its parts share. The
	// store then accepts a part for any upload, even one that was completed or
	// aborted, and Uploads returns only uploads that have parts.
	Sessionless bool

	// DropsParts means that the store deletes staged parts by itself after some
	// time, so Abort leaves them alone and Uploads returns none.
	DropsParts bool
}

const (
	miB = 1 << 20
	giB = 1 << 30
)

var directoryLimits = drivers.Limits{MaxPart: 1 << 40, MaxParts: 1_000_000, Stream: true}

// S3 returns the habits of Amazon S3. An ETag is a checksum of the content, a
// part is identified by its number, and Last-Modified of a multipart object is
// the time of CreateMultipartUpload. The limits are those of
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html.
func S3() Habits {
	return Habits{
		Limits:         drivers.Limits{MinPart: 5 * miB, MaxPart: 5 * giB, MaxParts: 10_000},
		OverwriteParts: true,
		DatedByStart:   true,
	}
}

// GCS returns the habits of Google Cloud Storage, where parts are objects until
// they are composed. The largest part is the largest object of
// https://cloud.google.com/storage/quotas.
func GCS() Habits {
	return Habits{
		Limits:      drivers.Limits{MaxPart: 5 << 40, MaxParts: 10_000},
		Generations: true,
		Sessionless: true,
	}
}

// Azure returns the habits of Azure block blobs, with block ids that are unique
// to each attempt. The service drops uncommitted blocks after a week. The
// limits are those of
// https://learn.microsoft.com/rest/api/storageservices/understanding-block-blobs--append-blobs--and-page-blobs.
func Azure() Habits {
	return Habits{
		Limits:      drivers.Limits{MaxPart: 4000 * miB, MaxParts: 50_000},
		Generations: true,
		Sessionless: true,
		DropsParts:  true,
	}
}
