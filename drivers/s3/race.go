package s3

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/berthhq/berth/drivers"
)

const (
	racers = 8 // writers at the same time
	heats  = 2 // races of creates and of replaces that must have a result
)

// A store may check a condition in one step and write in another, or check it
// in each of its nodes separately. Sequential writes do not show that. Of
// several concurrent writes more than one succeeds.

// probeRaces has several concurrent writers create one key, and then replace it
// by one tag. It returns an error unless exactly one of each succeeds. A heat
// is inconclusive if the answer to a write was lost, and is repeated.
func (b *bucket) probeRaces(ctx context.Context, keys probeKeys) error {
	field := b.newField()
	defer field.close()
	field.warmUp(ctx, keys.race(0))
	for heat, results := 0, 0; results < heats; heat++ {
		shown, err := field.heat(ctx, keys.race(heat))
		switch {
		case err != nil:
			return err
		case shown:
			results++
		case heat == heats+patience-1:
			return fmt.Errorf("%w: of %d writers of one key at the same time none was told that it had won, in %d races", drivers.ErrBusy, racers, heat+1-results)
		}
	}
	return nil
}

// field is the writers of a race. Each has its own connections, which may end
// at different nodes of a store.
type field struct {
	*bucket

	clients []*s3.Client
	close   func()
}

// newField returns the writers. Their requests are not retried.
func (b *bucket) newField() field {
	f := field{bucket: b, close: func() {}}
	options := b.client.Options()
	options.ExpressCredentials = nil // a client writes to its own
	for range racers {
		transport := b.newTransport()
		f.clients = append(f.clients, s3.New(options, func(o *s3.Options) {
			o.Retryer = aws.NopRetryer{}
			if transport != nil {
				o.HTTPClient = &http.Client{Transport: transport, CheckRedirect: redirects}
			}
		}))
		if transport != nil {
			before := f.close
			f.close = func() { before(); transport.CloseIdleConnections() }
		}
	}
	return f
}

// each calls call for all writers at once, and returns when all have returned.
func (f field) each(call func(i int, client *bucket)) {
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i, client := range f.clients {
		writer := *f.bucket
		writer.client = client
		wg.Go(func() {
			<-start
			call(i, &writer)
		})
	}
	close(start)
	wg.Wait()
}

// warmUp opens a connection for each writer, so that their writes arrive
// together.
func (f field) warmUp(ctx context.Context, key string) {
	f.each(func(_ int, writer *bucket) {
		_, _ = writer.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: writer.bucketName(), Key: writer.name(key)})
	})
}

// heat runs one race for each condition. It reports whether the result is
// conclusive.
func (f field) heat(ctx context.Context, key string) (shown bool, err error) {
	tag, err := f.race(ctx, key, contest{"create one key", "If-None-Match: *", "two uploads could overwrite each other", ifFree})
	if err != nil || tag == "" {
		return false, err
	}
	tag, err = f.race(ctx, key, contest{"replace one object", "If-Match", "a push and the collector could overwrite each other", ifTag(tag)})
	return tag != "", err
}

// race has all writers write the key under one condition. It returns the
// winner's tag, or "" if the race is inconclusive. If the store is busy for
// every writer, race tries again.
func (f field) race(ctx context.Context, key string, c contest) (tag string, err error) {
	var t tally
	for try := 1; ; try++ {
		if t, err = f.start(ctx, key, c); err != nil {
			return "", err
		}
		if t.winners > 0 || t.unknown > 0 || t.busy == 0 || try == patience {
			break
		}
		select {
		case <-time.After(patienceGap):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	switch {
	case t.winners > 1:
		return "", c.broken(fmt.Sprintf("%d of %d succeeded", t.winners, racers))
	case t.winners == 0, t.unknown > 0:
		return "", nil
	}
	there, err := f.head(ctx, key)
	switch {
	case err != nil:
		return "", fmt.Errorf("read from the bucket: %w", f.classify(ctx, err))
	case there.Tag != t.tag:
		return "", c.broken("one succeeded, and the object was not what it wrote")
	}
	return t.tag, nil
}

// contest is a write that the writers of a race attempt.
type contest struct {
	deed, condition, danger string
	set                     func(*s3.PutObjectInput)
}

// broken returns the error for a store that failed a race.
func (c contest) broken(how string) error {
	return fmt.Errorf("storage.s3.endpoint: this store does not keep to %s on PutObject when writers %s at the same time (%s): %s, so berth does not serve from it; see the table of stores in the README",
		c.condition, c.deed, how, c.danger)
}

// tally counts the outcomes of the writes of a race.
type tally struct {
	winners int
	tag     string // of a winner
	busy    int    // certainly did not write
	unknown int    // may have written
}

func (f field) start(ctx context.Context, key string, c contest) (t tally, err error) {
	tags, errs := make([]string, racers), make([]error, racers)
	f.each(func(i int, writer *bucket) {
		o, err := writer.put(ctx, key, probeBody(), c.set, new(tries))
		tags[i], errs[i] = o.Tag, err
	})
	for i, err := range errs {
		switch {
		case err == nil:
			t.winners++
			t.tag = tags[i]
		case status(err) == http.StatusPreconditionFailed, status(err) == http.StatusNotFound && isAbsent(err):
		case certainlyNot(err):
			t.busy++
		case isBusy(err):
			t.unknown++
		default:
			return t, fmt.Errorf("%s, %d writers at the same time: %w", c.deed, racers, f.classify(ctx, err))
		}
	}
	return t, nil
}
