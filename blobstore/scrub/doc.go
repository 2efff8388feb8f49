// Package scrub verifies what a bucket stores.
//
// A run has two phases. The first walks all blobs in the order of their digests, and reads
// and hashes the bytes of each, or, in the cheap mode, only compares their sizes. The second
// reads the manifests of all repositories, and checks that what they refer to is there. Then
// it knows which repositories and tags the problems of both phases break.
//
// # What a run changes
//
//   - An adopted blob, which is unverified, becomes live if its bytes have its digest. From
//     then on pushes rely on them.
//   - A damaged blob whose bytes have its digest after all becomes live.
//   - A link that disagrees with its record is replaced with a copy of the record. Such links
//     remain after a push has healed a damaged blob for its own repository.
//   - With Config.Quarantine, the record of a blob that is damaged or missing is marked as
//     damaged, and then its links. Clients then find that the blob is unknown, and push it
//     again, which heals it. A blob whose bytes could not be read is not marked, because they
//     may be whole.
//
// All these are replaces of the version that was read, on the strength of reads that are not
// older than Config.RequestLimit. So runs may run beside live traffic and the collector.
//
// # Position
//
// The position is stored in the bucket, with the problems that were found so far. A run that
// was interrupted continues there. If two runs meet, the one that started earlier stops.
package scrub
