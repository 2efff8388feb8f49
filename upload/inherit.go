package upload

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/berthhq/berth/drivers"
)

const (
	// maxRefs is the largest number of earlier records that a record refers to.
	maxRefs = 64

	// repeatShare bounds what a record repeats of the record before it: one
	// byte for each repeatShare bytes that its request added.
	repeatShare = 64

	// partInRecord is about how many bytes a part takes in a record.
	partInRecord = 128
)

// ref is a reference to an earlier record of the session. It is written as
// [number, raw bytes, parts].
type ref struct {
	Seq   int   // number of the record
	Raw   int64 // its raw bytes that belong to the tail: all of them, or 0
	Parts int   // number of parts that it holds
}

// MarshalJSON writes the short form, because a record may have many references.
func (r ref) MarshalJSON() ([]byte, error) {
	return json.Marshal([3]int64{int64(r.Seq), r.Raw, int64(r.Parts)})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *ref) UnmarshalJSON(p []byte) error {
	var n []int64
	if err := json.Unmarshal(p, &n); err != nil {
		return err
	}
	if len(n) != 3 || slices.Min(n) < 0 || n[0] > math.MaxInt32 || n[2] > math.MaxInt32 {
		return fmt.Errorf("upload: reference %s: want [number, raw bytes, parts]", p)
	}
	*r = ref{int(n[0]), n[1], int(n[2])}
	return nil
}

// content is the number of bytes that taking over the record costs.
func (r ref) content() int64 { return r.Raw + int64(r.Parts)*partInRecord }

// takeOver returns the index of the first reference that the next record replaces
// by its content, or len(refs) if it can refer to all of them.
//
// With too many references, the record takes over the newest ones, up to the
// first that is larger than all it has taken over. So a byte is rewritten a few
// times only: with n references to requests of equal size, once in the first
// n(n+1)/2 requests, twice in the first n(n+1)(n+2)/6, and so on. Where that is
// the newest reference alone, the next request would rewrite the same bytes
// again. Then the record takes over as many as cost the fewest bytes for each
// reference that they free.
func takeOver(refs []ref) int {
	n := len(refs)
	if n <= maxRefs {
		return n
	}
	from, taken := n-1, refs[n-1].content()
	for from > 0 && refs[from-1].content() <= taken {
		from--
		taken += refs[from].content()
	}
	if from < n-1 {
		return from
	}
	best, sum := 0.0, int64(0)
	for i, r := range slices.Backward(refs) {
		sum += r.content()
		if cost := float64(sum) / float64(n-i); i == n-1 || cost <= best {
			best, from = cost, i
		}
	}
	return from
}

// inherited is what the records hold that the next record of a Writer follows.
type inherited struct {
	refs  []ref // oldest first, the newest record among them; at most maxRefs+1
	tail  int64 // raw bytes in them
	size  int64 // bytes in the parts before the tail
	parts int   // number of these parts
	crc   uint32

	known [][]drivers.Part // by reference: its parts, if they were read
	tags  []string         // by reference: the tag of the record, if it was read
}

// inherit returns what is inherited from the record number seq, which is read,
// with rawSize raw bytes.
func inherit(seq int, r sessionRecord, rawSize int64, tag string) inherited {
	in := inherited{refs: slices.Clone(r.Refs), crc: r.PartsCRC}
	if len(r.Refs) == 0 {
		in.crc = checksum(r.Parts)
	}
	if rawSize > 0 || len(r.Parts) > 0 {
		in.refs = append(in.refs, ref{seq, rawSize, len(r.Parts)})
	}
	in.known, in.tags = make([][]drivers.Part, len(in.refs)), make([]string, len(in.refs))
	for i, f := range in.refs {
		in.tail += f.Raw
		in.parts += f.Parts
		if f.Seq == seq {
			in.known[i], in.tags[i] = r.Parts, tag
		}
	}
	in.size = r.Offset - in.tail
	return in
}

// has reports whether the newest reference is to the record number seq.
func (in *inherited) has(seq int) bool {
	return len(in.refs) > 0 && in.refs[len(in.refs)-1].Seq == seq
}

// list returns the parts of the references from the index from on. All of them
// were read.
func (in *inherited) list(from int) []drivers.Part { return slices.Concat(in.known[from:]...) }
