package filesystem

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/berthhq/berth/drivers"
)

// List walks only the directories that can hold keys in the range. In memory it
// holds the names in the directories from the root to the current one, because
// a directory returns its names in no order, and key order differs from the
// order of names ("a-b" comes before "a/x").
func (s *objectStore) List(ctx context.Context, prefix, after string) iter.Seq2[drivers.Object, error] {
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
		walk(ctx, dir, at, span{prefix, after}, yield)
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

// walk yields the objects of a directory that are in the span, in key order.
// Their keys start with at. It reports whether the iteration should continue.
func walk(ctx context.Context, dir *os.Root, at string, s span, yield func(drivers.Object, error) bool) bool {
	names, err := readNames(dir, at, s)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		yield(drivers.Object{}, failed("list", at, err))
		return false
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			yield(drivers.Object{}, failed("list", at, err))
			return false
		}
		below, isDir := strings.CutSuffix(name, "/")
		if isDir {
			sub, err := dir.OpenRoot(below)
			if absent(err) {
				continue
			}
			if err != nil {
				yield(drivers.Object{}, failed("list", at+name, err))
				return false
			}
			more := walk(ctx, sub, at+name, s, yield)
			sub.Close()
			if !more {
				return false
			}
			continue
		}
		info, err := dir.Lstat(name)
		if absent(err) {
			continue
		}
		if err != nil {
			yield(drivers.Object{}, failed("list", at+name, err))
			return false
		}
		if !info.Mode().IsRegular() {
			continue
		}
		if !yield(drivers.Object{Key: at + name, Size: info.Size(), Modified: info.ModTime().UTC()}, nil) {
			return false
		}
	}
	return true
}

// readNames returns the names in a directory that lead to keys in the span, in
// key order. Names of directories end in "/". Names that cannot be part of a
// key belong to other programs and are left out.
func readNames(dir *os.Root, at string, s span) ([]string, error) {
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
			name := e.Name()
			if drivers.CheckKey(at+name) != nil {
				continue
			}
			switch e.Type() {
			case 0:
			case fs.ModeDir:
				name += "/"
			default:
				continue
			}
			if key := at + name; key != drivers.PartsPrefix && s.meets(key) {
				names = append(names, name)
			}
		}
		switch {
		case errors.Is(err, io.EOF), absent(err):
			slices.Sort(names)
			return names, nil
		case err != nil:
			return nil, err
		}
	}
}
