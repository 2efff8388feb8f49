package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
)

// seedVariable is the environment variable with the seed of a random sequence. The
// same seed repeats the sequence.
const seedVariable = "BERTH_TEST_SEED"

// model makes one random sequence of calls on the driver and on package memory
// with the same habits, and compares their results and contents.
func model(e *env) {
	seed := rand.Uint64()
	if s := os.Getenv(seedVariable); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		e.must(err, "%s", seedVariable)
	}
	e.Logf("%s=%d repeats this sequence", seedVariable, seed)
	program := make([]byte, 8*e.Steps)
	var key [32]byte
	copy(key[:], strconv.FormatUint(seed, 10))
	rand.NewChaCha8(key).Read(program) //nolint:errcheck // never fails
	runModel(e, program, e.Steps)
}

// FuzzModel lets the fuzzer write the sequences that the case Model draws at
// random.
func FuzzModel(f *testing.F, s Suite) {
	f.Add([]byte("\x00\x00\x01\x00\x00\x02\x00\x00\x04\x00\x01\x02\x00"))
	f.Add([]byte("\x05\x06\x00\x00\x00\x06\x00\x01\x00\x08\x00\x00\x09\x00\x08\x00"))
	f.Add([]byte("\x05\x06\x00\x00\x00\x06\x00\x00\x00\x08\x00\x01\x0a\x0b\x09\x00\x0b"))
	f.Fuzz(func(t *testing.T, program []byte) { runModel(newEnv(t, s), program, 1000) })
}

// twin holds the results of the reference and of the driver for the same call.
type twin[T any] struct{ ref, sub T }

// modelUpload is an upload in both buckets. Each upload has its own key, as the
// contract requires.
type modelUpload struct {
	twin[drivers.Upload]
	parts []twin[drivers.Part]
	data  map[string][]byte    // of each part, by the reference's number and tag
	over  bool                 // completed or aborted
	made  twin[[]drivers.Part] // the parts of which it was completed
	tag   string               // the object's tag in the reference after Complete
}

// machine runs a program on the driver and on the reference.
type machine struct {
	*env
	ctx     context.Context //nolint:containedctx // the test's
	ref     drivers.Bucket
	program []byte
	trace   []string
	tags    map[string][]twin[string] // by key, every tag that it ever had
	uploads []*modelUpload
}

var modelKeys = []string{"o/a", "o/b", "o/b-", "o/c/d"}

func runModel(e *env, program []byte, steps int) {
	habits := e.Like
	habits.Limits = e.a.Limits()
	ref, err := memory.Open(e.Context(), memory.Config{Store: &memory.Store{Habits: habits}})
	e.must(err, "Open of the reference")
	m := &machine{env: e, ctx: e.Context(), ref: ref, program: program, tags: make(map[string][]twin[string])}
	ops := []func(drivers.Bucket){
		m.create, m.replace, m.deleteIf, m.delete, m.read, m.start, m.put, m.put, m.complete, m.abort, m.list, m.inProgress,
	}
	for range steps {
		if len(m.program) == 0 || e.Failed() {
			break
		}
		op := m.pick(2 * len(ops))
		b := e.a
		if op >= len(ops) {
			b = e.b
		}
		ops[op%len(ops)](b)
	}
	m.list(e.a)
	m.inProgress(e.b)
	if e.Failed() {
		e.Logf("the calls, of which the last one fails:\n%s", strings.Join(m.trace, "\n"))
	}
}

// pick reads the next choice of n from the program.
func (m *machine) pick(n int) int {
	if len(m.program) == 0 {
		return 0
	}
	c := int(m.program[0]) % n
	m.program = m.program[1:]
	return c
}

// key returns one of the keys for small objects, or the key of an upload.
func (m *machine) key() string {
	if i := m.pick(len(modelKeys) + 2); i < len(modelKeys) {
		return modelKeys[i]
	}
	if u := m.upload(); u != nil {
		return u.ref.Key
	}
	return modelKeys[0]
}

// upload returns one of the last four uploads, or nil if there is none.
func (m *machine) upload() *modelUpload {
	if len(m.uploads) == 0 {
		return nil
	}
	return m.uploads[len(m.uploads)-1-m.pick(min(len(m.uploads), 4))]
}

// tag returns the newest tag of a key in half of the calls, and otherwise an older
// one.
func (m *machine) tag(key string) twin[string] {
	tags := m.tags[key]
	if len(tags) == 0 {
		return twin[string]{"none", "none"}
	}
	return tags[max(0, len(tags)-1-max(0, m.pick(6)-2))]
}

// same reports whether two outcomes are equal, fails the test if not, and
// records the call.
func (m *machine) same(ref, sub error, format string, args ...any) bool {
	m.Helper()
	what := fmt.Sprintf(format, args...)
	m.trace = append(m.trace, what+": "+outcome(ref))
	if outcome(ref) == outcome(sub) {
		return true
	}
	m.Errorf("%s = %v (%s), want the reference's %v (%s)", what, sub, outcome(sub), ref, outcome(ref))
	return false
}

// agree fails the test unless both buckets hold the same at a key.
func (m *machine) agree(key string) {
	m.Helper()
	want, ref, refErr := read(m.ctx, m.ref, key, 0, -1)
	for _, b := range []drivers.Bucket{m.a, m.b} {
		got, sub, err := read(m.ctx, b, key, 0, -1)
		if outcome(err) != outcome(refErr) || !bytes.Equal(got, want) || sub.Size != ref.Size {
			m.Errorf("Open(%q) reads %s, %v, want %s, %v", key, brief(got), err, brief(want), refErr)
		}
		stat, err := b.Stat(m.ctx, key)
		if outcome(err) != outcome(refErr) || stat != sub {
			m.Errorf("Stat(%q) = %+v, %v, want %+v, %v", key, stat, err, sub, refErr)
		}
	}
}

// wroteBoth compares the results of two successful writes and records their
// tags.
func (m *machine) wroteBoth(key string, ref, sub drivers.Object) {
	m.Helper()
	m.tags[key] = append(m.tags[key], twin[string]{ref.Tag, sub.Tag})
	if stat, err := m.a.Stat(m.ctx, key); err != nil || sub.Tag != stat.Tag || sub.Size != ref.Size || sub.Key != key {
		m.Errorf("a write of %q = %+v, but Stat = %+v, %v", key, sub, stat, err)
	}
}

func (m *machine) create(b drivers.Bucket) {
	key, data := modelKeys[m.pick(len(modelKeys))], m.text()
	ref, refErr := m.ref.Create(m.ctx, key, body(data))
	sub, err := b.Create(m.ctx, key, body(data))
	if m.same(refErr, err, "Create(%q, %q)", key, data) && err == nil {
		m.wroteBoth(key, ref, sub)
	}
	m.agree(key)
}

func (m *machine) replace(b drivers.Bucket) {
	key, data := m.key(), m.text()
	tag := m.tag(key)
	ref, refErr := m.ref.Replace(m.ctx, key, tag.ref, body(data))
	sub, err := replace(m.ctx, b, key, tag.sub, data)
	if m.same(refErr, err, "Replace(%q, %s, %q)", key, tag.sub, data) && err == nil {
		m.wroteBoth(key, ref, sub)
	}
	m.agree(key)
}

func (m *machine) deleteIf(b drivers.Bucket) {
	key := m.key()
	tag := m.tag(key)
	m.same(m.ref.DeleteIf(m.ctx, key, tag.ref), b.DeleteIf(m.ctx, key, tag.sub), "DeleteIf(%q, %s)", key, tag.sub)
	m.agree(key)
}

func (m *machine) delete(b drivers.Bucket) {
	keys := []string{m.key(), m.key()}
	m.same(m.ref.Delete(m.ctx, keys...), b.Delete(m.ctx, keys...), "Delete(%q)", keys)
	m.agree(keys[0])
	m.agree(keys[1])
}

func (m *machine) read(b drivers.Bucket) {
	key, off, n := m.key(), int64(m.pick(60)), int64(m.pick(60))
	if n == 0 {
		n = -1
	}
	want, _, refErr := read(m.ctx, m.ref, key, off, n)
	got, _, err := read(m.ctx, b, key, off, n)
	if m.same(refErr, err, "Open(%q, %d, %d)", key, off, n) && !bytes.Equal(got, want) {
		m.Errorf("Open(%q, %d, %d) reads %s, want %s", key, off, n, brief(got), brief(want))
	}
}

func (m *machine) start(b drivers.Bucket) {
	key := fmt.Sprintf("data/%d", len(m.uploads))
	ref, refErr := m.ref.StartUpload(m.ctx, key)
	sub, err := b.StartUpload(m.ctx, key)
	if m.same(refErr, err, "StartUpload(%q)", key) {
		m.uploads = append(m.uploads, &modelUpload{twin: twin[drivers.Upload]{ref, sub}, data: make(map[string][]byte)})
	}
}

// put stores new bytes, or stores the bytes of an earlier part again. If the
// store has a minimum size, few parts reach it, and smaller ones can only be
// the last part.
func (m *machine) put(b drivers.Bucket) {
	u := m.upload()
	if u == nil || u.over && m.Like.Sessionless {
		return
	}
	number := 1 + m.pick(3)
	data := m.text()
	switch i := m.pick(8); {
	case i == 0:
		data = m.bytes(max(1000, m.ref.Limits().MinPart))
	case i < 4 && len(u.parts) > 0:
		data = u.data[partName(u.parts[m.pick(len(u.parts))].ref)]
	}
	ref, refErr := m.ref.PutPart(m.ctx, u.ref, number, body(data))
	sub, err := b.PutPart(m.ctx, u.sub, number, body(data))
	if m.same(refErr, err, "PutPart(%q, %d, %s)", u.ref.Key, number, brief(data)) && err == nil {
		if sub.Number != ref.Number || sub.Size != ref.Size || sub.CRC32C != ref.CRC32C {
			m.Errorf("PutPart(%q, %d) = %+v, want %+v", u.ref.Key, number, sub, ref)
		}
		u.parts = append(u.parts, twin[drivers.Part]{ref, sub})
		u.data[partName(ref)] = data
	}
}

// partName identifies a part of an upload.
func partName(p drivers.Part) string { return fmt.Sprint(p.Number, p.Tag) }

// choose returns any of the parts ever stored, at most one of each number, of
// which all but the last are large enough. It returns none if there are none. If
// the upload is already complete, it returns the same parts again, because callers
// must complete a key with one content only.
func (m *machine) choose(u *modelUpload) (chosen twin[[]drivers.Part]) {
	limits := m.ref.Limits()
	for number := 1; number <= 3; number++ {
		var of []twin[drivers.Part]
		for _, p := range u.parts {
			if p.ref.Number == number {
				of = append(of, p)
			}
		}
		if len(of) == 0 || m.pick(4) == 0 {
			continue
		}
		p := of[len(of)-1-max(0, m.pick(4+len(of))-4)]
		if n := len(chosen.ref); n > 0 && (chosen.ref[n-1].Size < limits.MinPart || limits.EqualParts) {
			chosen = twin[[]drivers.Part]{}
		}
		chosen.ref, chosen.sub = append(chosen.ref, p.ref), append(chosen.sub, p.sub)
	}
	if u.made.ref == nil {
		return chosen
	}
	if o, err := m.ref.Stat(m.ctx, u.ref.Key); err == nil && o.Tag != u.tag {
		return twin[[]drivers.Part]{} // another call has written to the upload's key, which callers must not do
	}
	return u.made
}

func (m *machine) complete(b drivers.Bucket) {
	u := m.upload()
	if u == nil {
		return
	}
	chosen := m.choose(u)
	if len(chosen.ref) == 0 {
		return
	}
	crc := crcOf(chosen.ref)
	ref, refErr := m.ref.Complete(m.ctx, u.ref, chosen.ref, crc)
	sub, err := b.Complete(m.ctx, u.sub, chosen.sub, crc)
	if u.over && m.Like.Sessionless {
		// Missing parts and a missing upload are the same here.
		refErr, err = changedIsNotFound(refErr), changedIsNotFound(err)
	}
	if m.same(refErr, err, "Complete(%q) of %v", u.ref.Key, chosen.sub) && err == nil {
		u.over, u.made, u.tag = true, chosen, ref.Tag
		m.wroteBoth(u.ref.Key, ref, sub)
	}
	m.agree(u.ref.Key)
}

func changedIsNotFound(err error) error {
	if errors.Is(err, drivers.ErrChanged) {
		return drivers.ErrNotFound
	}
	return err
}

func (m *machine) abort(b drivers.Bucket) {
	u := m.upload()
	if u == nil {
		return
	}
	m.same(m.ref.Abort(m.ctx, u.ref), b.Abort(m.ctx, u.sub), "Abort(%q)", u.ref.Key)
	u.over = true
	m.agree(u.ref.Key)
}

func (m *machine) list(b drivers.Bucket) {
	prefix := []string{"", "o/", "o/b", "data/", "data/1"}[m.pick(5)]
	after := ""
	if m.pick(2) == 1 {
		after = m.key()
	}
	m.trace = append(m.trace, fmt.Sprintf("List(%q, %q)", prefix, after))
	describe := func(b drivers.Bucket) (all []string) {
		for _, o := range m.env.list(b, prefix, after) {
			all = append(all, fmt.Sprint(o.Key, " ", o.Size, o.Tag))
		}
		return all
	}
	if got, want := describe(b), describe(m.ref); !slices.Equal(got, want) {
		m.Errorf("List(%q, %q) = %q, want %q", prefix, after, got, want)
	}
}

// inProgress checks that Uploads returns the uploads that are certainly in
// progress, and, unless the store is sessionless, none that are over.
func (m *machine) inProgress(b drivers.Bucket) {
	if m.Like.DropsParts {
		return
	}
	m.trace = append(m.trace, "Uploads()")
	shown := m.env.inProgress(b, "")
	for _, u := range m.uploads {
		listed := slices.Contains(shown, u.sub.Key+" "+u.sub.ID)
		switch {
		case !u.over && len(u.parts) > 0 && !listed:
			m.Errorf("Uploads() does not return %+v, which is in progress", u.sub)
		case u.over && !m.Like.Sessionless && listed:
			m.Errorf("Uploads() returns %+v, which was completed or aborted", u.sub)
		}
	}
}
