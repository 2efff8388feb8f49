package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

const (
	// pollInterval is how often a file is checked for changes. A changed file is read
	// once it has not changed for this long, because some editors write a file in
	// several steps.
	pollInterval = 2 * time.Second

	maxFile = 16 << 20 // bytes
)

// watched is what a file contains. It follows the changes of the file, and keeps the last
// content that is valid.
type watched[T any] struct {
	current atomic.Pointer[T]
}

func (w *watched[T]) get() *T { return w.current.Load() }

// watch reads a file, and reads it again when it changes, until ctx ends. field names the
// file in errors and in the log.
func watch[T any](ctx context.Context, field, path string, log *slog.Logger, parse func([]byte) (*T, error)) (*watched[T], error) {
	w := new(watched[T])
	info, err := w.load(path, parse)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	go w.follow(ctx, field, path, info, log, parse)
	return w, nil
}

func (w *watched[T]) follow(ctx context.Context, field, path string, loaded os.FileInfo, log *slog.Logger, parse func([]byte) (*T, error)) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	previous := loaded
	missing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		info, err := os.Stat(path)
		if err != nil {
			if !missing {
				log.Warn("a file of the configuration cannot be read: what it contained stays in effect", "error", fmt.Errorf("%s: %w", field, err))
			}
			missing = true
			continue
		}
		missing = false
		stable := isSame(info, previous)
		previous = info
		if !stable || isSame(info, loaded) {
			continue
		}
		loaded = info // also if it is not valid: it is reported once
		if _, err := w.load(path, parse); err != nil {
			log.Error("a file of the configuration is not valid any more: what it contained stays in effect", "error", fmt.Errorf("%s: %w", field, err))
			continue
		}
		log.Info("a file of the configuration has changed and was read again", "file", path)
	}
}

// isSame reports whether a file has not changed.
func isSame(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// load reads the file. It returns the state that the file had before it was read.
func (w *watched[T]) load(path string, parse func([]byte) (*T, error)) (os.FileInfo, error) {
	info, err := os.Stat(path) // before Open, which waits for the writer of a pipe
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxFile:
		return nil, errors.New(path + " is larger than 16 MiB")
	}
	value, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	w.current.Store(value)
	return info, nil
}
