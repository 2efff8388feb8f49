// Package blobstore turns a bucket into a content-addressed blob service.
//
// A [Store] is the service. [Store.Repository] returns the [BlobStore] of one
// repository. Any number of processes may open the same bucket. They share the
// bucket and nothing else: no database, no lock, no memory.
//
// # What is stored
//
// A blob is a record and its data. The data is the blob's bytes, under a key that
// is generated at random for one upload and never used again. The record is a small
// object at the digest. The blob exists from the moment at which its record is
// created, so committing an upload never copies or moves a byte. A blob of at most
// Config.InlineMax bytes is kept in its record and has no data.
//
// A link lets one repository read the blob. It repeats the record, so a read costs
// one request. An alias maps a digest of another algorithm, such as a sha512, to
// the sha256 of the same bytes. It states a mathematical fact and grants nothing.
//
// Package catalog defines the keys, the records and the rules by which they change.
// Package upload manages the sessions of uploads. This package adds what a client
// sees: errors, access, reads, the cache, and the steps of a push.
//
// Every object except data is one line of JSON with a nonce, followed by raw bytes;
// see package envelope. The nonce makes the tags of two writes differ even if their
// content is equal, and it lets a writer recognise its own write after a lost
// response.
//
// # States of a record
//
//   - live: the blob can be read and linked.
//   - condemned: no link names it, and the collector is about to remove it. A
//     push or a mount makes it live again.
//   - unverified: it was adopted from another registry and its bytes were not
//     hashed here. Existing links can be read. A push replaces its data.
//   - damaged: its bytes are known to be wrong. It cannot be read. A push
//     replaces its data.
//
// # Invariants
//
//  1. A record is created only after all bytes at its data key are durable,
//     were hashed by this server as they were stored, and are pinned by part
//     tags and CRC.
//  2. A data key belongs to one upload, and is completed at most once, for one
//     digest.
//  3. A push is acknowledged only after its link is durable.
//  4. A link is written only to a record that the same request created, or read
//     as live. A request that lasts longer than Config.RequestLimit writes
//     nothing more and acknowledges nothing.
//  5. No cache decides a write. Caches serve reads, hold positive answers only,
//     and expire.
//  6. Nothing under data/ is deleted while a record, a link or an open upload
//     may name it. Nothing outside the prefix is deleted at all.
//  7. Memory is bounded by the configuration, for any number of clients at any
//     speed.
//  8. Killing every replica at any instant loses no acknowledged byte, and
//     leaves nothing that the collector does not remove.
//
// # A push that meets an existing record
//
// A push creates the record only if it is absent, then creates the link. If the
// record exists already, its state decides:
//
//   - live: the push checks that the data exists and has the right size, unless
//     it is the push's own or inline. If it does, the push continues with the
//     link. If not, the record is treated as damaged.
//   - condemned: after the same check, the push replaces the record with a live
//     one, and continues with the link.
//   - damaged or unverified: the push enters the old data key in the dead list,
//     replaces the record with one that names its own data, and continues with
//     the link.
//
// A replace names the tag of the version that was read. If the record has
// changed since then, the push reads it again. If a link exists already and disagrees with
// the record on id, data key or state, the push replaces the link.
//
// # Why the collector cannot delete a blob that is being pushed
//
// This package deletes no data, not even data that a push has stored and does
// not need. Only the collector does, in two steps. It first condemns a record
// that has no links and has not changed for a grace period. In a later run it
// removes the record, by the tag of the condemned version, if there is still no
// link. The data key goes to the dead list, and the data is deleted later, once
// nothing names it.
//
// Let C be the time, by the store's clock, at which the record stopped being
// live. A push read the record either before C or after it.
//
//   - Before C: every write of that push was sent before C + RequestLimit, and
//     took effect at most another RequestLimit later. The grace period is at
//     least three times as long. So the collector's next listing shows the link, and
//     the record stays.
//   - After C: the push made the record live again, which changed its tag. The
//     collector's removal names the old tag and fails.
//
// The collector computes ages as differences of the store's own modification
// times. No rule about records and links depends on the clock of a replica.
//
// The tests called TestAttack<n>… run the interleavings that broke earlier
// drafts of this protocol. attacks_test.go lists them.
package blobstore
