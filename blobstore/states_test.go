package blobstore

import (
	"bytes"
	"context"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// recordState is a state in which the collector, scrub, adopt or an accident may
// have left a blob that was pushed to one repository.
type recordState struct {
	name string

	// make changes the blob into this state. If it is nil, nothing has happened
	// to the blob.
	make func(m *mutation) error

	none     bool // there is no blob
	readable bool // the repository can still read the blob
	hasData  bool // only a blob that is not inline can be in this state
	lost     bool // the bytes of the blob are gone or wrong

	// often selects the states for searches that take long. Each of the others is
	// much like one of these.
	often bool
}

func recordStates() []recordState {
	return []recordState{
		{name: "no record", often: true, none: true},
		{name: "live", readable: true, often: true},
		{name: "condemned", often: true, make: (*mutation).condemn},
		{name: "condemned, data gone", hasData: true, lost: true, make: func(m *mutation) error {
			return first(m.condemn, m.loseData)
		}},
		{name: "damaged", often: true, make: func(m *mutation) error { return first(m.mark(damaged), m.spoilData) }},
		{name: "unverified", readable: true, make: func(m *mutation) error { return m.mark(unverified)() }},
		{name: "unverified, adopted", readable: true, hasData: true, often: true, make: (*mutation).adopt},
		{name: "of another life", readable: true, often: true, make: func(m *mutation) error {
			return m.edit(m.recordKey(), func(r *record) { r.ID = catalog.NewID() })
		}},
		{name: "live, data gone", hasData: true, lost: true, often: true, make: (*mutation).loseData},
		{name: "live, data cut short", hasData: true, lost: true, make: (*mutation).truncateData},
	}
}

// stateNamed returns one of the recordStates.
func stateNamed(name string) recordState {
	for _, s := range recordStates() {
		if s.name == name {
			return s
		}
	}
	panic("no state " + name)
}

// leave leaves the blob p, which c pushes to a repository, in this state.
func (s recordState) leave(c *client, repo string, p []byte) error {
	if s.none {
		return nil
	}
	if err := c.push(repo, p); err != nil || s.make == nil {
		return err
	}
	if !s.readable {
		c.run.Ledger.Deleting(repo, p)(nil)
	}
	m := &mutation{c.run, repo, digest.FromBytes(p)}
	r, err := m.record()
	if err != nil {
		return err
	}
	if s.lost {
		c.run.Invariants.Lose(r.Value.Data)
	}
	return s.make(m)
}

// first returns the first error of these functions, and calls none after it.
func first(fs ...func() error) error {
	for _, f := range fs {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// mutation changes a blob directly in the bucket.
type mutation struct {
	run    *simRun
	repo   string
	digest digest.Digest
}

func (m *mutation) recordKey() string { return catalog.RecordKey(m.digest) }

func (m *mutation) linkKey() string { return catalog.LinkKey(m.digest, m.repo) }

func (m *mutation) record() (storedRecord, error) {
	return envelope.Read[record](m.run.Ctx, m.run.Bucket, m.recordKey())
}

// edit changes a record or a link.
func (m *mutation) edit(key string, change func(*record)) error {
	return edit(m.run.Ctx, m.run.Bucket, key, change)
}

func edit(ctx context.Context, b drivers.Bucket, key string, change func(*record)) error {
	s, err := envelope.Read[record](ctx, b, key)
	if err != nil {
		return err
	}
	change(&s.Value)
	_, err = envelope.Replace(ctx, b, key, s.Object.Tag, s.Value, drivers.NewBody(s.Raw))
	return err
}

// editBoth changes the record and the link.
func (m *mutation) editBoth(change func(*record)) error {
	if err := m.edit(m.recordKey(), change); err != nil {
		return err
	}
	return m.edit(m.linkKey(), change)
}

// mark returns a function that changes the state of the record and the link.
func (m *mutation) mark(s state) func() error {
	return func() error { return m.editBoth(func(r *record) { r.State = s }) }
}

func (m *mutation) unlink() error { return m.run.Bucket.Delete(m.run.Ctx, m.linkKey()) }

// condemn deletes the link and condemns the record, as the collector does.
func (m *mutation) condemn() error {
	if err := m.unlink(); err != nil {
		return err
	}
	return m.edit(m.recordKey(), func(r *record) { r.State = condemned })
}

// forget deletes the record, as the collector does, and leaves the link.
func (m *mutation) forget() error {
	m.run.Invariants.Collected = true
	return m.run.Bucket.Delete(m.run.Ctx, m.recordKey())
}

// replaceData replaces the data by the result of change, or deletes it if that is
// nil. Inline blobs stay as they are.
func (m *mutation) replaceData(change func(p []byte) []byte) error {
	r, err := m.record()
	if err != nil || r.Value.Data == "" {
		return err
	}
	ctx, b := m.run.Ctx, m.run.Bucket
	p, err := readAll(ctx, b, r.Value.Data)
	if err != nil {
		return err
	}
	m.run.Invariants.Lose(r.Value.Data)
	if err := b.Delete(ctx, r.Value.Data); err != nil {
		return err
	}
	if p = change(p); p != nil {
		_, err = b.Create(ctx, r.Value.Data, drivers.NewBody(p))
	}
	return err
}

func (m *mutation) loseData() error {
	return m.replaceData(func([]byte) []byte { return nil })
}

func (m *mutation) truncateData() error {
	return m.replaceData(func(p []byte) []byte { return p[:len(p)-1] })
}

// spoilData replaces the data by as many other bytes.
func (m *mutation) spoilData() error {
	return m.replaceData(func(p []byte) []byte { return bytes.Repeat([]byte("x"), len(p)) })
}

// adopt moves the data to where another registry keeps it.
func (m *mutation) adopt() error {
	r, err := m.record()
	if err != nil {
		return err
	}
	ctx, b, hex := m.run.Ctx, m.run.Bucket, m.digest.Encoded()
	p, err := readAll(ctx, b, r.Value.Data)
	if err != nil {
		return err
	}
	at := "docker/registry/v2/blobs/sha256/" + hex[:2] + "/" + hex + "/data"
	if _, err := b.Create(ctx, at, drivers.NewBody(p)); err != nil {
		return err
	}
	if err := b.Delete(ctx, r.Value.Data); err != nil {
		return err
	}
	return m.editBoth(func(r *record) { r.State, r.Data = unverified, at })
}

func readAll(ctx context.Context, b drivers.Bucket, key string) ([]byte, error) {
	rc, _, err := b.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}
