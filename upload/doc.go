// Package upload turns resumable writers into the parts of multipart uploads.
//
// An upload is known to its client by a signed token, and to the store by a chain
// of session records, each created only if absent. So any process can continue
// an upload, and no byte is ever read back in order to hash it. Parts are stored
// as they fill, several at once. Memory is bounded for all uploads together.
//
// The invariant that this package keeps: bytes that were not hashed by it, as
// they were stored, never become part of a completed object. Parts are pinned
// by the tags that storing them returned, the tags are in the records that have
// the hashes. If the key of an upload was chosen before its digest was known, the
// upload is completed only after a record has bound it to one digest.
//
// # The chain
//
// The records of a session are uploads/<id>/1, 2, …, a line of JSON each and then
// raw bytes. Creating the next record is the only way to append, to commit and
// to cancel. Of two requests that continue from the same record one loses, and
// nothing is ever locked. A number is never used twice: only the collector
// deletes records, and only a whole session at once.
//
// An open record has the offset and the state of the hashes there. Its content is
// what its own request added: the parts that it stored, and as raw bytes what
// came past the last part. For what came before, it refers to earlier records, at
// most 64 of them. The raw bytes of these records and its own, in order, are the
// tail. A request that only appends reads the newest record. The other records
// are read, side by side, when the tail fills a part and when the upload is
// finished. Once a part has taken in the tail, records that have raw bytes only
// are no longer referred to.
//
// Two rules bound what a request costs by the bytes that it brings:
//
//   - A record repeats the content of the newest record, in place of a reference,
//     if that is at most 1/64 of the bytes that its own request added and of
//     Config.InlineMax, together. So large PATCHes pass on the whole list of
//     parts and the end of the upload reads one record, and tiny PATCHes need few
//     references.
//   - A request that would need a 65th reference takes over the content of the
//     newest records, up to the first that is larger than everything it has taken
//     over. So a byte is rewritten a few times, however small the requests are.
//     See takeOver for the numbers.
//
// # Sealing
//
// A commit seals the session before it completes the upload: it creates the next
// record, which ends the session and binds the upload's key to the digest of the
// bytes. So of two commits of different bytes at most one completes the upload, and
// the other one finds the record of the first. No record is needed if all bytes
// are in memory, if they were dropped because the store has the blob, or if the
// commit has started the upload itself, under a key that contains the digest.
//
// # Spending
//
// A record that is no longer needed is spent: it is replaced by one that only
// points to the end of the session. That happens at the end, after the blob is
// linked. A PUT that holds all bytes ends its session without a next record, by
// replacing the newest one. A PATCH that is in flight then may still create a
// record which refers to a spent one. A request that reads that reference finds the
// end, and cancels the session.
//
// A session that is over, because it has ended or no token of it is valid any
// more, is removed by the collector: see [Manager.Reap]. Until then its end stays,
// so that a client which has lost the response to its commit gets it again.
//
// # Memory
//
// Package budget bounds the memory of all uploads, and cuts slow clients off. A
// request holds the bytes that it has received past the last part. It takes
// memory for the bytes of earlier records all at once: before it receives
// anything if it takes over records or its length shows that it fills a part,
// otherwise when the part is full. What came is recorded straight from memory,
// without the bytes of earlier records, so a request that is cut off needs no
// memory in order to give its own back.
package upload
