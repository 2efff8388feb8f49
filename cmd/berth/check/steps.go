package check

import "context"

// steps are the steps of Run, in order. cleanUp follows them.
var steps = []step{
	{
		name:   "write and read",
		impact: "Nothing works.",
		fix:    "Check the bucket's name, the region or endpoint, and the credentials.",
		needs:  []permissions{toCreate, toRead},
		run: func(ctx context.Context, b *run) (string, error) {
			return writeAndRead(ctx, b, b.key("first"))
		},
	},
	{
		name:   "write and read data",
		impact: "Blobs can't be pushed or pulled.",
		fix: "Configure a class or tier that the store has and that can be read immediately (storage.s3.storage_class, " +
			"storage.gcs.storage_class, storage.azure.access_tier), or none. Grant the same permissions under data/ as in the rest of the bucket.",
		needs: []permissions{toCreate, toRead},
		run: func(ctx context.Context, b *run) (string, error) {
			return writeAndRead(ctx, b, b.dataKey(greeting))
		},
	},
	{
		name:   "create-only, raced",
		impact: "Two requests could complete the same upload, and the record of a blob could be overwritten.",
		fix:    "Use a store that enforces If-None-Match: * (or an equivalent) on every write.",
		needs:  []permissions{toCreate, toRead},
		run:    createRaced,
	},
	{
		name:   "compare-and-swap, raced",
		impact: "A push and the collector could overwrite each other's records.",
		fix:    "Use a store that enforces If-Match (or an equivalent) on every write.",
		needs:  []permissions{toCreate, toReplace, toRead},
		run:    replaceRaced,
	},
	{
		name:   "conditional delete",
		impact: "A late deletion could remove a blob that was pushed in the meantime.",
		fix:    "Use a store that enforces If-Match on deletes or on writes.",
		needs:  []permissions{toCreate, toReplace, toDeleteIf, toMiss},
		run:    deleteStale,
	},
	{
		name:   "list after write",
		impact: "The collector could miss a link and delete its blob as unused.",
		fix:    "Use a store with consistent listings.",
		needs:  []permissions{toCreate, toList, toDelete},
		run:    listAfterWrite,
	},
	{
		name:   "ranged reads",
		impact: "Partial downloads would get wrong bytes.",
		fix:    "Use a store that supports Range, and check proxies in front of it.",
		needs:  []permissions{toCreate, toRead},
		run:    rangedReads,
	},
	{
		name:   "multipart upload",
		impact: "Blobs larger than a part can't be pushed.",
		fix: "Allow multipart uploads, also for the class or tier that is configured for data. " +
			"If the store refuses CRC-32C, try storage.s3.checksum: none.",
		needs: []permissions{toPutParts, toComplete, toMiss},
		run:   multipart,
	},
	{
		name:   "parts of different sizes",
		impact: "Uploads of several gigabytes fail when they are completed, on every attempt.",
		fix:    "Set storage.s3.equal_parts: true.",
		needs:  []permissions{toPutParts, toComplete},
		run:    unequalParts,
	},
	{
		name:   "a replaced part is refused",
		impact: "Bytes that do not match their digest could be published.",
		fix:    "Use a store that compares the tags of parts when it completes an upload.",
		needs:  []permissions{toPutParts, toComplete, toListParts},
		run:    replacedPart,
	},
	{
		name:   "uploads listed and aborted",
		impact: "The parts of uploads that clients abandon can't be found and deleted, and continue to cost money.",
		fix:    "Allow listing and aborting multipart uploads.",
		needs:  []permissions{toPutParts, toListUploads, toAbort},
		run:    abortListed,
	},
	{
		name:   "clock",
		impact: "Signed URLs and requests could be refused, and uploads could expire at the wrong time.",
		fix:    "Synchronize this machine's clock (NTP).",
		needs:  []permissions{toCreate, toRead},
		run:    clock,
	},
	{
		name:   "presigned GET",
		impact: "Reads can't be redirected to the store, so berth has to serve the bytes itself.",
		fix:    "Check storage.*.public_endpoint, and that the signing identity may sign and read.",
		needs:  []permissions{toCreate, toRead, toSign},
		run:    presignedGet,
	},
	{
		name:   "presigned GET, tampered or expired",
		impact: "A client with a signed URL could read other blobs, or read this blob forever.",
		fix:    "Make the bucket private, so that the store refuses URLs without a valid signature.",
		needs:  []permissions{toCreate, toSign},
		run:    presignedRefused,
	},
}
