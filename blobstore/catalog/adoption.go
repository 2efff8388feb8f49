package catalog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// AdoptionsPrefix is the prefix of the states of repositories that were adopted.
const AdoptionsPrefix = MetaPrefix + "adopt/"

// AdoptionKey returns the key of the state of an adopted repository.
func AdoptionKey(repository string) string { return AdoptionsPrefix + encodeName(repository) }

// Adoption is how far a repository of another registry was taken over.
type Adoption struct {
	// Finished means that a run has taken over the whole repository. Until then no
	// link of the repository may be collected.
	Finished bool `json:"finished"`

	// Since is the start of the last run that has finished, by the store's clock. Later
	// runs take only links that are newer, or they would bring back what clients have
	// deleted here.
	Since time.Time `json:"since,omitzero"`

	// Unreadable is the number of manifests that were not taken over. What they refer to
	// is unknown. If there is one, no link of the repository may be collected.
	Unreadable int `json:"unreadable,omitempty"`
}

// StoredAdoption is an Adoption as it is stored in the bucket.
type StoredAdoption = envelope.Stored[Adoption]

// Holds reports whether the collector has to keep all links of the repository.
func (a Adoption) Holds() bool { return !a.Finished || a.Unreadable > 0 }

// ReadAdoption returns the state of an adopted repository. It returns drivers.ErrNotFound
// if the repository was not adopted.
func (c *Catalog) ReadAdoption(ctx context.Context, repository string) (StoredAdoption, error) {
	return envelope.Read[Adoption](ctx, c.bucket, AdoptionKey(repository))
}

// Adoptions returns the repositories that were adopted, finished or not, in the order of
// their keys. It lists as the caller iterates, and ends with the first error.
func (c *Catalog) Adoptions(ctx context.Context) iter.Seq2[string, error] {
	return keysOf(ctx, c.bucket, AdoptionsPrefix, "", 0, func(key string) (string, bool) {
		name := strings.TrimPrefix(key, AdoptionsPrefix)
		return decodeName(name), name != "" && !strings.Contains(name, "/")
	})
}

// StartAdoption returns the state of a repository that a run is about to take over, which
// is not finished. Its Object.Modified is the start of the run, or of an earlier run that
// has not finished. A retry is harmless.
func (c *Catalog) StartAdoption(ctx context.Context, repository string) (StoredAdoption, error) {
	for {
		state, err := c.ReadAdoption(ctx, repository)
		switch {
		case errors.Is(err, drivers.ErrNotFound):
			_, err = envelope.Create(ctx, c.bucket, AdoptionKey(repository), Adoption{}, drivers.Body{})
		case err != nil || !state.Value.Finished:
			return state, err
		default:
			next := state.Value
			next.Finished = false
			_, err = envelope.Replace(ctx, c.bucket, state.Object.Key, state.Object.Tag, next, drivers.Body{})
		}
		// The result of a write may have no time, so the state is read again.
		if err != nil && !errors.Is(err, drivers.ErrExists) && !errors.Is(err, drivers.ErrChanged) {
			return StoredAdoption{}, fmt.Errorf("catalog: start to adopt %s: %w", repository, err)
		}
	}
}

// FinishAdoption records that a run has taken over the repository, except this many
// manifests. It does nothing if another run has changed the state since StartAdoption has
// returned it: that run has taken over the same, or is about to.
func (c *Catalog) FinishAdoption(ctx context.Context, started StoredAdoption, unreadable int) error {
	next := Adoption{Finished: true, Since: started.Object.Modified, Unreadable: unreadable}
	_, err := envelope.Replace(ctx, c.bucket, started.Object.Key, started.Object.Tag, next, drivers.Body{})
	if errors.Is(err, drivers.ErrChanged) {
		return nil
	}
	return err
}

// EnsureAdopted returns a record of a blob that was stored by another registry, so that a
// link can be written to it. The bytes are under the key, where they stay, and were not
// hashed here. It reports whether it has created the record. If there is one, its state
// decides:
//
//   - Live: EnsureAdopted returns it.
//   - Condemned: it makes the record live, as Revive does.
//   - Unverified: it replaces the record with the same content. The collector removes an
//     unverified record without links in one step, and must not have read this version.
//   - Damaged: it returns ErrDamaged.
//
// It returns drivers.ErrNotFound if the record is condemned and its data is missing, and
// drivers.ErrBusy if the deadline has passed before a write. A retry is harmless.
func (c *Catalog) EnsureAdopted(ctx context.Context, due deadline.Deadline, d digest.Digest, size int64, key string) (rec StoredRecord, created bool, err error) {
	ours := Record{
		ID:        NewID(),
		Digest:    d,
		Size:      size,
		MediaType: "application/octet-stream",
		Created:   time.Now().UTC(),
		State:     Unverified,
		Data:      key,
	}
	if size == 0 { // there is only one blob of this size, and nothing to verify or to store
		ours.State, ours.Data = Live, ""
	}
	for {
		if err := due.Check(); err != nil {
			return StoredRecord{}, false, err
		}
		rec, err := envelope.Create(ctx, c.bucket, RecordKey(d), ours, drivers.Body{})
		if !errors.Is(err, drivers.ErrExists) {
			return rec, err == nil, err
		}
		switch rec.Value.State {
		case Live:
			return rec, false, nil
		case Condemned:
			rec, err = c.Revive(ctx, due, d)
			return rec, false, err
		case Unverified:
			rec, err = replace(ctx, c.bucket, due, rec, rec.Value, rec.Raw)
		case Damaged:
			return rec, false, fmt.Errorf("catalog: %s: %w", d, ErrDamaged)
		default:
			return rec, false, fmt.Errorf("catalog: %s: unknown state %q", rec.Object.Key, rec.Value.State)
		}
		if !errors.Is(err, drivers.ErrChanged) {
			return rec, false, err
		}
	}
}
