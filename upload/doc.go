// Package upload turns resumable writers into the parts of multipart uploads.
//
// The client of an upload holds a signed token. The store holds a chain of session
// records, each created only if absent. So any process can continue an upload,
// and no byte is read back in order to hash it. Parts are stored as they fill,
// several concurrently. The memory of all uploads together is bounded.
//
// The package keeps one invariant: a completed object consists of bytes that this
// package hashed as they were stored. Parts are pinned by the tags that storing
// them returned, and the tags are in the same records as the hashes. If the key of
// an upload was chosen before its digest was known, the upload is completed only
// after a record has bound it to one digest.
//
// # The chain
//
// The records of a session are uploads/<id>/1, 2, …, each a line of JSON and then
// raw bytes. Creating the next record is the only way to append, to commit and
// to cancel. If two requests continue from the same record, one of them loses, and
// nothing is ever locked. A number is never used twice: only the collector
// deletes records, and only whole sessions.
//
// An open record has the offset and the state of the hashes there. Its content is
// what its own request added: the parts that the request stored, and, as raw
// bytes, what came past the last part. For the bytes before, the record refers to
// at most 64 earlier records. The raw bytes of these records and its own, in
// order, are the tail. A request that only appends reads the newest record only.
// The other records are read, side by side, when the tail fills a part and when
// the upload is finished. Once a part holds the tail, the next record no longer
// refers to records that have raw bytes only.
//
// Two rules limit the cost of a request by the number of bytes that it sends:
//
//   - A record repeats the content of the newest record, instead of referring to
//     it, if that content is at most 1/64 of the bytes that its own request added
//     plus Config.InlineMax. So the records of large PATCHes have the whole list
//     of parts, and the end of the upload reads one record. Tiny PATCHes need few
//     references.
//   - A request that would need a 65th reference takes over the content of the
//     newest records, up to the first that is larger than everything that it has
//     taken over. So a byte is rewritten a few times only, however small the
//     requests are. See takeOver for the numbers.
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
// A record that is no longer needed is spent: it is replaced by a record that only
// names the end of the session. That happens at the end, after the blob is linked.
// A PUT that holds all bytes ends its session without a next record, by replacing
// the newest one. A PATCH that is in flight then may still create a record which
// refers to a spent one. A request that reads that reference finds the end, and
// cancels the session.
//
// The collector removes a session that has ended, or that has no valid token any
// more: see [Reaper.Reap]. Until then its end stays, so that a client that has
// lost the response to its commit gets it again.
//
// # Memory
//
// Package budget bounds the memory of all uploads, and cuts slow clients off. A
// request holds the bytes that it has received past the last part. It takes memory
// for the bytes of earlier records in one step. If it takes over records, or its
// length shows that it fills a part, it does so before it receives anything.
// Otherwise it does so when the part is full. The received bytes are recorded
// straight from memory, without the bytes of earlier records, so a request that is
// cut off needs no memory in order to release its own.
//
// # The parts of a Writer
//
// A [Writer] is the locked front of four types that work on one progress. The
// loader reads earlier records, the recorder creates records, the receiver takes
// in bytes and stores parts, and the sealer commits. A PATCH is Resume (loader),
// ReadFrom (receiver), Suspend (recorder). A PUT is Resume, ReadFrom, Seal, Store
// and Spend (sealer).
package upload
