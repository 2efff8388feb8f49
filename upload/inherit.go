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

	// repeatShare limits what a record repeats of the record before it: one byte
	// for each repeatShare bytes that its request added.
	repeatShare = 64

	// partInRecord is the approximate size of a part in a record, in bytes.
	partInRecord = 128
)

// ref is a reference to an earlier record of the session. Its JSON is
// [number, raw bytes, parts].
type ref struct {
	Seq   int   // number of the record
	Raw   int64 // its raw bytes that belong to the tail: all of them, or 0
	Parts int   // number of parts that it holds
}

// MarshalJSON returns the short form, because a record may have many references.
func (r ref) MarshalJSON() ([]byte, error) {
	return json.Marshal([3]int64{int64(r.Seq), r.Raw, int64(r.Parts)})
}

// UnmarshalJSON reads the form that MarshalJSON returns.
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

// content returns the number of bytes that taking over the record costs.
func (r ref) content() int64 { return r.Raw + int64(r.Parts)*partInRecord }

// takeOver returns the index of the first reference that the next record replaces
// by its content, or len(refs) if it can refer to all of them.
//
// With too many references, the record takes over the newest ones, up to the
// first that is larger than everything that it has taken over. So a byte is
// rewritten a few times only: with n references to requests of equal size, once in
// the first n(n+1)/2 requests, twice in the first n(n+1)(n+2)/6, and so on. If the
// rule takes the newest reference alone, the next request would rewrite the same
// bytes again. Then the record takes over the number of references that costs the
// fewest bytes for each reference.
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

// inherited is the content of the records before the next one.
type inherited struct {
	refs  []ref // oldest first, the newest record among them; at most maxRefs+1
	tail  int64 // raw bytes in them
	size  int64 // bytes in the parts before the tail
	parts int   // number of these parts
	crc   uint32

	known [][]drivers.Part // for each reference: its parts, if they were read
	tags  []string         // for each reference: the tag of the record, if it was read
}

// inherit returns what is inherited from the record r with the number seq, rawSize
// raw bytes and this tag.
func inherit(seq int, r sessionRecord, rawSize int64, tag string) inherited {
	in := inherited{refs: slices.Clone(r.Refs), crc: r.PartsCRC}
	if len(r.Refs) == 0 {
		in.crc = checksum(0, r.Parts)
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

// list returns the parts of the references from the index from on, which must have
// been read.
func (in *inherited) list(from int) []drivers.Part { return slices.Concat(in.known[from:]...) }
