package blobstore

import (
	"context"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
)

// Short names for what package catalog exports.
type (
	record       = catalog.Record
	storedRecord = catalog.StoredRecord
	state        = catalog.State
	alias        = catalog.Alias
	deadData     = catalog.Dead
)

const (
	live       = catalog.Live
	condemned  = catalog.Condemned
	unverified = catalog.Unverified
	damaged    = catalog.Damaged
)

func randomID() string { return catalog.NewID() }

type layout struct{ catalog.Layout }

func (layout) record(d digest.Digest) string { return catalog.RecordKey(d) }

func (layout) link(d digest.Digest, repository string) string {
	return catalog.LinkKey(d, repository)
}

func (layout) linked(key string) (digest.Digest, bool) {
	d, _, ok := catalog.ParseLinkKey(key)
	return d, ok
}

func (layout) alias(d digest.Digest) string { return catalog.AliasKey(d) }

func (layout) dead() string { return catalog.NewDeadKey() }

// blob returns the prefix of all keys of one blob.
func (layout) blob(d digest.Digest) string {
	return strings.TrimSuffix(catalog.RecordKey(d), "record")
}

// readLink reads the repository's link from the bucket.
func (r *Repository) readLink(ctx context.Context, d digest.Digest) (storedRecord, error) {
	return r.s.catalog.ReadLink(ctx, d, r.name)
}
