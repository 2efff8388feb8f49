// Package blobstore turns a bucket into the content of a registry: blobs, and the
// manifests and tags that name them.
//
// A [Store] is the service. [Store.Repository] returns one repository. It is a
// [BlobStore], and has [Manifests] and [Tags]. Any number of processes may open the same
// bucket. They share the bucket and nothing else: no database, no lock, no memory.
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
// A manifest belongs to one repository, and is stored there with its bytes. A tag names
// a manifest. An entry states that a manifest names another one as its subject, and a
// marker that a repository has, or had, manifests.
//
// Package catalog defines the keys, the records and the rules by which they change.
// Package upload manages the sessions of uploads. Package manifest parses manifests. This
// package adds what a client sees: errors, access, reads, the cache, and the steps of a
// push.
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
//  5. No cache decides a write, with one exception: a push of a manifest counts a
//     link or a marker as here that this process has read or written as good within
//     CacheConfig.TTL. Caches hold positive answers only, and expire.
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
// # Manifests, tags and entries
//
// The manifest decides. It has an ID, which is drawn when it is created, and again each
// time that it comes back after a deletion. A tag names the digest and the ID. It
// resolves only while that manifest can be read, with that ID. An entry counts only
// while its manifest can be read. So one write makes a manifest, all its tags and its
// entry appear or disappear.
//
// States of a manifest:
//
//   - live.
//   - condemned: nothing names it, and the collector is about to remove it. It reads as
//     if it were live.
//   - deleted: a client has deleted it. It reads as absent. Its bytes are gone, and the
//     collector removes the rest.
//
// A manifest lists hints: tags that may name it. A deletion reads these tags to tidy up.
// Only a tag itself decides what it names.
//
// # A push of a manifest
//
// The steps of a push, in this order:
//
//  1. Parse the manifest, and check its digest.
//  2. Read the tags that it moves, then the manifest. Decide on this reading whether the
//     tags may be moved. The manifest is not read if it is likely to be new.
//  3. Check that the repository has the blobs and manifests that it refers to. A live
//     manifest with the same bytes has them, so that this step can be skipped.
//  4. Make sure of the marker.
//  5. Write the entry, if the manifest has a subject.
//  6. Make the manifest live: create it, or replace the one that is there.
//  7. Write each tag, by the version that was read in step 2. If another writer has
//     changed a tag since then, read it again, decide again, and continue with step 6.
//
// Whatever a push relies on, it first makes good: it takes the collector's mark off.
// A push that ends early leaves a manifest without its tags, or an entry without its
// manifest. Neither is visible as an image that lacks something.
//
// # Why a push and a deletion cannot lose each other
//
// A deletion replaces the manifest with a deleted one, by its version. A push sees the
// manifest live after it has read the tag, and then writes the tag by that reading.
//
//   - If the deletion comes before the push sees the manifest, the push brings it back
//     with a new ID, and its tag names that ID.
//   - If the deletion comes later, the tag names an ID that is dead, and does not resolve:
//     the deletion came after the push.
//
// In the second case another push may have moved the tag after the deletion, and the first
// push must not move it back to a dead ID. A push writes its tags always, even a tag that
// names its manifest already. So the other push has changed the tag, the write of the
// first push fails, and it reads the tag and the manifest again.
//
// An immutable tag refuses the deletion of its manifest. The deletion reads the manifest,
// then its tags, and then replaces the manifest. A push that has written an immutable tag
// replaces the manifest once more. A deletion that has missed the tag then fails, and
// reads the tags again.
//
// If the answer to a write is lost, the writer reads back. It recognises what it has
// written by the nonce. If another writer's object is there, its own write may have taken
// effect before. An unconditional move of a tag is then repeated. A create, a conditional
// move and the move of an immutable tag are not, because they must take effect once only:
// the push returns ErrUnavailable.
//
// # Why the collector cannot remove what a push relies on
//
// The collector removes nothing in one step. It condemns: it replaces an object, by its
// version, with the same content and a mark. Later it removes what was condemned at least
// a grace period ago, and still is not named, by the version with the mark. This holds for
// records, links, manifests, markers and aliases.
//
// Let C be the time at which an object was condemned. A push that read the object before C
// sends all its writes before C + RequestLimit, or, if it counted a link or a marker as
// known, before C + RequestLimit + CacheConfig.TTL. They take effect at most RequestLimit
// later. That is before the grace period has passed, so the collector sees what names the
// object. A push that read the object after C has taken the mark off, and the collector's
// removal fails.
//
// A manifest that is not deleted names what it refers to, whether or not anything names
// it. So a push of a manifest that is live need not check its references again. If the
// push finds later that the manifest was deleted meanwhile, it checks them.
//
// The entry is written before the manifest, and always, so that it is new when the
// collector looks for its manifest. The collector removes entries only that are old, and
// whose manifest cannot be read.
//
// Each process raises the limits in the bucket when it opens it. The collector uses the
// largest that any process has had.
//
// The tests called TestAttack<n>… run the interleavings that broke earlier
// drafts of this protocol. attacks_test.go lists them.
package blobstore
