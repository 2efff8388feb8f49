package collect

import (
	"bufio"
	"bytes"
	"container/heap"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
)

// name is a blob that a manifest of a repository names: the bytes of the canonical digest,
// and the number of the repository. Names sort as the keys of links do.
type name [sha256Size + 4]byte

const sha256Size = 32

func newName(d digest.Digest, repository uint32) (n name, err error) {
	if _, err := hex.Decode(n[:sha256Size], []byte(d.Encoded())); err != nil {
		return n, err
	}
	binary.BigEndian.PutUint32(n[sha256Size:], repository)
	return n, nil
}

func (n name) compare(other name) int { return bytes.Compare(n[:], other[:]) }

// maxBuffered is the number of names that are sorted in memory, 9 MB of them.
const maxBuffered = 256 << 10

// names is the names of all blobs, sorted in files of a temporary directory.
type names struct {
	dir string

	mu       sync.Mutex
	buffered []name
	runs     []string // names of sorted files
	sorted   *os.File
	count    int64
	starts   [257]int64 // where the names with each first byte start in sorted
}

func newNames(scratch string) (*names, error) {
	dir, err := os.MkdirTemp(scratch, "berth-gc-")
	if err != nil {
		return nil, fmt.Errorf("collect.Config.Scratch: %w", err)
	}
	return &names{dir: dir}, nil
}

func (n *names) close() {
	if n.sorted != nil {
		n.sorted.Close()
	}
	_ = os.RemoveAll(n.dir) // what is left is temporary
}

func (n *names) add(all ...name) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.buffered = append(n.buffered, all...)
	if len(n.buffered) < maxBuffered {
		return nil
	}
	return n.spill()
}

// spill writes a sorted file.
func (n *names) spill() error {
	slices.SortFunc(n.buffered, name.compare)
	n.buffered = slices.Compact(n.buffered)
	path := filepath.Join(n.dir, fmt.Sprintf("%06d", len(n.runs)))
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	for i := range n.buffered {
		if _, err := w.Write(n.buffered[i][:]); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	n.runs, n.buffered = append(n.runs, path), n.buffered[:0]
	return errors.Join(w.Flush(), f.Close())
}

// maxMerged is the number of files that are merged at a time.
const maxMerged = 64

// finish merges the sorted files into one. Names are added before, and looked up after.
func (n *names) finish(context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.spill(); err != nil {
		return err
	}
	n.buffered = nil
	for round := 0; len(n.runs) > maxMerged; round++ {
		path := filepath.Join(n.dir, fmt.Sprintf("merged%06d", round))
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		if err := errors.Join(merge(f, n.runs[:maxMerged], func(name) {}), f.Close()); err != nil {
			return err
		}
		n.runs = append(n.runs[maxMerged:], path)
	}
	f, err := os.Create(filepath.Join(n.dir, "sorted"))
	if err != nil {
		return err
	}
	n.sorted = f
	err = merge(f, n.runs, func(v name) {
		n.count++
		n.starts[int(v[0])+1] = n.count * int64(len(name{}))
	})
	for i := 1; i < len(n.starts); i++ {
		n.starts[i] = max(n.starts[i], n.starts[i-1])
	}
	return err
}

// merge writes the names of sorted files, each once, and removes the files.
func merge(to io.Writer, paths []string, each func(name)) error {
	var h mergeHeap
	defer h.close()
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		s := &source{f: f, r: bufio.NewReaderSize(f, 64<<10)}
		h = append(h, s)
		if err := s.next(); err != nil {
			return err
		}
	}
	heap.Init(&h)
	w := bufio.NewWriterSize(to, 1<<20)
	var last name
	for first := true; len(h) > 0 && !h[0].done; first = false {
		s := h[0]
		if first || s.name != last {
			last = s.name
			each(last)
			if _, err := w.Write(last[:]); err != nil {
				return err
			}
		}
		if err := s.next(); err != nil {
			return err
		}
		heap.Fix(&h, 0)
	}
	for _, path := range paths {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return w.Flush()
}

// source is a sorted file that is merged.
type source struct {
	f    *os.File
	r    *bufio.Reader
	name name
	done bool
}

func (s *source) next() error {
	_, err := io.ReadFull(s.r, s.name[:])
	if err == io.EOF {
		s.done = true
		return nil
	}
	return err
}

// mergeHeap is the sources by their next name. Those at their end are last.
type mergeHeap []*source

func (h mergeHeap) Len() int      { return len(h) }
func (h mergeHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h mergeHeap) Less(i, j int) bool {
	if h[i].done != h[j].done {
		return h[j].done
	}
	return h[i].name.compare(h[j].name) < 0
}

// Push is not used: the heap only shrinks.
func (h *mergeHeap) Push(any) {}

// Pop is not used.
func (h *mergeHeap) Pop() any { return nil }

func (h mergeHeap) close() {
	for _, s := range h {
		s.f.Close()
	}
}

// cursor looks names up in ascending order.
type cursor struct {
	r    *bufio.Reader
	name name // that was read last
	read bool // a name was read
	done bool
}

// cursor returns a cursor over the names from a digest on with this first byte.
func (n *names) cursor(first byte) *cursor {
	from := n.starts[first]
	size := n.count*int64(len(name{})) - from
	return &cursor{r: bufio.NewReaderSize(io.NewSectionReader(n.sorted, from, size), 64<<10)}
}

// has reports whether the names have v, which is greater than that of the call before.
func (c *cursor) has(v name) (bool, error) {
	for !c.done && (!c.read || c.name.compare(v) < 0) {
		_, err := io.ReadFull(c.r, c.name[:])
		if err == io.EOF {
			c.done = true
			break
		}
		if err != nil {
			return false, err
		}
		c.read = true
	}
	return !c.done && c.name == v, nil
}
