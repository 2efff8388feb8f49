// Package drivertest tests drivers against the contract of [drivers.Bucket].
//
// [Run] is the conformance suite. Each of its cases starts with an empty bucket
// and opens it twice: two values are two replicas that share nothing else.
// Races are run for real. The last case makes a random sequence of calls on the
// driver and on package memory side by side, and compares the results.
//
// For tests of code that uses a Bucket, the package has [Wrap], on which
// [Faulty] and [Counter] are built, and [Signing].
//
// # How to write a driver
//
// A driver is a package under drivers/ that exports Config and Open and nothing
// else:
//
//	type Config struct { … } // the zero value of an optional field is its default
//
//	// Open opens the bucket. It returns an error that names the field if cfg is
//	// not valid, and drivers.ErrRefused if the store refuses access.
//	func Open(ctx context.Context, cfg Config) (drivers.Bucket, error)
//
//	var _ drivers.Bucket = (*bucket)(nil)
//
// Start from package memory: it is the shortest complete driver, and the suite
// compares every other one to it. Then work through these in order; each has
// cases of its own in the suite.
//
//  1. Create, Replace, DeleteIf. The store must support create-only writes and
//     compare-and-swap, atomically. Prove it in Open, by racing, and refuse a
//     store that fails: berth's guarantees rest on these two. If the store has
//     no conditional delete, replace the object with an empty one, and treat
//     empty objects as absent everywhere.
//  2. Errors. Put every answer of the store through one function, classify,
//     which decides between the sentinels. ErrNotFound is a claim about a key:
//     a missing bucket is ErrRefused. After a retry, ErrExists and ErrChanged
//     may be caused by the driver's own first attempt; see "Outcomes" in
//     package drivers.
//  3. Open and Stat. A range must be read from one version of the object.
//  4. List, in ascending byte order of the keys, one page in memory.
//  5. StartUpload, PutPart, Complete, Abort, Uploads. Complete pins each part
//     by the tag that PutPart returned, never replaces an object, and succeeds
//     when it is repeated after a lost response.
//  6. SignGet, if the store can serve a signed URL.
//
// Test against a server that runs on the same machine. If it differs from the
// real store, list the case in Suite.Gaps with the reason, in the server's own
// words. A gap must be covered by another server or by a test of its own.
//
// Two more tests apply to every driver. The suite in broken_test.go breaks one
// rule of the contract at a time and expects [Run] to notice. The linter
// (depguard in .golangci.yml) keeps a driver from importing any package of this
// module except drivers, drivers/inspect and drivers/presign.
package drivertest
