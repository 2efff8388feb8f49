package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berthhq/berth/drivers"
)

// A store may check a condition in one step and write in another, or check it
// in each of its nodes separately. Sequential writes do not show that: of
// several concurrent writes more than one succeeds.

const (
	raceWriters = 8 // concurrent writers
	raceRounds  = 2 // rounds that must have a result; each races creates, then replaces

	maxRaces = raceRounds + busyTries // rounds, with and without a result
)

// races has several concurrent writers create one key, and then replace it by
// one tag. It returns an error unless exactly one of each succeeds. A round has
// no result if the response to a write was lost, and is repeated. races returns
// early once stop is closed, but leaves no request running.
func (p prober) races(ctx context.Context, stop <-chan struct{}) error {
	r := newRacers(p.store, p.transport)
	r.stop = stop
	defer r.close()
	r.warmUp(ctx, p.keys.race(0))
	for round, results := 0, 0; results < raceRounds; round++ {
		conclusive, err := r.round(ctx, p.keys.race(round))
		switch {
		case err != nil:
			return err
		case conclusive:
			results++
		case round == maxRaces-1:
			return fmt.Errorf("%w: %d concurrent writers of one key had no confirmed winner in %d races", drivers.ErrBusy, raceWriters, round+1-results)
		}
	}
	return nil
}

// errStopped reports that the races were not finished.
var errStopped = errors.New("stopped")

// racers are the writers of a race. Each has its own connections, which may end
// at different nodes of a store.
type racers struct {
	store   *store
	writers []*store
	stop    <-chan struct{} // closed to end the pauses
	close   func()          // closes the connections
}

// newRacers returns racers. Their requests are not retried. If transport is not
// an http.Transport, it can't be cloned, and the racers share its connections.
func newRacers(s *store, transport http.RoundTripper) racers {
	r := racers{store: s}
	options := s.client.Options()
	options.ExpressCredentials = nil // a client writes to its own
	options.Retryer = aws.NopRetryer{}
	var owned []*http.Transport
	for range raceWriters {
		if shared, ok := transport.(*http.Transport); ok {
			own := shared.Clone()
			options.HTTPClient = &http.Client{Transport: own, CheckRedirect: redirects}
			owned = append(owned, own)
		}
		writer := *s
		writer.client = s3.New(options)
		r.writers = append(r.writers, &writer)
	}
	r.close = func() {
		for _, t := range owned {
			t.CloseIdleConnections()
		}
	}
	return r
}

// each calls f for all writers concurrently, and returns when all calls have
// returned.
func (r racers) each(f func(i int, writer *store)) {
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i, writer := range r.writers {
		wg.Go(func() {
			<-start
			f(i, writer)
		})
	}
	close(start)
	wg.Wait()
}

// warmUp opens a connection for each writer, so that their writes arrive
// together.
func (r racers) warmUp(ctx context.Context, key string) {
	r.each(func(_ int, writer *store) {
		_, _ = writer.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: writer.bucket(), Key: writer.name(key)})
	})
}

// round runs one race for each condition. It reports whether both have a
// result.
func (r racers) round(ctx context.Context, key string) (conclusive bool, err error) {
	tag, err := r.race(ctx, key, contest{"create one key", "If-None-Match: *", "two uploads could overwrite each other", ifFree})
	if err != nil || tag == "" {
		return false, err
	}
	tag, err = r.race(ctx, key, contest{"replace one object", "If-Match", "a push and the collector could overwrite each other", ifTag(tag)})
	return tag != "", err
}

// contest is the write that the writers of a race attempt.
type contest struct {
	action, header, danger string
	condition              condition
}

// violated returns the error for a store that did not keep to the condition.
func (c contest) violated(how string) error {
	return fmt.Errorf("s3.Config.Endpoint: this store does not keep to %s on PutObject when writers %s at the same time (%s): %s, so berth does not serve from it; see the table of stores in the README",
		c.header, c.action, how, c.danger)
}

// race has all writers write the key under one condition. It returns the
// winner's tag, or "" if the race has no result. If the store is busy for every
// writer, race tries again.
func (r racers) race(ctx context.Context, key string, c contest) (tag string, err error) {
	var t tally
	for try := 1; ; try++ {
		if t, err = r.write(ctx, key, c); err != nil {
			return "", err
		}
		if t.winners > 0 || t.unknown > 0 || t.busy == 0 || try == busyTries {
			break
		}
		select {
		case <-time.After(busyPause):
		case <-r.stop:
			return "", errStopped
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	switch {
	case t.winners > 1:
		return "", c.violated(fmt.Sprintf("%d of %d succeeded", t.winners, raceWriters))
	case t.winners == 0, t.unknown > 0:
		return "", nil
	}
	existing, err := r.store.head(ctx, key)
	switch {
	case err != nil:
		return "", fmt.Errorf("read from the bucket: %w", r.store.classify(ctx, err))
	case existing.Tag != t.tag:
		return "", c.violated("one succeeded, and the object was not what it wrote")
	}
	return t.tag, nil
}

// tally counts the outcomes of the writes of a race.
type tally struct {
	winners int
	tag     string // of a winner
	busy    int    // have definitely not written
	unknown int    // may have written
}

// write has each writer write the key once.
func (r racers) write(ctx context.Context, key string, c contest) (t tally, err error) {
	tags, errs := make([]string, raceWriters), make([]error, raceWriters)
	r.each(func(i int, writer *store) {
		o, err := writer.put(ctx, key, probeBody(), c.condition, new(attempts))
		tags[i], errs[i] = o.Tag, err
	})
	for i, err := range errs {
		switch {
		case err == nil:
			t.winners++
			t.tag = tags[i]
		case status(err) == http.StatusPreconditionFailed, status(err) == http.StatusNotFound && isAbsent(err):
		case definitelyNotApplied(err):
			t.busy++
		case isBusy(err):
			t.unknown++
		default:
			return t, fmt.Errorf("%s, %d writers at the same time: %w", c.action, raceWriters, r.store.classify(ctx, err))
		}
	}
	return t, nil
}
