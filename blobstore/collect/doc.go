// Package collect removes from a bucket what nothing names any more. It runs beside live
// traffic, in any number of processes at a time, and may be killed at any point: another
// run does the rest.
//
// # Ages
//
// A run first creates an object. The store's time of that object is the start of the run.
// All ages are differences between the store's own times, so the clocks of the machines
// are of no importance. The grace is the age from which an object may be removed. It is
// at least three times the longest request of any process of the bucket, plus the time
// for which a process caches.
//
// # Condemned first
//
// A run removes nothing in one step. It condemns an object: it replaces it, in the version
// that it has read, by the same content with a mark. It removes what was condemned a grace
// before its start and is still not named, in the version with the mark. A request that
// is about to rely on a condemned object first takes the mark off.
//
// Consider an object that was condemned at the time C, and a request that relies on it. If
// the request has read the object before C, then all that it writes has landed two request
// limits after C, and so before the start of the run that removes: that run has seen what
// names the object. If the request has read it after C, then it took the mark off, and the
// version that the run would remove does not exist any more.
//
// Everything is removed by the tag that was read, on the strength of reads that are at most
// one request limit old. So a run that stalls for days does no harm when it continues.
// What it knows of names may be older, because whatever was named since has no mark.
//
// # Steps
//
// For each repository with a marker (mark.go), a run reads all manifests, tags and entries
// of referrers:
//
//   - A manifest that is not deleted names what it refers to, whether or not anything names
//     the manifest: its blobs, its children, and the manifests whose subject it is. It does
//     not name one that has it as a child, because the two would keep each other for ever.
//     A tag that resolves names its manifest.
//   - Manifests that are not named are condemned, and removed later, if UntaggedAfter is
//     set. Deleted manifests are removed (manifests.go).
//   - Tags that do not resolve, and old entries of absent manifests, are removed. They are
//     read before the manifest. Entries that are missing are created.
//   - A repository in which anything cannot be read is left alone.
//   - Once a run has read a live manifest that is a grace old, it notes in the marker that
//     links of the repository may be removed. Repositories of blobs alone keep everything.
//
// Then one walk over all blobs (blobs.go), digest by digest, settles:
//
//   - the links that no manifest of their repository names (links.go). They are condemned,
//     and removed later, if UnreferencedAfter is set.
//   - the records without links (records.go). They are condemned. Later their data enters
//     the dead list and the record is removed.
//
// The names of blobs are sorted in temporary files in the order of the walk, so memory does
// not grow with the bucket. The names of one repository's manifests are held in memory, in
// about 80 bytes for each manifest.
//
// The rest:
//
//   - markers of repositories with nothing left (markers.go)
//   - sessions and uploads that are over (sessions.go)
//   - data that neither a record nor a link names enters the dead list (data.go)
//   - the dead list (dead.go), the only place where data is deleted. Data waits there for as
//     long as a request, a cache, a signed URL or a CDN may still use it.
//   - aliases of blobs without a record (aliases.go)
//
// # State
//
// The only state of the collector in the bucket is under meta/gc/: the starts of runs, which
// they delete at their end; what the last finished run has read, which saves reads; and how
// far data was compared with records.
package collect
