// Package catalog makes and reads every key of berth's bucket. It holds the
// records, links and aliases of blobs, and the rules by which they change.
//
// # Keys
//
//	blobs/sha256/<xx>/<hex>/record         record: where the bytes of a blob are
//	blobs/sha256/<xx>/<hex>/links/<name>   link: this repository may read the blob
//	aliases/<alg>/<xx>/<hex>               alias: a digest of another algorithm
//	data/sha256/<xx>/<hex>/<id>            bytes that had a known sha256 before they came
//	data/new/<xx>/<id>                     bytes with a sha256 computed as they came
//	uploads/<upload-id>/<seq>              session records, see package upload
//	meta/format, meta/token-key            written once
//	meta/dead/<id>                         dead entry: data that no record names any more
//	meta/check/…                           probes of berth check
//
// <xx> is the first two hexadecimal digits of what follows it. In the name of a
// link "/" is written "!", which no repository name contains. The keys of one
// digest are adjacent in a listing, links before the record, and no key is the
// directory of another. No other package concatenates keys.
//
// # Changes
//
// Every object except data is a body of package envelope, so a lost response to
// a create or a replace is recognised by reading back. A record, a link or an
// alias changes only by a create of an absent key, or by a replace or delete of
// the version that was read. Methods of [Catalog] that change the bucket take the
// [deadline.Deadline] of the request. They check it before each write, because
// the collector relies on every write being sent within it.
//
// The catalog never caches. Its errors are those of package drivers:
// [drivers.ErrNotFound] if a key is absent, and any error of the store as it is.
package catalog
