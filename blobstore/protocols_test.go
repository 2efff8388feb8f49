package blobstore_test

import (
	"io"
	"net/http"
	"testing/iotest"
	"time"
)

const (
	partSize = 16 * miB // the default of Config.Upload.PartSize

	// Costs that are added to those of an operation.
	dedup  = 2 // reads the existing record, and whether its data is there
	linked = 1 // reads the existing link
)

// The payloads of the operations.
type payloads struct {
	small, mega, large, gigabyte payload
	twoParts                     payload // exactly two full parts
	kept                         payload // of buckets that keep the bytes
}

// protocols returns the operations, in the order in which they are best read.
func protocols() []protocol {
	p := payloads{
		small:    newPayload(1, 10*kB),
		mega:     newPayload(2, mB),
		large:    newPayload(3, 102_400*kB),
		gigabyte: newPayload(4, giB),
		twoParts: newPayload(5, 2*partSize),
		kept:     newPayload(6, 20*mB),
	}
	i := newImages()
	return []protocol{
		p.start(), p.pushByPatch(), p.pushByPut(), p.pushByPost(), p.pushInChunks(), p.pushExisting(), p.pushBySHA512(),
		p.pushUnannounced(), p.resume(), p.repeatPut(), p.status(), p.cancel(), p.mount(), p.pull(), p.delete(),
		i.push(), i.pushAgain(), i.deleteManifest(), i.pull(), i.lists(),
	}
}

func (payloads) start() protocol {
	return protocol{
		name: "start",
		text: `POST starts an upload. The Location carries the upload's id and a signed token
with its repository, so the store has nothing to keep yet.`,
		rows: []operation{
			{name: "POST", budget: 0, run: func(c *httpClient) { c.post("") }},
		},
	}
}

func (p payloads) pushByPatch() protocol {
	push := func(p payload) func(c *httpClient) { return func(c *httpClient) { c.pushByPatch(p) } }
	return protocol{
		name: "push-by-patch",
		text: `POST, PATCH with all bytes, PUT without a body: what docker and containerd do.

Full parts are stored while the PATCH arrives. Their digest is not known yet, so
they go to data/new/. The rest of the bytes, the tail, goes into a session
record. The PUT stores the tail as the last part or, if there are no parts, in an
object of its own or in the blob's record. A session with parts ends before the
data is completed. Last, the bytes in the session record are freed.`,
		rows: []operation{
			{name: "10 KB", budget: 5, run: push(p.small)},
			{name: "1 MB", budget: 6, run: push(p.mega)},
			{name: "102.4 MB", budget: 15, run: push(p.large)},
			{name: "1 GiB", budget: 71, run: push(p.gigabyte)},
			{name: "102.4 MB, slowly: the PATCH takes 98 s", budget: 15 + 98/30, run: func(c *httpClient) {
				at := c.patch(c.post(""), &slow{Reader: p.large.reader(), pause: time.Second}, p.large.size)
				c.put(at, payload{}, p.large.digest)
			}},
			{name: "102.4 MB, to GCS", budget: 15, on: onGCS, run: push(p.large)},
			{name: "102.4 MB, to Azure", budget: 15, on: onAzure, run: push(p.large)},
			{name: "102.4 MB, to a directory", budget: 15, on: onDirectory, run: push(p.large)},
		},
	}
}

func (p payloads) pushByPut() protocol {
	push := func(p payload) func(c *httpClient) { return func(c *httpClient) { c.pushByPut(p) } }
	return protocol{
		name: "push-by-put",
		text: `POST, then PUT with all bytes and the digest.

The digest is known before the bytes arrive, so the key of the data contains it.
There is no session record, because a PUT that is cut off can be repeated as a
whole. If the body has parts, the PUT first looks for an existing record.`,
		rows: []operation{
			{name: "10 KB", budget: 2, run: push(p.small)},
			{name: "1 MB", budget: 3, run: push(p.mega)},
			{name: "102.4 MB", budget: 12, run: push(p.large)},
			{name: "1 GiB", budget: 69, run: push(p.gigabyte)},
			{name: "102.4 MB, to a directory", budget: 12, on: onDirectory, run: push(p.large)},
		},
	}
}

func (p payloads) pushByPost() protocol {
	push := func(p payload) func(c *httpClient) { return func(c *httpClient) { c.pushByPost(p) } }
	return protocol{
		name: "push-by-post",
		text: `A single POST with all bytes and the digest. The store cannot distinguish it from
POST and PUT.`,
		rows: []operation{
			{name: "10 KB", budget: 2, run: push(p.small)},
			{name: "1 MB", budget: 3, run: push(p.mega)},
			{name: "102.4 MB", budget: 12, run: push(p.large)},
		},
	}
}

func (p payloads) pushInChunks() protocol {
	return protocol{
		name: "push-in-chunks",
		text: `POST, many PATCHes, PUT without a body.

Each PATCH reads the newest session record, appends to the upload that it names,
and creates the next record. A record refers to those before it instead of
repeating them.`,
		rows: []operation{
			{name: "1 GiB by PATCHes of 16 MiB", budget: 197, run: func(c *httpClient) { c.pushInChunks(p.gigabyte, partSize) }},
			{name: "102.4 MB by PATCHes of 10 MiB", budget: 36, run: func(c *httpClient) { c.pushInChunks(p.large, 10*miB) }},
			{name: "102.4 MB by PATCHes of 10 MiB, to a directory", budget: 35, on: onDirectory,
				run: func(c *httpClient) { c.pushInChunks(p.large, 10*miB) }},
		},
	}
}

func (p payloads) pushExisting() protocol {
	elsewhere := func(p payload) func(c *httpClient) { return func(c *httpClient) { c.elsewhere().pushByPut(p) } }
	here := func(p payload) func(c *httpClient) { return func(c *httpClient) { c.pushByPut(p) } }
	return protocol{
		name: "push-existing",
		text: `A push of a blob that exists already, in another repository (a dedup hit) or in
the same one.

The push reads the existing record and checks that its data is there. A PUT of
several parts does so before it stores them, and then discards the body.`,
		rows: []operation{
			{name: "10 KB by POST+PUT, dedup hit", budget: 2 + dedup, before: elsewhere(p.small), run: here(p.small)},
			{name: "1 MB by POST+PUT, dedup hit", budget: 3 + dedup, before: elsewhere(p.mega), run: here(p.mega)},
			{name: "102.4 MB by POST+PUT, dedup hit", budget: 12 + dedup, before: elsewhere(p.large), run: here(p.large)},
			{name: "102.4 MB by POST+PATCH+PUT, dedup hit", budget: 15 + dedup, before: elsewhere(p.large),
				run: func(c *httpClient) { c.pushByPatch(p.large) }},
			{name: "10 KB by POST+PUT, linked already", budget: 2 + dedup + linked, before: here(p.small), run: here(p.small)},
			{name: "1 MB by POST+PUT, linked already", budget: 3 + dedup + linked, before: here(p.mega), run: here(p.mega)},
			{name: "102.4 MB by POST+PUT, linked already", budget: 12 + dedup + linked, before: here(p.large), run: here(p.large)},
		},
	}
}

func (p payloads) pushBySHA512() protocol {
	return protocol{
		name: "push-by-sha512",
		text: `A push by a sha512 that is known, or announced by the POST, before the bytes
arrive.

The blob is stored under its sha256, and an alias maps the sha512 to it.`,
		rows: []operation{
			{name: "10 KB by POST+PUT", budget: 2 + 2, run: func(c *httpClient) { c.pushByPut(p.small.sha512()) }},
			{name: "1 MB by POST+PUT", budget: 3 + 2, run: func(c *httpClient) { c.pushByPut(p.mega.sha512()) }},
			{name: "102.4 MB by POST+PUT", budget: 12 + 2, run: func(c *httpClient) { c.pushByPut(p.large.sha512()) }},
			{name: "102.4 MB by POST+PATCH+PUT", budget: 15 + 2, run: func(c *httpClient) { c.pushByPatch(p.large.sha512()) }},
		},
	}
}

func (p payloads) pushUnannounced() protocol {
	return protocol{
		name: "push-by-sha512-unannounced",
		text: `A push by a sha512 that only the PUT names.

The session computed no sha512, so the PUT reads the stored bytes back.`,
		rows: []operation{
			{name: "10 KB by POST+PATCH+PUT", budget: 5 + 2, run: func(c *httpClient) { c.pushUnannounced(p.small) }},
			{name: "1 MB by POST+PATCH+PUT", budget: 6 + 2, run: func(c *httpClient) { c.pushUnannounced(p.mega) }},
			{name: "20 MB by POST+PATCH+PUT", budget: 10 + 2 + 1, on: keeping, run: func(c *httpClient) { c.pushUnannounced(p.kept) }},
		},
	}
}

func (p payloads) resume() protocol {
	const first = 50 * miB
	return protocol{
		name: "resume",
		text: `An upload that another replica resumes.

The replicas share nothing but the bucket. The second one learns from the newest
session record what is stored, and from the records that it refers to.`,
		rows: []operation{
			{name: "102.4 MB, each request to another replica", budget: 18, run: func(c *httpClient) {
				at, r := c.post(""), p.large.reader()
				at = c.patch(at, io.LimitReader(r, first), first)
				at = c.otherReplica().patch(at, r, p.large.size-first)
				c.put(at, payload{}, p.large.digest)
			}},
			{name: "102.4 MB, after a PATCH that was cut off", budget: 20, run: func(c *httpClient) {
				r := p.large.reader()
				cut := io.MultiReader(io.LimitReader(r, first), iotest.ErrReader(io.ErrUnexpectedEOF))
				c.at = c.post("")
				c.do(http.MethodPatch, c.at, cut, p.large.size, http.StatusBadRequest)
				second := c.otherReplica()
				second.status()
				at := second.patch(second.at, r, p.large.size-first)
				second.put(at, payload{}, p.large.digest)
			}},
		},
	}
}

func (p payloads) repeatPut() protocol {
	again := func(p payload) func(c *httpClient) { return func(c *httpClient) { c.putAgain(p.digest) } }
	byPatch := func(p payload) func(c *httpClient) { return func(c *httpClient) { c.pushByPatch(p) } }
	return protocol{
		name: "repeat-put",
		text: `A PUT that is repeated because its response was lost.

The spent session record leads to the end of the session, and so to the blob. If
no record before the end was worth freeing, the PUT notices that the session has
ended only when it fails to end it.`,
		rows: []operation{
			{name: "10 KB", budget: 3, before: byPatch(p.small), run: again(p.small)},
			{name: "102.4 MB", budget: 3, before: byPatch(p.large), run: again(p.large)},
			{name: "two full parts", budget: 3 + 1, before: byPatch(p.twoParts), run: again(p.twoParts)},
			{name: "two full parts, by sha512", budget: 3 + 1 + 2, before: byPatch(p.twoParts.sha512()), run: again(p.twoParts.sha512())},
			{name: "two full parts, dedup hit", budget: 3 + 1 + dedup, run: again(p.twoParts), before: func(c *httpClient) {
				c.elsewhere().pushByPut(p.twoParts)
				c.pushByPatch(p.twoParts)
			}},
			{name: "10 KB, by sha512", budget: 3 + 2, before: byPatch(p.small.sha512()), run: again(p.small.sha512())},
			{name: "20 MB, by an unannounced sha512", budget: 3 + 2, on: keeping,
				before: func(c *httpClient) { c.pushUnannounced(p.kept) }, run: again(p.kept.sha512())},
		},
	}
}

func (p payloads) status() protocol {
	return protocol{
		name: "status",
		text: `GET of an upload lists the session records and reads the newest.`,
		rows: []operation{
			{name: "after 10 KB", budget: 2, before: patched(p.small), run: (*httpClient).status},
		},
	}
}

func (p payloads) cancel() protocol {
	return protocol{
		name: "cancel",
		text: `DELETE of an upload ends its session, deletes the stored parts and frees the
bytes in the session records.`,
		rows: []operation{
			{name: "after 102.4 MB", budget: 4, before: patched(p.large), run: (*httpClient).cancel},
		},
	}
}

// patched returns a function that starts an upload and sends it bytes.
func patched(p payload) func(c *httpClient) {
	return func(c *httpClient) { c.patch(c.post(""), p.reader(), p.size) }
}

func (p payloads) mount() protocol {
	mounts := func(p payload) func(c *httpClient) { return func(c *httpClient) { c.mount(p.digest) } }
	return protocol{
		name: "mount",
		text: `POST with mount and from reads the link in the other repository and the record,
and creates a link in this one.`,
		rows: []operation{
			{name: "1 MB", budget: 3, before: pushed(p.mega), run: mounts(p.mega)},
			{name: "1 MB, linked already", budget: 3 + linked, run: mounts(p.mega),
				before: func(c *httpClient) { c.pushByPut(p.mega); c.mount(p.mega.digest) }},
			{name: "1 MB, by sha512", budget: 3 + 1, before: pushed(p.mega.sha512()), run: mounts(p.mega.sha512())},
		},
	}
}

func (p payloads) pull() protocol {
	request := func(method string, p payload, want int) func(c *httpClient) {
		return func(c *httpClient) { c.blob(method, p.digest, want) }
	}
	warm := func(p payload) func(c *httpClient) {
		return func(c *httpClient) { c.pushByPut(p); c.head(p.digest) }
	}
	const head, get = http.MethodHead, http.MethodGet
	const ok, redirect, unknown = http.StatusOK, http.StatusTemporaryRedirect, http.StatusNotFound
	return protocol{
		name: "pull",
		text: `A read takes one request, to the link, which repeats the record and holds the
bytes of a small blob. It takes none while the link is cached. A larger blob is
answered with a redirect to a signed URL.`,
		rows: []operation{
			{name: "HEAD of 1 MB, cold", budget: 1, before: pushed(p.mega), run: request(head, p.mega, ok)},
			{name: "HEAD of 1 MB, warm", budget: 0, before: warm(p.mega), run: request(head, p.mega, ok)},
			{name: "GET of 10 KB, cold", budget: 1, before: pushed(p.small), run: request(get, p.small, ok)},
			{name: "GET of 10 KB, warm", budget: 0, run: request(get, p.small, ok),
				before: func(c *httpClient) { c.pushByPut(p.small); c.blob(get, p.small.digest, ok) }},
			{name: "GET of 1 MB, cold", budget: 1, before: pushed(p.mega), run: request(get, p.mega, redirect)},
			{name: "GET of 1 MB, warm", budget: 0, before: warm(p.mega), run: request(get, p.mega, redirect)},
			{name: "HEAD of an unknown blob", budget: 1, run: request(head, p.mega, unknown)},
			{name: "GET of an unknown blob", budget: 1, run: request(get, p.mega, unknown)},
			{name: "HEAD of 1 MB by sha512, cold", budget: 1 + 1, before: pushed(p.mega.sha512()), run: request(head, p.mega.sha512(), ok)},
			{name: "HEAD of 1 MB by sha512, warm", budget: 0, before: warm(p.mega.sha512()), run: request(head, p.mega.sha512(), ok)},
		},
	}
}

func (p payloads) delete() protocol {
	deletes := func(p payload) func(c *httpClient) {
		return func(c *httpClient) { c.blob(http.MethodDelete, p.digest, http.StatusAccepted) }
	}
	return protocol{
		name: "delete",
		text: `DELETE removes the link, by the tag that it just read. A delete without a
condition could take effect late and remove a newer link.`,
		rows: []operation{
			{name: "1 MB", budget: 2, before: pushed(p.mega), run: deletes(p.mega)},
			{name: "1 MB, by sha512", budget: 2 + 1, before: pushed(p.mega.sha512()), run: deletes(p.mega.sha512())},
		},
	}
}

// pushed returns a function that pushes by POST and PUT. It pushes at the other replica,
// so that the caches of the client's are cold.
func pushed(p payload) func(c *httpClient) {
	return func(c *httpClient) { c.otherReplica().pushByPut(p) }
}
