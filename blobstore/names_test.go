package blobstore

import "github.com/berthhq/berth/blobstore/catalog"

// Short names for what package catalog exports.
type (
	record       = catalog.Record
	storedRecord = catalog.StoredRecord
	state        = catalog.State
)

const (
	live       = catalog.Live
	condemned  = catalog.Condemned
	unverified = catalog.Unverified
	damaged    = catalog.Damaged
)
