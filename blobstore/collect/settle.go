package collect

import (
	"context"
	"errors"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// verdict is what becomes of an object.
type verdict int

const (
	keep    verdict = iota
	condemn         // mark it, so that a later run may remove it
	restore         // take the mark off
	remove
)

// object is an object on which the collector decides.
type object[T any] struct {
	key  string
	due  deadline.Deadline // of the reads on which the decision relies
	kind *Counts           // counts what becomes of it

	// read reads the object. Nil stands for envelope.Read.
	read func(ctx context.Context) (envelope.Stored[T], error)

	// decide returns what becomes of the object, by what was read just now. It changes
	// the value for condemn and restore. An error leaves the object alone.
	decide func(ctx context.Context, s *envelope.Stored[T]) (verdict, error)

	// size returns the bytes that its removal counts as. Nil stands for none.
	size func(s T) int64
}

// settle reads an object, decides, and acts by the tag that was read. So an object that has
// changed or vanished meanwhile stays. It returns what it did: keep if it did nothing.
func settle[T any](ctx context.Context, r *run, o object[T]) verdict {
	read := o.read
	if read == nil {
		read = func(ctx context.Context) (envelope.Stored[T], error) { return envelope.Read[T](ctx, r.meter, o.key) }
	}
	s, err := read(ctx)
	if errors.Is(err, drivers.ErrNotFound) {
		return keep
	}
	v := keep
	if err == nil {
		v, err = o.decide(ctx, &s)
	}
	if err == nil && v != keep && !r.cfg.DryRun {
		err = r.act(ctx, o.due, s.Object, v, func(ctx context.Context) error {
			_, err := envelope.Replace(ctx, r.meter, o.key, s.Object.Tag, s.Value, drivers.NewBody(s.Raw))
			return err
		})
	}
	if errors.Is(err, drivers.ErrChanged) {
		return keep
	}
	if err != nil {
		r.failures.add(o.key, err)
		return keep
	}
	var bytes int64
	if o.size != nil {
		bytes = o.size(s.Value)
	}
	r.report.count(o.kind, v, bytes)
	return v
}

// act removes an object in the version that was read, or calls replace.
func (r *run) act(ctx context.Context, due deadline.Deadline, o drivers.Object, v verdict, replace func(context.Context) error) error {
	if err := due.Check(); err != nil {
		return err
	}
	ctx, cancel := due.Context(ctx)
	defer cancel()
	switch {
	case v != remove:
		return replace(ctx)
	case r.cfg.Broken.RemoveBlindly:
		return r.meter.Delete(ctx, o.Key)
	}
	return r.meter.DeleteIf(ctx, o.Key, o.Tag)
}

// exists reports whether an object was found. s and err are the results of reading it.
func exists[T any](s T, err error) (T, bool, error) {
	if errors.Is(err, drivers.ErrNotFound) {
		return s, false, nil
	}
	return s, err == nil, err
}

// readAll reads the objects with a prefix one by one, and calls do for each, until do
// returns false or an error.
func readAll[T any](ctx context.Context, r *run, prefix string, do func(envelope.Stored[T]) (bool, error)) error {
	stop := errors.New("stop")
	err := r.walk(ctx, span{prefix: prefix}, func(ctx context.Context, o listed) error {
		s, found, err := exists(envelope.Read[T](ctx, r.meter, o.Key))
		if err != nil || !found {
			return err
		}
		more, err := do(s)
		if err == nil && !more {
			err = stop
		}
		return err
	})
	if errors.Is(err, stop) {
		return nil
	}
	return err
}
