package blobstore

import (
	"io"

	"github.com/berthhq/berth/blobstore/internal/header"
)

// near is the maximum distance in bytes between ranges that are read from the
// store in one request: reading the bytes between them costs less than a second
// request. It is also the number of bytes that a spanReader keeps.
const near = 64 << 10

// storeRead is one request to the store, for spans that follow each other in a
// response.
type storeRead struct {
	header.Span
	parts int  // number of spans
	back  bool // a span starts before the end of an earlier one
}

// planReads returns the requests to the store that the spans need, in order.
func planReads(spans []header.Span) []storeRead {
	var reads []storeRead
	for _, s := range spans {
		if n := len(reads); n == 0 || !reads[n-1].add(s) {
			reads = append(reads, storeRead{Span: s, parts: 1})
		}
	}
	return reads
}

// add adds the span to this read, after the spans that it has, and reports
// whether that was possible.
func (r *storeRead) add(s header.Span) bool {
	end := max(r.End, s.End)
	switch {
	case r.End <= s.Start && s.Start-r.End <= near: // ahead
	case r.Start <= s.Start && s.Start < r.End && r.End-s.Start <= near: // back, to bytes that are kept
		r.back = true
	case s.Start < r.Start && end-s.Start <= near: // before the read, which then starts earlier and keeps everything
		r.back = true
		r.Start = s.Start
	default:
		return false
	}
	r.End = end
	r.parts++
	return true
}

// spanReader copies spans of an object, in any order, with the requests that
// planReads returned for them.
type spanReader struct {
	data  *dataReader
	reads []storeRead // the first is the current one
	at    int64       // the offset of data
	kept  []byte      // bytes before at, if the current read goes back: the last near bytes, or all
}

func newSpanReader(data *dataReader, reads []storeRead) *spanReader {
	r := &spanReader{data: data, reads: reads}
	r.start()
	return r
}

// start starts the first of the reads.
func (r *spanReader) start() {
	r.data.jump(r.reads[0].Start, r.reads[0].End)
	r.at, r.kept = r.reads[0].Start, r.kept[:0]
}

// copy copies the next of the spans to w.
func (r *spanReader) copy(w io.Writer, s header.Span) error {
	if r.reads[0].parts == 0 {
		r.reads = r.reads[1:]
		r.start()
	}
	r.reads[0].parts--
	if s.Start < r.at {
		again := r.kept[int64(len(r.kept))-(r.at-s.Start):]
		again = again[:min(int64(len(again)), s.Len())]
		if _, err := w.Write(again); err != nil {
			return err
		}
		s.Start += int64(len(again))
	}
	if s.Len() == 0 {
		return nil
	}
	if err := r.copyNext(io.Discard, s.Start-r.at); err != nil {
		return err
	}
	return r.copyNext(w, s.Len())
}

// copyNext copies the next n bytes to w.
func (r *spanReader) copyNext(w io.Writer, n int64) error {
	if r.reads[0].back {
		w = io.MultiWriter(w, (*keeper)(r))
	}
	n, err := io.CopyN(w, r.data, n)
	r.at += n
	return err
}

// keeper is a spanReader as a writer that keeps what is written to it.
type keeper spanReader

func (k *keeper) Write(p []byte) (int, error) {
	k.kept = append(k.kept, p...)
	if n := len(k.kept); n > 2*near {
		k.kept = append(k.kept[:0], k.kept[n-near:]...)
	}
	return len(p), nil
}

// copySpan copies a span of data to w.
func copySpan(data io.ReadSeeker, w io.Writer, s header.Span) error {
	if _, err := data.Seek(s.Start, io.SeekStart); err != nil {
		return err
	}
	_, err := io.CopyN(w, data, s.Len())
	return err
}

// spanCopier returns a function that copies, one after the other, the spans for
// which the reads were planned.
func spanCopier(data io.ReadSeeker, reads []storeRead) func(io.Writer, header.Span) error {
	if d, ok := data.(*dataReader); ok {
		return newSpanReader(d, reads).copy
	}
	return func(w io.Writer, s header.Span) error { return copySpan(data, w, s) }
}
