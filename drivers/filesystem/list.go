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

// List walks the directories that can hold such keys, and no others. It holds
// the names of the directories between the root and where it is: a directory
// gives its names in no order, and key order is not that of names either
// ("a-b" comes before "a/x").
func (b *bucket) List(ctx context.Context, prefix, after string) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		at := prefix[:strings.LastIndexByte(prefix, '/')+1]
		top := strings.TrimSuffix(at, "/")
		switch {
		case at == "":
			top = "."
		case strings.HasPrefix(at, drivers.PartsPrefix) || drivers.CheckKey(top) != nil:
			return // no key begins so
		}
		// A bucket that was taken away would look empty.
		if err := b.notFound(); !errors.Is(err, drivers.ErrNotFound) {
			yield(drivers.Object{}, failed("list", prefix, err))
			return
		}
		// OpenRoot has no error of its own for what is no directory.
		info, err := b.root.Stat(top)
		if err == nil && !info.IsDir() {
			return
		}
		var dir *os.Root
		if err == nil {
			dir, err = b.root.OpenRoot(top)
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

// span is the keys that begin with prefix and are greater than after.
type span struct{ prefix, after string }

// meets says whether a key, or one below a directory if it ends in "/", is in
// the span.
func (s span) meets(key string) bool {
	if !strings.HasSuffix(key, "/") {
		return strings.HasPrefix(key, s.prefix) && key > s.after
	}
	return (strings.HasPrefix(key, s.prefix) || strings.HasPrefix(s.prefix, key)) &&
		(key > s.after || strings.HasPrefix(s.after, key))
}

// walk gives the objects of a directory, whose keys begin with at, that are in
// the span, in key order. It says whether to go on.
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

// readNames gives the names in a directory that lead to keys in the span, those
// of directories with a "/" at the end, in key order. What cannot be part of a
// key is somebody else's and left out.
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
