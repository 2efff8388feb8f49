package sim

import (
	"fmt"
	"slices"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/upload"
)

func checkSessions(f *findings, inv *Inventory) {
	uploadOf := map[string]string{}
	for id, chain := range inv.Sessions {
		for i, r := range chain {
			if err := checkNumber(chain, i); err != nil {
				f.add("session %s: %w", id, err)
			}
			if u := r.Upload; u != nil {
				if other, ok := uploadOf[u.Key]; ok && other != id {
					f.add("sessions %s and %s: both name %s", id, other, u.Key)
				}
				uploadOf[u.Key] = id
			}
			if err := checkKind(chain, i); err != nil {
				f.add("session %s: %w", id, err)
			}
		}
	}
}

// checkNumber returns an error if the record at the index i has another number,
// repository or start than its place in the chain requires.
func checkNumber(chain []upload.Record, i int) error {
	first, r := chain[0], chain[i]
	if r.Seq != i+1 {
		return fmt.Errorf("record %d follows %d others", r.Seq, i)
	}
	if r.Repository != first.Repository || !r.Started.Equal(first.Started) {
		return fmt.Errorf("record %d is of %s, %v; the first of %s, %v", i+1, r.Repository, r.Started, first.Repository, first.Started)
	}
	return nil
}

// checkKind returns an error if the record at the index i cannot be there in the
// chain.
func checkKind(chain []upload.Record, i int) error {
	r := chain[i]
	switch {
	case endsChain(r) && i < len(chain)-1:
		return fmt.Errorf("record %d ends it (%s), of %d", i+1, r.Kind, len(chain))
	case r.Kind == upload.KindSpent && (r.End <= i+1 || r.End > len(chain) || !endsChain(chain[r.End-1])):
		return fmt.Errorf("record %d is spent and names record %d of %d, which does not end it", i+1, r.End, len(chain))
	case r.Kind == upload.KindOpen:
		for _, earlier := range chain[:i] {
			if earlier.Kind == upload.KindOpen && earlier.Offset >= r.Offset {
				return fmt.Errorf("record %d is at offset %d, after %d", i+1, r.Offset, earlier.Offset)
			}
		}
		return checkHolds(chain, i)
	}
	return nil
}

// checkHolds returns an error if the open record at the index i does not hold,
// with the records that it refers to, the bytes before its offset. In a session
// that has ended those records may be spent.
func checkHolds(chain []upload.Record, i int) error {
	r := chain[i]
	held := &heldBytes{sum: r.RawSize}
	last := 0
	for _, ref := range r.Refs {
		if ref.Seq <= last || ref.Seq > i {
			return fmt.Errorf("record %d refers to record %d after %d", r.Seq, ref.Seq, last)
		}
		last = ref.Seq
		if chain[last-1].Kind != upload.KindOpen && hasEnded(chain) {
			return nil
		}
		if err := held.addRef(r.Seq, chain[last-1], ref); err != nil {
			return err
		}
	}
	if err := held.addParts(r.Seq, r.Parts); err != nil {
		return err
	}
	if held.sum != r.Offset {
		return fmt.Errorf("record %d is at offset %d, with %d bytes", r.Seq, r.Offset, held.sum)
	}
	return nil
}

// heldBytes counts the bytes and the parts that the records of a chain hold.
type heldBytes struct {
	sum   int64
	parts int
}

func (h *heldBytes) addRef(seq int, of upload.Record, ref upload.Ref) error {
	if of.Kind != upload.KindOpen {
		return fmt.Errorf("record %d refers to record %d, which is %s", seq, of.Seq, of.Kind)
	}
	if ref.Raw != 0 && ref.Raw != of.RawSize || ref.Parts != len(of.Parts) || ref.Raw == 0 && ref.Parts == 0 {
		return fmt.Errorf("record %d refers to %d raw bytes and %d parts of record %d, which has %d and %d",
			seq, ref.Raw, ref.Parts, of.Seq, of.RawSize, len(of.Parts))
	}
	h.sum += ref.Raw
	return h.addParts(seq, of.Parts)
}

func (h *heldBytes) addParts(seq int, parts []drivers.Part) error {
	for _, p := range parts {
		if h.parts++; p.Number != h.parts {
			return fmt.Errorf("record %d: part %d follows %d others", seq, p.Number, h.parts-1)
		}
		h.sum += p.Size
	}
	return nil
}

// hasEnded reports whether a session has ended, by its last record or by one
// that was replaced in place.
func hasEnded(chain []upload.Record) bool {
	return slices.ContainsFunc(chain, func(r upload.Record) bool { return r.Kind.EndsSession() })
}
