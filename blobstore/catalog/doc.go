// Package catalog builds and parses every key of berth's bucket. It holds the
// records, links and aliases of blobs, the manifests, tags and entries of repositories,
// and the rules by which they change.
//
// # Keys
//
//	blobs/sha256/<xx>/<hex>/record         record: where the bytes of a blob are
//	blobs/sha256/<xx>/<hex>/links/<name>   link: this repository may read the blob
//	aliases/<alg>/<xx>/<hex>               alias: a digest of another algorithm
//	data/sha256/<xx>/<hex>/<id>            bytes whose sha256 was known before they arrived
//	data/new/<xx>/<id>                     bytes whose sha256 was computed as they arrived
//	uploads/<upload-id>/<seq>              session records, see package upload
//	repos/<name>/manifests/<alg>/<hex>     manifest, with its bytes
//	repos/<name>/tags/<tag>                tag: the manifest that it names
//	repos/<name>/referrers/<alg>-<hex>/<alg>-<hex>
//	                                       entry: the last manifest names the first as its subject
//	catalog/<name>                         marker: the repository has, or had, manifests
//	meta/format, meta/token-key            written once
//	meta/signing-key                       written once, if the service issues tokens to clients
//	meta/limits                            the largest limits of any process that serves the bucket
//	meta/dead/<id>                         dead entry: data that no record refers to any more
//	meta/adopt/<name>                      how far a repository of another registry was taken over
//	meta/scrub                             how far berth scrub has verified the bucket
//	meta/gc/<run>/start                    start of a run of the collector
//	meta/gc/finished, meta/gc/walked       what finished runs have read
//	meta/gc/lease                          the replica that runs the collector
//	meta/check/…                           probes of berth check
//
// <xx> is the first two hexadecimal digits of what follows it. In the name of a
// repository "/" is written "!", which no repository name contains. The keys of one
// digest are adjacent in a listing, links before the record, and no key is the
// directory of another. No other package concatenates keys.
//
// The keys under docker/registry/v2/ are those of a CNCF distribution registry. Records of
// adopted blobs name data there.
//
// # Changes
//
// Every object except data is an envelope (see package envelope), so a writer whose
// response was lost recognises its own write by reading it back. Every object changes
// only by a create of an absent key, or by a replace or delete of the version that was
// read. Methods of [Catalog] that change the bucket take the [deadline.Deadline] of the
// request. They check it before each write, because the collector relies on every write
// being sent within it.
//
// # Marks
//
// The collector marks an object as condemned before it removes it in a later run. The
// mark is the state of a record, a manifest and a marker, and a field of a link and an
// alias. A request that relies on a condemned object first takes the mark off, by a
// replace. The collector then cannot remove the object, because it names the version
// with the mark. The methods called Ensure…, Unmark… and Write… do so, and Revive and
// Published.
//
// The catalog never caches. Its errors are those of package drivers:
// [drivers.ErrNotFound] if a key is absent, and other errors unchanged.
package catalog
