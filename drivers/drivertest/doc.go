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
// A driver is a package under drivers/ that exports Config and Open:
//
//	type Config struct { … } // the zero value of an optional field is its default
//
//	// Validate returns an error that names the first invalid field, such as
//	// newstore.Config.Bucket. It makes no requests.
//	func (c Config) Validate() error
//
//	// Open opens the bucket. It returns the error of Validate, and an error that
//	// wraps drivers.ErrRefused if the store refuses access.
//	func Open(ctx context.Context, cfg Config) (drivers.Bucket, error)
//
//	var _ drivers.Bucket = (*bucket)(nil)
//
// A driver of a cloud also exports Inspect, which returns the settings of the
// bucket that package inspect describes.
//
// Start from package memory: it is the shortest complete driver, and the suite
// compares every other driver to it. The larger drivers embed two types in their
// bucket, one with the calls for objects and one with the calls for uploads. Then
// work through these steps in order. Each step has cases of its own in the suite.
//
//  1. Create, Replace, DeleteIf. The store must support create-only writes and
//     compare-and-swap, atomically. Prove it in Open, by a write that the store
//     must refuse, and refuse a store that accepts it: berth's guarantees rest on
//     these two. If the store has no conditional delete, replace the object with
//     an empty one, and treat empty objects as absent everywhere.
//  2. Errors. Put every error of the store through one function that decides
//     between the sentinels. ErrNotFound is a claim about a key: a missing bucket
//     is ErrRefused. After a retry, ErrExists and ErrChanged may be caused by the
//     driver's own first attempt; see "Outcomes" in package drivers. If an
//     operator has to act, the text names the field of Config and what to do. The
//     command replaces fields in texts by its keys.
//  3. Open and Stat. A range must be read from one version of the object. Wrap
//     the body of a response by drivers.BusyOnError.
//  4. List, in ascending byte order of the keys, with one page in memory. Request
//     pages of drivers.PageSize. [TestPages] checks it.
//  5. StartUpload, PutPart, Complete, Abort, Uploads. Complete passes its
//     arguments to drivers.CheckParts, uses exactly the parts that the tags
//     identify, never replaces an object, and succeeds when it is repeated after a
//     lost response.
//  6. SignGet, if the store can serve a signed URL, by the store's clock: see
//     package presign.
//
// Run the suite in a test called TestConformance:
//
//	drivertest.Run(t, drivertest.Suite{
//		New: func(t *testing.T) drivertest.Opener {
//			cfg := newstore.Config{Bucket: server.Bucket(t)} // an empty bucket for each case
//			return func(ctx context.Context) (drivers.Bucket, error) { return newstore.Open(ctx, cfg) }
//		},
//		Like: memory.Habits{…}, // of uploads and parts
//	})
//
// Test against a server that runs on the same machine: package emulator starts
// those of the other drivers. If the server differs from the real store, list the
// case in Suite.Gaps with the reason. Another server, or a test with a double, must
// cover each gap. If a case takes the server minutes, set Suite.Keys and
// Suite.Parts to less, and run the large case in a test called TestLong….
//
// Two more checks apply to every driver. The suite itself is tested in
// broken_test.go, which breaks one rule of the contract at a time and expects
// [Run] to fail. The linter (depguard in .golangci.yml) keeps a driver from
// importing any other package of berth than drivers, inspect and presign: add the
// new package to its rule.
package drivertest
