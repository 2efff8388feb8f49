package blobstore

import "io"

// near is how far apart ranges may be, in bytes, to be read from the store in
// one request: to read on costs less than to ask again. It is also how many
// bytes a spanReader keeps.
const near = 64 << 10

// read is one request to the store, for spans that follow each other in an
// answer.
type read struct {
	span
	parts int  // the number of spans
	back  bool // one of them starts before the end of an earlier one
}

// planReads returns the requests to the store that the spans take, in their
// order.
func planReads(spans []span) []read {
	var reads []read
	for _, s := range spans {
		if n := len(reads); n == 0 || !reads[n-1].take(s) {
			reads = append(reads, read{span: s, parts: 1})
		}
	}
	return reads
}

// take reports whether the span can be copied out of this read, after those
// that it was made for, and makes it part of it.
func (r *read) take(s span) bool {
	end := max(r.end, s.end)
	switch {
	case r.end <= s.start && s.start-r.end <= near: // it lies ahead
	case r.start <= s.start && s.start < r.end && r.end-s.start <= near: // what was read of it is kept
		r.back = true
	case s.start < r.start && end-s.start <= near: // the read starts earlier, and all of it is kept
		r.back = true
		r.start = s.start
	default:
		return false
	}
	r.end = end
	r.parts++
	return true
}

// spanReader copies spans of an object, in any order, by the requests that
// planReads returned for them.
type spanReader struct {
	data  *dataReader
	reads []read // the first is under way
	at    int64  // where data is
	kept  []byte // the bytes before at, if the read under way goes back: near of them, or all
}

func newSpanReader(data *dataReader, reads []read) *spanReader {
	r := &spanReader{data: data, reads: reads}
	r.start()
	return r
}

// start starts the first of the reads.
func (r *spanReader) start() {
	r.data.jump(r.reads[0].start, r.reads[0].end)
	r.at, r.kept = r.reads[0].start, r.kept[:0]
}

// copy copies the next of the spans to w.
func (r *spanReader) copy(w io.Writer, s span) error {
	if r.reads[0].parts == 0 {
		r.reads = r.reads[1:]
		r.start()
	}
	r.reads[0].parts--
	if s.start < r.at {
		again := r.kept[int64(len(r.kept))-(r.at-s.start):]
		again = again[:min(int64(len(again)), s.end-s.start)]
		if _, err := w.Write(again); err != nil {
			return err
		}
		s.start += int64(len(again))
	}
	if s.start == s.end {
		return nil
	}
	if err := r.read(io.Discard, s.start-r.at); err != nil {
		return err
	}
	return r.read(w, s.end-s.start)
}

// read copies the next n bytes to w.
func (r *spanReader) read(w io.Writer, n int64) error {
	if r.reads[0].back {
		w = io.MultiWriter(w, (*keeper)(r))
	}
	n, err := io.CopyN(w, r.data, n)
	r.at += n
	return err
}

// keeper is a spanReader that keeps what is written to it.
type keeper spanReader

func (k *keeper) Write(p []byte) (int, error) {
	k.kept = append(k.kept, p...)
	if n := len(k.kept); n > 2*near {
		k.kept = append(k.kept[:0], k.kept[n-near:]...)
	}
	return len(p), nil
}

// copySpan copies a span of data to w.
func copySpan(data io.ReadSeeker, w io.Writer, s span) error {
	if _, err := data.Seek(s.start, io.SeekStart); err != nil {
		return err
	}
	_, err := io.CopyN(w, data, s.end-s.start)
	return err
}

// spanCopier returns a function that copies the spans for which the reads were
// planned, one after the other.
func spanCopier(data io.ReadSeeker, reads []read) func(io.Writer, span) error {
	if d, ok := data.(*dataReader); ok {
		return newSpanReader(d, reads).copy
	}
	return func(w io.Writer, s span) error { return copySpan(data, w, s) }
}
