package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/berthhq/berth/drivers"
)

// steps are all steps except the last, cleanUp, in the order in which they run.
var steps = []step{
	{
		name:   "write and read",
		breaks: "Nothing works.",
		mend:   "Check the bucket's name, the region or endpoint, and the credentials.",
		needs:  []permissions{toCreate, toRead},
		run: func(ctx context.Context, b *bench) (string, error) {
			return writeAndRead(ctx, b, b.key("first"))
		},
	},
	{
		name:   "write and read data",
		breaks: "Blobs can't be pushed, or not be read.",
		mend: "Name a class or tier that the store has and reads at once (storage.s3.storage_class, storage.gcs.storage_class, storage.azure.access_tier), " +
			"or none; and allow under data/ what is allowed elsewhere in the bucket.",
		needs: []permissions{toCreate, toRead},
		run: func(ctx context.Context, b *bench) (string, error) {
			return writeAndRead(ctx, b, b.dataKey(greeting))
		},
	},
	{
		name:   "create-only, raced",
		breaks: "Two uploads could end one session, and a blob's record could be overwritten.",
		mend:   "Use a store that enforces If-None-Match: * (or its like) on every write.",
		needs:  []permissions{toCreate, toRead},
		run:    createRaced,
	},
	{
		name:   "compare-and-swap, raced",
		breaks: "A push and the collector could overwrite each other's records.",
		mend:   "Use a store that enforces If-Match (or its like) on every write.",
		needs:  []permissions{toCreate, toReplace, toRead},
		run:    replaceRaced,
	},
	{
		name:   "conditional delete",
		breaks: "A deletion that lands late could take away a blob that was pushed since.",
		mend:   "Use a store that enforces If-Match on deletes, or on writes.",
		needs:  []permissions{toCreate, toReplace, toDeleteIf, toMiss},
		run:    deleteStale,
	},
	{
		name:   "list after write",
		breaks: "The collector could miss a link and take its blob for unused.",
		mend:   "Use a store whose listings are consistent.",
		needs:  []permissions{toCreate, toList, toDelete},
		run:    listAfterWrite,
	},
	{
		name:   "ranged reads",
		breaks: "Partial downloads would get wrong bytes.",
		mend:   "Use a store, or a proxy before it, that honours Range.",
		needs:  []permissions{toCreate, toRead},
		run:    rangedReads,
	},
	{
		name:   "multipart upload",
		breaks: "Blobs larger than a part can't be pushed.",
		mend: "Allow multipart uploads, also of the class or tier that is configured for data; " +
			"try storage.s3.checksum: none if the store refuses CRC-32C.",
		needs: []permissions{toPutParts, toComplete, toMiss},
		run:   multipart,
	},
	{
		name:   "parts of different sizes",
		breaks: "Uploads of some gigabytes fail at their end, however often they are sent.",
		mend:   "Set storage.s3.equal_parts: true.",
		needs:  []permissions{toPutParts, toComplete},
		run:    unequalParts,
	},
	{
		name:   "a replaced part is refused",
		breaks: "Bytes that don't match their digest could be published.",
		mend:   "Use a store that checks the tags of parts when it completes an upload.",
		needs:  []permissions{toPutParts, toComplete, toTellParts},
		run:    replacedPart,
	},
	{
		name:   "uploads listed and aborted",
		breaks: "What clients have begun to upload and never end can't be found and dropped, and is paid for.",
		mend:   "Allow listing and aborting multipart uploads.",
		needs:  []permissions{toPutParts, toListUploads, toAbort},
		run:    abortListed,
	},
	{
		name:   "clock",
		breaks: "Signed URLs and requests could be refused, and uploads expire at the wrong time.",
		mend:   "Synchronize this machine's clock (NTP).",
		needs:  []permissions{toCreate, toRead},
		run:    clock,
	},
	{
		name:   "presigned GET",
		breaks: "Reads can't be redirected to the store; berth has to carry the bytes.",
		mend:   "Check storage.*.public_endpoint, and that whoever signs may sign and read.",
		needs:  []permissions{toCreate, toRead, toSign},
		run:    presignedGet,
	},
	{
		name:   "presigned GET, tampered or expired",
		breaks: "Whoever sees a signed URL once could read other blobs, or read this one for good.",
		mend:   "Make the bucket private: URLs without a valid signature must be refused.",
		needs:  []permissions{toCreate, toSign},
		run:    presignedRefused,
	},
}

// greeting is the content of objects in several steps.
var greeting = []byte("berth was here")

func writeAndRead(ctx context.Context, b *bench, key string) (string, error) {
	if _, err := b.Create(ctx, key, drivers.NewBody(greeting)); err != nil {
		return "", err
	}
	got, err := read(ctx, b, key, 0, -1)
	if err != nil {
		return "", err
	}
	if !bytes.Equal(got, greeting) {
		return "", fmt.Errorf("read %q, wrote %q", got, greeting)
	}
	return fmt.Sprintf("%d bytes", len(greeting)), nil
}

func read(ctx context.Context, b drivers.Bucket, key string, off, n int64) ([]byte, error) {
	rc, _, err := b.Open(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

// race calls f n times concurrently and returns the error of each call.
func race(n int, f func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

// oneWinner returns the index of the call that succeeded. It returns an error
// unless exactly one call succeeded and all other calls returned refusal or
// found the store busy.
func oneWinner(errs []error, refusal error) (int, error) {
	winner, winners := -1, 0
	var busy error
	for i, err := range errs {
		switch {
		case err == nil:
			winner = i
			winners++
		case errors.Is(err, drivers.ErrBusy):
			busy = err
		case !errors.Is(err, refusal):
			return -1, err
		}
	}
	switch {
	case winners == 1:
		return winner, nil
	case winners == 0 && busy != nil: // a busy call may have won
		return -1, fmt.Errorf("of %d writers none was told that it won: %w", len(errs), busy)
	default:
		return -1, fmt.Errorf("%d of %d writers were told that they won, want 1", winners, len(errs))
	}
}

const (
	patience    = 5 // tries
	patienceGap = 1100 * time.Millisecond
)

// patiently calls f again while the store is busy, because Cloudflare R2 accepts
// one write of a key per second
// (https://developers.cloudflare.com/r2/platform/limits/).
func patiently(ctx context.Context, f func() error) error {
	for try := 1; ; try++ {
		err := f()
		if !errors.Is(err, drivers.ErrBusy) || try == patience {
			return err
		}
		select {
		case <-time.After(patienceGap):
		case <-ctx.Done():
			return err
		}
	}
}

// write retries a conditional write while the store is busy. A write that found
// the store busy may have taken effect. If a later try is refused, write returns
// the earlier ErrBusy, because that refusal proves nothing.
func write(ctx context.Context, f func() (drivers.Object, error)) (drivers.Object, error) {
	var o drivers.Object
	var busy error
	err := patiently(ctx, func() (err error) {
		if o, err = f(); errors.Is(err, drivers.ErrBusy) {
			busy = err
		}
		return err
	})
	if busy != nil && (errors.Is(err, drivers.ErrExists) || errors.Is(err, drivers.ErrChanged)) {
		return o, busy
	}
	return o, err
}

const racers = 16

func createRaced(ctx context.Context, b *bench) (string, error) {
	key := b.key("create")
	body := func(i int) []byte { return fmt.Appendf(nil, "writer %d", i) }
	errs := race(racers, func(i int) error {
		_, err := write(ctx, func() (drivers.Object, error) { return b.at(i).Create(ctx, key, drivers.NewBody(body(i))) })
		return err
	})
	return raceWon(ctx, b, key, errs, drivers.ErrExists, body)
}

func replaceRaced(ctx context.Context, b *bench) (string, error) {
	key := b.key("replace")
	o, err := b.Create(ctx, key, drivers.NewBody([]byte("before")))
	if err != nil {
		return "", err
	}
	body := func(i int) []byte { return fmt.Appendf(nil, "writer %d", i) }
	errs := race(racers, func(i int) error {
		_, err := write(ctx, func() (drivers.Object, error) { return b.at(i).Replace(ctx, key, o.Tag, drivers.NewBody(body(i))) })
		return err
	})
	return raceWon(ctx, b, key, errs, drivers.ErrChanged, body)
}

func raceWon(ctx context.Context, b *bench, key string, errs []error, refusal error, body func(int) []byte) (string, error) {
	winner, err := oneWinner(errs, refusal)
	if err != nil {
		return "", err
	}
	for i := range b.endpoints() {
		got, err := read(ctx, b.at(i), key, 0, -1)
		if err != nil {
			return "", err
		}
		if !bytes.Equal(got, body(winner)) {
			return "", fmt.Errorf("there is %q, and %q was told that it won", got, body(winner))
		}
	}
	if n := b.endpoints(); n > 1 {
		return fmt.Sprintf("1 winner of %d, through %d endpoints", len(errs), n), nil
	}
	return fmt.Sprintf("1 winner of %d", len(errs)), nil
}

func deleteStale(ctx context.Context, b *bench) (string, error) {
	key := b.key("delete")
	old, err := b.Create(ctx, key, drivers.NewBody([]byte("old")))
	if err != nil {
		return "", err
	}
	current, err := write(ctx, func() (drivers.Object, error) {
		return b.Replace(ctx, key, old.Tag, drivers.NewBody([]byte("new")))
	})
	if err != nil {
		return "", err
	}
	deleteBy := func(tag string) error {
		return patiently(ctx, func() error { return b.DeleteIf(ctx, key, tag) })
	}
	if err := deleteBy(old.Tag); !errors.Is(err, drivers.ErrChanged) {
		return "", fmt.Errorf("deleting by an old tag: %w, want %w", orNothing(err), drivers.ErrChanged)
	}
	if _, err := b.Stat(ctx, key); err != nil {
		return "", fmt.Errorf("after deleting by an old tag: %w", err)
	}
	if err := deleteBy(current.Tag); err != nil {
		return "", err
	}
	if _, err := b.Stat(ctx, key); !errors.Is(err, drivers.ErrNotFound) {
		return "", fmt.Errorf("after deleting by its tag the object is still there: %w", orNothing(err))
	}
	return "by an old tag refused, by its own done: by the store itself, or by the driver with its conditional writes", nil
}

var errNothing = errors.New("no error")

func orNothing(err error) error {
	if err == nil {
		return errNothing
	}
	return err
}

func listAfterWrite(ctx context.Context, b *bench) (string, error) {
	const n = 20
	var want []string
	for i := range n {
		key := b.key(fmt.Sprintf("list/%02d", i))
		if _, err := b.Create(ctx, key, drivers.NewBody([]byte("x"))); err != nil {
			return "", err
		}
		want = append(want, key)
	}
	for range 2 { // with all keys, then without the first
		for i := range b.endpoints() {
			var got []string
			for o, err := range b.at(i).List(ctx, b.root+"list/", "") {
				if err != nil {
					return "", err
				}
				got = append(got, o.Key)
			}
			if !slices.Equal(got, want) {
				return "", fmt.Errorf("listed %d keys, want %d in their order", len(got), len(want))
			}
		}
		if err := b.Delete(ctx, want[0]); err != nil {
			return "", err
		}
		want = want[1:]
	}
	return fmt.Sprintf("%d keys in order, and one less after deleting", n), nil
}

func rangedReads(ctx context.Context, b *bench) (string, error) {
	data := []byte("0123456789")
	key := b.key("range")
	if _, err := b.Create(ctx, key, drivers.NewBody(data)); err != nil {
		return "", err
	}
	for _, r := range []struct{ off, n int64 }{{0, 1}, {3, 4}, {9, 1}, {5, -1}, {8, 100}} {
		got, err := read(ctx, b, key, r.off, r.n)
		if err != nil {
			return "", err
		}
		want := data[r.off:]
		if r.n >= 0 {
			want = want[:min(r.n, int64(len(want)))]
		}
		if !bytes.Equal(got, want) {
			return "", fmt.Errorf("%d bytes from %d are %q, want %q", r.n, r.off, got, want)
		}
	}
	if _, err := read(ctx, b, key, 10, -1); !errors.Is(err, drivers.ErrRange) {
		return "", fmt.Errorf("from the end on: %w, want %w", orNothing(err), drivers.ErrRange)
	}
	return "from the start, the middle and to the end", nil
}

// parts returns two parts: a first one of the smallest allowed size, and a last
// one.
func (b *bench) parts(fill byte) (first, last drivers.Body) {
	return drivers.NewBody(bytes.Repeat([]byte{fill}, int(max(b.Limits().MinPart, 1)))), drivers.NewBody([]byte("end"))
}

func multipart(ctx context.Context, b *bench) (string, error) {
	one, two := b.parts('a')
	key := b.dataKey(slices.Concat(one.Bytes(), two.Bytes()))
	u, err := b.upload(ctx, key)
	if err != nil {
		return "", err
	}
	last, err := b.PutPart(ctx, u, 2, two)
	if err != nil {
		return "", err
	}
	first, err := b.PutPart(ctx, u, 1, one)
	if err != nil {
		return "", err
	}
	if _, err := b.Stat(ctx, key); !errors.Is(err, drivers.ErrNotFound) {
		return "", fmt.Errorf("before it is completed: %w, want %w", orNothing(err), drivers.ErrNotFound)
	}
	crc := drivers.CombineCRC32C(one.CRC32C, two.CRC32C, two.Size)
	for range 2 { // the second call finds the object of the first
		o, err := b.Complete(ctx, u, []drivers.Part{first, last}, crc)
		if err != nil {
			return "", err
		}
		if o.Size != one.Size+two.Size {
			return "", fmt.Errorf("completed object has %d bytes, want %d", o.Size, one.Size+two.Size)
		}
	}
	got, err := read(ctx, b, key, one.Size-1, -1)
	if err != nil {
		return "", err
	}
	if want := "aend"; string(got) != want {
		return "", fmt.Errorf("it ends with %q, want %q", got, want)
	}
	b.completed = u
	return fmt.Sprintf("parts of %d and %d bytes", one.Size, two.Size), nil
}

// replacedPart completes an upload with the tag of a part that was then put again
// with other bytes. The store must refuse that, or use the bytes that the tag
// names.
func replacedPart(ctx context.Context, b *bench) (string, error) {
	key := b.key("replaced")
	u, err := b.upload(ctx, key)
	if err != nil {
		return "", err
	}
	one, two := b.parts('a')
	other, _ := b.parts('b')
	first, err := b.PutPart(ctx, u, 1, one)
	if err != nil {
		return "", err
	}
	last, err := b.PutPart(ctx, u, 2, two)
	if err != nil {
		return "", err
	}
	if _, err := b.PutPart(ctx, u, 1, other); err != nil {
		return "", err
	}
	_, err = b.Complete(ctx, u, []drivers.Part{first, last}, drivers.CombineCRC32C(one.CRC32C, two.CRC32C, two.Size))
	if errors.Is(err, drivers.ErrChanged) {
		return "refused", nil
	}
	if err != nil {
		return "", err
	}
	got, err := read(ctx, b, key, 0, 1)
	if err != nil {
		return "", err
	}
	if string(got) != "a" {
		return "", errors.New("the object has the bytes that came later")
	}
	return "the bytes that the tag names are kept beside the others", nil
}

// abortListed checks that an upload in progress is listed until it is aborted.
func abortListed(ctx context.Context, b *bench) (string, error) {
	key := b.key("aborted")
	u, err := b.upload(ctx, key)
	if err != nil {
		return "", err
	}
	if _, err := b.PutPart(ctx, u, 1, drivers.NewBody(greeting)); err != nil {
		return "", err
	}
	before, err := b.listed(ctx, u)
	if err != nil {
		return "", err
	}
	if err := b.Abort(ctx, u); err != nil {
		return "", err
	}
	after, err := b.listed(ctx, u)
	kept := false
	if err == nil && b.completed.ID != "" {
		kept, err = b.listed(ctx, b.completed)
	}
	switch {
	case err != nil:
		return "", err
	case after:
		return "", finding{errors.New("an upload that was aborted is listed still")}
	case kept:
		return "", finding{errors.New("the parts of a completed upload are still there, and are paid for until the collector deletes them")}
	case !before && b.driver == "azure":
		return "", skipped{errors.New("the store lists none, and drops what was staged by itself")}
	case !before:
		return "", finding{errors.New("an upload in progress is not listed")}
	}
	return "in progress listed, aborted not any more", nil
}

func (b *bench) listed(ctx context.Context, u drivers.Upload) (bool, error) {
	for there, err := range b.Uploads(ctx, u.Key) {
		if err != nil {
			return false, err
		}
		if there.Key == u.Key && there.ID == u.ID {
			return true, nil
		}
	}
	return false, nil
}

// maxSkew is the largest accepted difference between the clocks. Amazon S3
// accepts 15 minutes.
const maxSkew = 5 * time.Minute

func clock(ctx context.Context, b *bench) (string, error) {
	key := b.key("clock")
	before := time.Now()
	if _, err := b.Create(ctx, key, drivers.NewBody([]byte("tick"))); err != nil {
		return "", err
	}
	o, err := b.Stat(ctx, key)
	if err != nil {
		return "", err
	}
	skew := o.Modified.Sub(before)
	if skew.Abs() > maxSkew {
		return "", finding{fmt.Errorf("the store's clock and this machine's are %v apart", skew.Abs().Round(time.Second))}
	}
	return fmt.Sprintf("%v apart, with the time of a request", skew.Abs().Round(100*time.Millisecond)), nil
}
