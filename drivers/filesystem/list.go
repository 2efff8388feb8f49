package filesystem

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/berthhq/berth/drivers"
)

// List walks only the directories that can hold keys in the range. In memory it
// holds names in the directories from the root to the current one, because a
// directory returns its names in no order, and key order differs from the order of
// names ("a-b" comes before "a/x"). For a caller that wants n objects these are about
// 2n names of each directory. List reads a directory again if the caller continues
// past them.
func (s *objectStore) List(ctx context.Context, prefix, after string, want int) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		at := prefix[:strings.LastIndexByte(prefix, '/')+1]
		top := strings.TrimSuffix(at, "/")
		switch {
		case at == "":
			top = "."
		case strings.HasPrefix(at, drivers.PartsPrefix) || drivers.CheckKey(top) != nil:
			return // no key has this prefix
		}
		// A bucket that was removed would look empty.
		if err := s.disk.notFound(); !errors.Is(err, drivers.ErrNotFound) {
			yield(drivers.Object{}, failed("list", prefix, err))
			return
		}
		// OpenRoot has no distinct error for a path that is not a directory.
		info, err := s.disk.root.Stat(top)
		if err == nil && !info.IsDir() {
			return
		}
		var dir *os.Root
		if err == nil {
			dir, err = s.disk.root.OpenRoot(top)
		}
		if absent(err) {
			return
		}
		if err != nil {
			yield(drivers.Object{}, failed("list", prefix, err))
			return
		}
		defer dir.Close()
		w := walk{ctx: ctx, span: span{prefix, after}, want: want, yield: yield}
		w.dir(dir, at)
	}
}

// span is the set of keys that have the prefix and are greater than after.
type span struct{ prefix, after string }

// meets reports whether the key is in the span. If key ends in "/", it is a
// directory, and meets reports whether a key below it can be in the span.
func (s span) meets(key string) bool {
	if !strings.HasSuffix(key, "/") {
		return strings.HasPrefix(key, s.prefix) && key > s.after
	}
	return (strings.HasPrefix(key, s.prefix) || strings.HasPrefix(s.prefix, key)) &&
		(key > s.after || strings.HasPrefix(s.after, key))
}

// walk is one List.
type walk struct {
	ctx    context.Context //nolint:containedctx // it lives as long as one call of List
	span   span
	want   int // see drivers.Bucket.List
	listed int
	yield  func(drivers.Object, error) bool
}

// dir yields the objects of a directory that are in the span, in key order. Their
// keys start with at. It reports whether the iteration should continue.
func (w *walk) dir(dir *os.Root, at string) bool {
	for after := ""; ; {
		limit := drivers.PageSize(w.want, w.listed, math.MaxInt)
		names, err := readNames(dir, at, w.span, after, limit)
		if err == nil {
			err = w.ctx.Err()
		}
		if err != nil {
			return w.fail(at, err)
		}
		for _, name := range names {
			if !w.entry(dir, at, name) {
				return false
			}
		}
		if len(names) < limit {
			return true
		}
		after = names[len(names)-1]
	}
}

// entry yields the object that a name in a directory stands for, or the objects below
// it if it ends in "/".
func (w *walk) entry(dir *os.Root, at, name string) bool {
	if err := w.ctx.Err(); err != nil {
		return w.fail(at, err)
	}
	if below, isDir := strings.CutSuffix(name, "/"); isDir {
		sub, err := dir.OpenRoot(below)
		if absent(err) {
			return true
		}
		if err != nil {
			return w.fail(at+name, err)
		}
		defer sub.Close()
		return w.dir(sub, at+name)
	}
	info, err := dir.Lstat(name)
	switch {
	case absent(err):
		return true
	case err != nil:
		return w.fail(at+name, err)
	case !info.Mode().IsRegular():
		return true
	}
	w.listed++
	return w.yield(drivers.Object{Key: at + name, Size: info.Size(), Modified: info.ModTime().UTC()}, nil)
}

// fail yields an error, and ends the iteration.
func (w *walk) fail(at string, err error) bool {
	w.yield(drivers.Object{}, failed("list", at, err))
	return false
}

// readNames returns the names in a directory that lead to keys in the span, in
// key order: the first ones after the name after, at most limit. Names of directories
// end in "/". Names that cannot be part of a key belong to other programs and are left
// out. It holds twice as many names, and those that the system returns at once.
func readNames(dir *os.Root, at string, s span, after string, limit int) ([]string, error) {
	f, err := dir.Open(".")
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	for {
		entries, err := f.ReadDir(1024)
		for _, e := range entries {
			if name, ok := keyName(e, at, s); ok && name > after {
				names = append(names, name)
			}
		}
		if ended := errors.Is(err, io.EOF) || absent(err); ended || len(names)/2 >= limit {
			slices.Sort(names)
			names = names[:min(len(names), limit)]
			if ended {
				return names, nil
			}
		}
		if err != nil {
			return nil, err
		}
	}
}

// keyName returns the name of a directory's entry, with a "/" at the end if it is a
// directory. It reports false if the entry does not lead to a key in the span.
func keyName(e fs.DirEntry, at string, s span) (string, bool) {
	name := e.Name()
	if drivers.CheckKey(at+name) != nil {
		return "", false
	}
	switch e.Type() {
	case 0:
	case fs.ModeDir:
		name += "/"
	default:
		return "", false
	}
	key := at + name
	return name, key != drivers.PartsPrefix && s.meets(key)
}
