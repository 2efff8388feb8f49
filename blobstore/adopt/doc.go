// Package adopt takes over the bucket of a CNCF distribution registry, in place. It copies
// no byte of a blob.
//
// A repository of the old registry has links to blobs, links to manifests, and tags, which
// are small objects. The bytes of all blobs and manifests are under keys of their own. A
// run takes over one repository after the other, several at a time. In each it takes these
// steps, and finishes one before it starts the next:
//
//  1. For each link to a blob, a record and a link. The record names the data where it lies
//     and is unverified, because berth has not hashed it: reads are served, but never by a
//     CDN, and a push does not rely on the data. berth scrub hashes it and makes the record
//     live.
//  2. Each manifest is read, hashed, parsed and stored with its bytes. If it has a subject,
//     the referrers entry is written first. The tags by which older clients list referrers
//     (sha256-<hex>) are tags like any other: the manifests in such an index have a subject.
//  3. Each tag.
//  4. The marker, so that the repository is listed.
//
// # What may run beside it
//
// Clients of berth may push, pull and delete meanwhile. Every write of a run is a create of
// an absent key or a replace of the version that was read, and the rules of package catalog
// hold, with one exception: links are written to unverified records. Any number of runs may
// run concurrently, be killed at any point, and be run again.
//
// A tag that both registries have belongs to the one that wrote it last, by the time of
// their common store. So clients may push to berth before the old registry has stopped.
//
// # What a later run takes
//
// The state of each repository is stored in the bucket: the time at which the last finished
// run started. A later run takes only links that are newer, or it would bring back what
// clients have deleted here. Until the first run has finished, it may bring back a blob or a
// tag that was deleted meanwhile. A manifest that was deleted here after the old registry
// wrote it stays deleted, as long as the collector has not removed the deleted manifest.
//
// # What the collector keeps
//
// The collector never deletes the bytes of adopted blobs, only their records and links: it
// deletes data only under berth's own prefix. Until a repository was taken over, and for as
// long as it has a manifest that berth cannot read, it removes no link of the repository,
// because it cannot know what the manifests refer to.
//
// The garbage collection of the old registry must be off for good: it would delete bytes
// that records of berth name.
package adopt
