package upload

import "github.com/berthhq/berth/drivers"

// origin is where the multipart upload of a target comes from. It decides whether
// this request may abort the upload, and whether Seal has to bind its key to the
// digest.
type origin int

const (
	// noUpload: no upload was started. All bytes are in memory or in records.
	noUpload origin = iota

	// dropped: the store has the blob already. Bytes are hashed and dropped.
	dropped

	// ours: this request has started the upload, under a key of no digest, and
	// no record names it. No other request can know of it.
	ours

	// bound: this request has started the upload, under a key of the digest that
	// it requests. No other digest can complete it.
	bound

	// completing: as bound, but a Complete was sent, and may take effect late.
	completing

	// recorded: a record names the upload, or may do so.
	recorded

	// joined: the upload is that of another request, which has committed the same
	// bytes first, in parts of other sizes.
	joined
)

// target is the multipart upload that the parts of a request go to.
type target struct {
	upload *drivers.Upload // nil in noUpload and dropped
	origin origin
	sizes  sizes // zero until they are fixed
}

// follow sets the upload to u, which a record names. u is nil if the record names
// no upload.
func (t *target) follow(u *drivers.Upload) {
	t.upload, t.origin = u, noUpload
	if u != nil {
		t.origin = recorded
	}
}

// start sets the upload to one that this request has just started.
func (t *target) start(u drivers.Upload, from origin) { t.upload, t.origin = &u, from }

// isOurs reports whether no other request can know of the upload, so that this
// request may abort it.
func (t *target) isOurs() bool { return t.origin == ours || t.origin == bound }

// share ends isOurs, because a record that names the upload, or a Complete,
// was sent to the store.
func (t *target) share() {
	switch t.origin {
	case ours:
		t.origin = recorded
	case bound:
		t.origin = completing
	}
}

// needsSeal reports whether a record has to bind the key to the digest. None has
// to if the content is in memory, was dropped, or is under a key of its digest.
func (t *target) needsSeal() bool {
	switch t.origin {
	case ours, recorded, joined:
		return true
	default:
		return false
	}
}
