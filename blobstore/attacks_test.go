package blobstore_test

// The interleavings that broke earlier drafts of the protocol. Each one became
// a rule of this package or of package upload, and each is run by the test that
// carries its number. The numbers are stable: a new attack gets a new one.
//
// A and B are requests at two replicas; k and k2 are data keys; D and E are
// digests; t is an upload's token, numbered like the session record it names.
// "Killed" means that the process ends at that point. "Late" means that a write
// takes effect after its response was lost, possibly much later.
//
// Uploads and commit:
//
//  1. POST, PATCH. A's PUT completes the data, creates the record, and is killed
//     before the link. B repeats the PUT: it is answered 201, and the data stays.
//  2. A and B send the same PUT concurrently. Both are answered 201, and the data is
//     whole, now and after a collection.
//  3. PUT of x with t0 is answered 201. Then PATCH and PUT of y with t0 again: x
//     is unchanged under its digest.
//  4. Two contents of equal size and equal CRC-32C continue from one session
//     record. A and B each PUT one of them, and the response of Complete is lost.
//     At most one commits, and no digest leads to the bytes of the other.
//  5. B's PUT stalls after it read record 1. A, with t2, commits and cleans up.
//     B continues: it must not end the chain a second time. The same for
//     sessions that hold a tail only, and with t0.
//  6. t0 is used again after the session ended, by PATCH and DELETE. Nothing of
//     the committed blob changes, and a repeated PUT is answered 201.
//  7. A's PUT creates `committed D` and is killed before the last part, after
//     it, after Complete, after the record, or after the link. B's repeated PUT
//     is answered 201 each time.
//  8. A PATCH breaks off, and the client repeats it with the old token while the
//     first one still stores parts. The session survives, also on stores that
//     give equal bytes different tags.
//  9. PATCHes with different bytes overlap under one token. At most one of the
//     contents commits, and it is whole.
//  10. A PUT fails or breaks off half-way. The same PUT again is answered 201.
//  11. DELETE of an upload races with a PATCH, with a PUT, and with another
//     DELETE. PATCH, PUT and status are 404 afterwards, and nothing that was
//     staged is left after a collection.
//  12. The create of a session record or blob record fails and takes effect late.
//     Reading it back finds the writer's own nonce, and nothing that the late
//     write may name was deleted.
//  13. A valid token of one repository is used for the upload of another: 404.
//  14. A PATCH lasts past the expiry of its session. A request for the status never
//     prolongs a session.
//
// Existing records, links, mount and delete:
//
//  15. A PUT is repeated after the blob was deleted, and its record is condemned:
//     the record is made live first, then linked.
//  16. A push meets a damaged or unverified record. It keeps its own bytes. The
//     old key enters the dead list before the record is replaced, and links of
//     other repositories are healed.
//  17. A push finds the blob, but its data is gone or has another size.
//  18. A link from an earlier life of the record, with another id, is replaced.
//     The same for inline blobs.
//  19. A DELETE times out and is repeated; the blob is pushed again; then the
//     first DELETE takes effect. The new link stays.
//  20. A creates `committed D` for a sha512 and is killed. B pushes D by its
//     sha256. A's client repeats its PUT: 201 only once the alias exists.
//  21. A mount by sha512 while the alias is being collected.
//  22. A mount reads the record as live and stalls past the request limit: it is
//     not answered 201.
//
// Manifests, tags and referrers. T is a tag, n and n2 are manifests, L is the link of a
// blob that n refers to, P and Q are pushes, D is a DELETE by digest, and G is the
// collector:
//
//  31. T names n2. P (T to n2) reads T, and n2 as live. D deletes n2. Q (T to n) reads
//     T. P replaces T. Q does not leave T at a manifest that is deleted.
//  32. P reads T before a whole DELETE of its digest, and stores the manifest after
//     it. T resolves once P is acknowledged.
//  33. P pushes a referrer against D, and against G, which removes the deleted manifest
//     and its entry. The referrer is listed once P is acknowledged.
//  34. P is killed between the entry and the manifest, or between the manifest and the
//     tag. A client finds the manifest by HEAD and skips its push: the referrer is
//     listed, or the manifest does not exist.
//  35. P is killed while D runs. T never resolves to a manifest that cannot be read,
//     and G removes T.
//  36. Two clients create T with If-None-Match, or move it with If-Match. A response is
//     lost, and another client moves T back: T is not moved a second time.
//  37. T is immutable: PUT against PUT, against a D that has read the hints before T
//     existed, and against DELETE of T; also where T does not resolve.
//  38. A push of several tags moves one and loses another to a rule or a condition. It
//     is not refused then, because a refusal means that no tag was moved.
//  39. A replica has cached a manifest of an earlier life. T resolves there as soon as
//     its push is acknowledged.
//  40. An index names a deleted child, and is refused; or a condemned one, and the child
//     and its blobs stay.
//  41. An old manifest is named while G is between mark and removal: by an index after a
//     HEAD, or as the signature of an image that is tagged again.
//  42. L is known as good, and is condemned and removed meanwhile; the machine was
//     suspended; another replica has deleted L.
//  43. P pushes a manifest that exists. D deletes it, and G removes its links: what it
//     refers to is checked again.
//  50. The clocks of replicas and store are a day apart, and conditional deletions are
//     made of empty objects.
//
// Marks of the collector:
//
//  49. A DELETE of a blob while a HEAD or the collector takes the mark off its link:
//     after 202 the link has disappeared.
