package drivertest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// broken maps the description of a defect, which some store or early draft has, to
// a driver with that defect and to the cases that must fail.
var broken = map[string]struct {
	like  memory.Habits
	wrap  func(drivers.Bucket, *sync.Map) drivers.Bucket // the map is shared by the replicas
	cases []string
}{
	"create checks, then writes": {memory.Habits{}, func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return checkThenCreate{b} }, []string{"CreateRace"}},
	"replace checks, then writes": {memory.Habits{}, func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return checkThenReplace{b} },
		[]string{"ReplaceRace", "ReplaceCount"}},
	"delete ignores the tag": {memory.Habits{}, func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return deleteAnyway{b} },
		[]string{"DeleteIf", "OlderLife", "ReplaceDeleteRace", "CreateDeleteRace", "Model"}},
	"delete of an absent key fails":    {memory.Habits{}, func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return deleteFails{b} }, []string{"Absent", "DeleteIf", "Model"}},
	"an empty tag is no condition":     {memory.Habits{}, func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return emptyTag{b} }, []string{"StrangeTags"}},
	"every error is not found":         {memory.Habits{}, func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return allNotFound{b} }, []string{"Cancelled"}},
	"a killed writer leaves half":      {memory.Habits{}, func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return halfWritten{b} }, []string{"CancelWrites"}},
	"reads continue in a new version":  {memory.Habits{}, func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return reopening{b} }, []string{"ReadReplaced"}},
	"ranges end a byte too early":      {memory.Habits{}, func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return shortRange{b} }, []string{"Ranges", "Upload"}},
	"keys in the order of a directory": {memory.Habits{}, func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return directoryOrder{b} }, []string{"ListOrder"}},
	"after is included":                {memory.Habits{}, func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return inclusiveAfter{b} }, []string{"ListOrder", "ListLarge"}},
	"lists one page":                   {memory.Habits{}, func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return onePage{b} }, []string{"ListLarge", "ListWhileChanging"}},
	"the hint is the end":              {memory.Habits{}, func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return endsAtHint{b} }, []string{"ListOrder", "ListLarge"}},
	"completes onto an object":         {memory.S3(), func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return completeOver{b} }, []string{"CompleteTaken"}},
	"completes with the newest part":   {memory.S3(), func(b drivers.Bucket, m *sync.Map) drivers.Bucket { return newestPart{b, m} }, []string{"PartReplaced", "PartRace"}},
	"equal checksums, equal parts":     {memory.S3(), func(b drivers.Bucket, m *sync.Map) drivers.Bucket { return equalSums{newestPart{b, m}} }, []string{"PartReplaced"}},
	"completes any checksum":           {memory.S3(), func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return anyChecksum{b} }, []string{"CompleteChecksum"}},
	"completes once":                   {memory.S3(), func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return completeOnce{b} }, []string{"CompleteTwice", "CompleteRace", "CompleteTaken"}},
	"abort deletes the object":         {memory.S3(), func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return abortDeletes{b} }, []string{"AbortCompleted", "CompleteLeftover"}},
	"a broken stream is a part":        {memory.Habits{}, func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return brokenStream{b} }, []string{"StreamBroken"}},
	"uploads ignores the prefix":       {memory.S3(), func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return allUploads{b} }, []string{"Uploads"}},
	"uploads are objects":              {memory.S3(), func(b drivers.Bucket, _ *sync.Map) drivers.Bucket { return visibleParts{b} }, []string{"UploadHidden", "Upload"}},
}

// TestSuiteFinds runs the suite on each broken driver. Each run is a separate
// process, because its failure must not fail this test.
func TestSuiteFinds(t *testing.T) {
	if name := os.Getenv("BERTH_TEST_BROKEN"); name != "" {
		s := suite(broken[name].like)
		open := s.New
		s.New = func(t *testing.T) drivertest.Opener {
			opener, common := open(t), new(sync.Map)
			return func(ctx context.Context) (drivers.Bucket, error) {
				b, err := opener(ctx)
				return broken[name].wrap(b, common), err
			}
		}
		drivertest.Run(t, s)
		return
	}
	for name, test := range broken {
		t.Run(name, func(t *testing.T) {
			pattern := "^TestSuiteFinds$/^(" + strings.Join(test.cases, "|") + ")$"
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", pattern)
			cmd.Env = append(os.Environ(), "BERTH_TEST_BROKEN="+name, "BERTH_TEST_SEED=3")
			out, err := cmd.CombinedOutput()
			if _, ok := errors.AsType[*exec.ExitError](err); !ok {
				t.Errorf("the suite passes: %v, want it to fail", err)
			}
			for _, c := range test.cases {
				if !bytes.Contains(out, []byte("--- FAIL: TestSuiteFinds/"+c)) {
					t.Errorf("case %s passes, want it to fail", c)
				}
			}
			if t.Failed() {
				t.Logf("%s", out)
			}
		})
	}
}

type checkThenCreate struct{ drivers.Bucket }

func (b checkThenCreate) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	if _, err := b.Stat(ctx, key); err == nil {
		return drivers.Object{}, drivers.ErrExists
	}
	time.Sleep(time.Millisecond)
	for {
		if err := b.Delete(ctx, key); err != nil {
			return drivers.Object{}, err
		}
		if o, err := b.Bucket.Create(ctx, key, body); !errors.Is(err, drivers.ErrExists) {
			return o, err
		}
	}
}

type checkThenReplace struct{ drivers.Bucket }

func (b checkThenReplace) Replace(ctx context.Context, key, tag string, body drivers.Body) (drivers.Object, error) {
	if o, err := b.Stat(ctx, key); err != nil || o.Tag != tag {
		return drivers.Object{}, drivers.ErrChanged
	}
	time.Sleep(time.Millisecond)
	for {
		o, err := b.Stat(ctx, key)
		if err != nil {
			return o, err
		}
		if o, err = b.Bucket.Replace(ctx, key, o.Tag, body); !errors.Is(err, drivers.ErrChanged) {
			return o, err
		}
	}
}

type deleteAnyway struct{ drivers.Bucket }

func (b deleteAnyway) DeleteIf(ctx context.Context, key, _ string) error { return b.Delete(ctx, key) }

type deleteFails struct{ drivers.Bucket }

func (b deleteFails) DeleteIf(ctx context.Context, key, tag string) error {
	if _, err := b.Stat(ctx, key); err != nil {
		return err
	}
	return b.Bucket.DeleteIf(ctx, key, tag)
}

type emptyTag struct{ drivers.Bucket }

func (b emptyTag) DeleteIf(ctx context.Context, key, tag string) error {
	if tag == "" {
		return b.Delete(ctx, key)
	}
	return b.Bucket.DeleteIf(ctx, key, tag)
}

type allNotFound struct{ drivers.Bucket }

func (b allNotFound) Stat(ctx context.Context, key string) (drivers.Object, error) {
	o, err := b.Bucket.Stat(ctx, key)
	if err != nil {
		err = drivers.ErrNotFound
	}
	return o, err
}

type halfWritten struct{ drivers.Bucket }

func (b halfWritten) Create(ctx context.Context, key string, body drivers.Body) (drivers.Object, error) {
	if ctx.Err() == nil {
		return b.Bucket.Create(ctx, key, body)
	}
	half := drivers.NewBody(body.Bytes()[:body.Size/2])
	if _, err := b.Bucket.Create(context.WithoutCancel(ctx), key, half); err != nil {
		return drivers.Object{}, err
	}
	return drivers.Object{}, ctx.Err()
}

// reopening sends a request for each read, as a naive retrying reader does.
type reopening struct{ drivers.Bucket }

func (b reopening) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	r, o, err := b.Bucket.Open(ctx, key, off, n)
	if err != nil {
		return nil, o, err
	}
	end := o.Size
	if n >= 0 && n < end-off {
		end = off + n
	}
	return &reopeningReader{r, b.Bucket, ctx, key, off, end}, o, nil
}

type reopeningReader struct {
	io.Closer
	b        drivers.Bucket
	ctx      context.Context //nolint:containedctx // io.Reader has no parameter for it
	key      string
	off, end int64
}

func (r *reopeningReader) Read(p []byte) (int, error) {
	if r.off >= r.end {
		return 0, io.EOF
	}
	part, _, err := r.b.Open(r.ctx, r.key, r.off, min(int64(len(p)), r.end-r.off))
	if err != nil {
		return 0, err
	}
	defer part.Close()
	n, err := io.ReadFull(part, p[:min(int64(len(p)), r.end-r.off)])
	r.off += int64(n)
	return n, err
}

type shortRange struct{ drivers.Bucket }

func (b shortRange) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, drivers.Object, error) {
	if n > 1 {
		n--
	}
	return b.Bucket.Open(ctx, key, off, n)
}

type directoryOrder struct{ drivers.Bucket }

func (b directoryOrder) List(ctx context.Context, prefix, after string, want int) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		var all []drivers.Object
		for o, err := range b.Bucket.List(ctx, prefix, after, want) {
			if err != nil {
				yield(o, err)
				return
			}
			all = append(all, o)
		}
		slices.SortFunc(all, func(a, b drivers.Object) int {
			return slices.Compare(strings.Split(a.Key, "/"), strings.Split(b.Key, "/"))
		})
		for _, o := range all {
			if !yield(o, nil) {
				return
			}
		}
	}
}

type inclusiveAfter struct{ drivers.Bucket }

func (b inclusiveAfter) List(ctx context.Context, prefix, after string, want int) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		if o, err := b.Stat(ctx, after); err == nil && strings.HasPrefix(after, prefix) {
			o.Tag = ""
			if !yield(o, nil) {
				return
			}
		}
		b.Bucket.List(ctx, prefix, after, want)(yield)
	}
}

type onePage struct{ drivers.Bucket }

func (b onePage) List(ctx context.Context, prefix, after string, want int) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		n := 0
		for o, err := range b.Bucket.List(ctx, prefix, after, want) {
			if n++; n > 1000 || !yield(o, err) {
				return
			}
		}
	}
}

type endsAtHint struct{ drivers.Bucket }

func (b endsAtHint) List(ctx context.Context, prefix, after string, want int) iter.Seq2[drivers.Object, error] {
	return func(yield func(drivers.Object, error) bool) {
		n := 0
		for o, err := range b.Bucket.List(ctx, prefix, after, want) {
			if n++; want > 0 && n > want || !yield(o, err) {
				return
			}
		}
	}
}

type completeOver struct{ drivers.Bucket }

func (b completeOver) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc uint32) (drivers.Object, error) {
	if err := b.Delete(ctx, u.Key); err != nil {
		return drivers.Object{}, err
	}
	return b.Bucket.Complete(ctx, u, parts, crc)
}

// newestPart completes by part number and ignores the tag.
type newestPart struct {
	drivers.Bucket
	newest *sync.Map
}

func (b newestPart) PutPart(ctx context.Context, u drivers.Upload, number int, body drivers.Body) (drivers.Part, error) {
	p, err := b.Bucket.PutPart(ctx, u, number, body)
	b.newest.Store(partKey{u.ID, number}, p)
	return p, err
}

func (b newestPart) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, _ uint32) (drivers.Object, error) {
	parts = slices.Clone(parts)
	var crc uint32
	for i := range parts {
		if p, ok := b.newest.Load(partKey{u.ID, parts[i].Number}); ok {
			parts[i] = p.(drivers.Part)
		}
		crc = drivers.CombineCRC32C(crc, parts[i].CRC32C, parts[i].Size)
	}
	return b.Bucket.Complete(ctx, u, parts, crc)
}

// equalSums confuses parts of the same size and checksum.
type equalSums struct{ newestPart }

func (b equalSums) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc uint32) (drivers.Object, error) {
	parts = slices.Clone(parts)
	for i, p := range parts {
		stored, ok := b.newest.Load(partKey{u.ID, p.Number})
		if newest, _ := stored.(drivers.Part); ok && newest.Size == p.Size && newest.CRC32C == p.CRC32C {
			parts[i] = newest
		}
	}
	return b.Bucket.Complete(ctx, u, parts, crc)
}

type partKey struct {
	id     string
	number int
}

type anyChecksum struct{ drivers.Bucket }

func (b anyChecksum) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, _ uint32) (drivers.Object, error) {
	var crc uint32
	for _, p := range parts {
		crc = drivers.CombineCRC32C(crc, p.CRC32C, p.Size)
	}
	return b.Bucket.Complete(ctx, u, parts, crc)
}

type completeOnce struct{ drivers.Bucket }

func (b completeOnce) Complete(ctx context.Context, u drivers.Upload, parts []drivers.Part, crc uint32) (drivers.Object, error) {
	if _, err := b.Stat(ctx, u.Key); err == nil {
		return drivers.Object{}, drivers.ErrNotFound
	}
	return b.Bucket.Complete(ctx, u, parts, crc)
}

type abortDeletes struct{ drivers.Bucket }

func (b abortDeletes) Abort(ctx context.Context, u drivers.Upload) error {
	return errors.Join(b.Bucket.Abort(ctx, u), b.Delete(ctx, u.Key))
}

type brokenStream struct{ drivers.Bucket }

func (b brokenStream) StreamPart(ctx context.Context, u drivers.Upload, number int, body io.Reader) (drivers.Part, error) {
	data, err := io.ReadAll(body)
	if len(data) == 0 {
		return drivers.Part{}, err
	}
	return b.Bucket.StreamPart(ctx, u, number, bytes.NewReader(data))
}

type allUploads struct{ drivers.Bucket }

func (b allUploads) Uploads(ctx context.Context, _ string) iter.Seq2[drivers.Upload, error] {
	return b.Bucket.Uploads(ctx, "")
}

// visibleParts creates objects at and beside the key of an upload in progress.
type visibleParts struct{ drivers.Bucket }

func (b visibleParts) StartUpload(ctx context.Context, key string) (drivers.Upload, error) {
	if _, err := b.Create(ctx, key+".part", drivers.NewBody([]byte("1"))); err != nil && !errors.Is(err, drivers.ErrExists) {
		return drivers.Upload{}, err
	}
	u, err := b.Bucket.StartUpload(ctx, key)
	if err != nil {
		return u, err
	}
	_, err = b.Create(ctx, key, drivers.NewBody([]byte("1")))
	return u, err
}
