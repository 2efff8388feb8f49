package s3

import (
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/presign"
)

// Limits of multipart uploads, except the size of the whole object, are from
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html and
// https://developers.cloudflare.com/r2/platform/limits/.
const (
	minPart   = 5 << 20
	maxPart   = 5 << 30
	maxPartR2 = maxPart - 5<<20
	maxParts  = 10_000
)

// bucket is an open bucket. It does not change after Open.
type bucket struct {
	capabilities
	limits drivers.Limits

	store     *store
	multipart multipart
	signer    *signer
	clock     *presign.Clock
	closeIdle func()
}

var _ drivers.Bucket = (*bucket)(nil)

// newBucket returns a bucket over a connection to a store that has these
// capabilities.
func newBucket(c *connection, signer *signer, can capabilities) *bucket {
	s := *c.store
	if can.ignoresChecksums {
		s.hashPayloads = true
	}
	return &bucket{
		capabilities: can,
		limits:       limitsOf(&s),
		store:        &s,
		multipart:    multipart{&s, can.checksums},
		signer:       signer,
		clock:        c.clock,
		closeIdle:    c.closeIdle,
	}
}

// limitsOf returns the limits of Amazon S3 or of Cloudflare R2.
func limitsOf(s *store) drivers.Limits {
	l := drivers.Limits{MinPart: minPart, MaxPart: maxPart, MaxParts: maxParts}
	if isR2(s.endpoint()) {
		l.MaxPart, l.EqualParts = maxPartR2, true
	}
	if set := s.cfg.EqualParts; set != nil {
		l.EqualParts = *set
	}
	return l
}

// Limits returns the limits of the store.
func (b *bucket) Limits() drivers.Limits { return b.limits }

// Close closes the idle connections. It always returns nil.
func (b *bucket) Close() error {
	b.closeIdle()
	return nil
}
