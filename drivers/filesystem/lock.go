package filesystem

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"time"
)

// locks are the locks of keys, against all goroutines and processes.
type locks struct {
	root    *os.Root
	stripes stripes
}

// stripes serialize the goroutines of one process, so that at most one of them
// polls for a lock file.
type stripes [256]chan struct{}

func newStripes() (s stripes) {
	for i := range s {
		s[i] = make(chan struct{}, 1)
	}
	return s
}

// lock locks the key's stripe against all goroutines and processes. A key has
// the same stripe in every version of berth. The kernel releases the stripe of
// a process that dies.
//
// lock polls, because a goroutine in a blocking flock(2) would not notice that
// its context has ended.
func (l *locks) lock(ctx context.Context, key string) (unlock func(), err error) {
	h := fnv.New32a()
	h.Write([]byte(key)) // never fails
	stripe := h.Sum32() % uint32(len(l.stripes))

	select {
	case l.stripes[stripe] <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f, err := l.flock(ctx, fmt.Sprintf("%s/%02x", locksDir, stripe))
	if err != nil {
		<-l.stripes[stripe]
		return nil, err
	}
	return func() {
		f.Close()
		<-l.stripes[stripe]
	}, nil
}

// flock opens the file again on each call, because a lock belongs to the open
// file. Two buckets in one process therefore exclude each other as well.
func (l *locks) flock(ctx context.Context, name string) (*os.File, error) {
	f, err := l.root.OpenFile(name, os.O_RDWR|os.O_CREATE|largeFile, fileMode)
	if err != nil {
		return nil, err
	}
	for wait := 250 * time.Microsecond; ; wait = min(2*wait, 16*time.Millisecond) {
		locked, err := tryFlock(f)
		if err != nil {
			f.Close()
			return nil, &os.PathError{Op: "flock", Path: name, Err: err}
		}
		if locked {
			return f, nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		}
	}
}
