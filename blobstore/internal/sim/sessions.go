package sim

import (
	"fmt"
	"slices"

	"github.com/berthhq/berth/drivers"
)

func checkSessions(f *findings, inv *Inventory) {
	uploadOf := map[string]string{}
	for id, chain := range inv.Sessions {
		for i, r := range chain {
			if err := checkNumber(chain, i); err != nil {
				f.add("session %s: %w", id, err)
			}
			if u := r.Value.Upload; u != nil {
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
func checkNumber(chain []SessionRecord, i int) error {
	first, r := chain[0].Value, chain[i].Value
	if seq := chain[i].Seq; seq != i+1 {
		return fmt.Errorf("record %d follows %d others", seq, i)
	}
	if r.Repository != first.Repository || !r.Started.Equal(first.Started) {
		return fmt.Errorf("record %d is of %s, %v; the first of %s, %v", i+1, r.Repository, r.Started, first.Repository, first.Started)
	}
	return nil
}

// checkKind returns an error if the record at the index i cannot be there in the
// chain.
func checkKind(chain []SessionRecord, i int) error {
	r := chain[i].Value
	switch {
	case r.endsChain() && i < len(chain)-1:
		return fmt.Errorf("record %d ends it (%s), of %d", i+1, r.Kind, len(chain))
	case r.Kind == "spent" && (r.End <= i+1 || r.End > len(chain) || !chain[r.End-1].Value.endsChain()):
		return fmt.Errorf("record %d is spent and names record %d of %d, which does not end it", i+1, r.End, len(chain))
	case r.Kind == "open":
		for _, earlier := range chain[:i] {
			if earlier.Value.Kind == "open" && earlier.Value.Offset >= r.Offset {
				return fmt.Errorf("record %d is at offset %d, after %d", i+1, r.Offset, earlier.Value.Offset)
			}
		}
		return checkHolds(chain, i)
	}
	return nil
}

// checkHolds returns an error if the open record at the index i does not hold,
// with the records that it refers to, the bytes before its offset. In a session
// that has ended those records may be spent.
func checkHolds(chain []SessionRecord, i int) error {
	r := chain[i]
	held := &heldBytes{sum: r.RawSize}
	last := 0
	for _, ref := range r.Value.Refs {
		seq := int(ref[0])
		if seq <= last || seq > i {
			return fmt.Errorf("record %d refers to record %d after %d", r.Seq, seq, last)
		}
		last = seq
		if chain[seq-1].Value.Kind != "open" && hasEnded(chain) {
			return nil
		}
		if err := held.addRef(r.Seq, chain[seq-1], ref); err != nil {
			return err
		}
	}
	if err := held.addParts(r.Seq, r.Value.Parts); err != nil {
		return err
	}
	if held.sum != r.Value.Offset {
		return fmt.Errorf("record %d is at offset %d, with %d bytes", r.Seq, r.Value.Offset, held.sum)
	}
	return nil
}

// heldBytes counts the bytes and the parts that the records of a chain hold.
type heldBytes struct {
	sum   int64
	parts int
}

func (h *heldBytes) addRef(seq int, of SessionRecord, ref [3]int64) error {
	raw, parts := ref[1], ref[2]
	if of.Value.Kind != "open" {
		return fmt.Errorf("record %d refers to record %d, which is %s", seq, of.Seq, of.Value.Kind)
	}
	if raw != 0 && raw != of.RawSize || parts != int64(len(of.Value.Parts)) || raw+parts == 0 {
		return fmt.Errorf("record %d refers to %d raw bytes and %d parts of record %d, which has %d and %d",
			seq, raw, parts, of.Seq, of.RawSize, len(of.Value.Parts))
	}
	h.sum += raw
	return h.addParts(seq, of.Value.Parts)
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
func hasEnded(chain []SessionRecord) bool {
	return slices.ContainsFunc(chain, func(r SessionRecord) bool {
		return r.Value.Kind == "committed" || r.Value.Kind == "cancelled"
	})
}
