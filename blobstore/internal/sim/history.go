package sim

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// history is the requests for the manifests and tags of one repository, with their
// responses, and what was seen in the bucket. It is linearizable if every request can
// be given a moment between its start and its response at which it took effect.
type history struct {
	now  int // counts starts and responses
	ops  []*op
	seen map[string]string // what was last seen in the bucket, by tag or digest
}

// op is one step of a request. A PUT is a step for the manifest and one for each tag,
// because a client may see the manifest before its tags.
type op struct {
	text       string
	at         time.Time
	start, end int // end is math.MaxInt if a late write may still take effect
	optional   bool
	after      *op // of the same request, which takes effect before; nil if there is none

	// step returns the state after the op. It returns false if the op cannot have its
	// response in this state.
	step func(state) (state, bool)

	kind   opKind
	tag    string
	digest digest.Digest
}

type opKind int

const (
	otherOp opKind = iota
	moveTag        // to a digest
	readOp         // of a tag or of a digest
	putManifest
	deleteManifest
	deleteTag
)

// state is a repository as clients see it: the manifests, each with the time until
// which the collector counts it as unused, and the digest that each tag names. It is
// not changed in place.
type state struct {
	manifests map[digest.Digest]time.Time
	tags      map[string]digest.Digest
}

func (s state) has(d digest.Digest) bool {
	_, ok := s.manifests[d]
	return ok
}

// touched returns s with a manifest that was used at this time.
func (s state) touched(d digest.Digest, at time.Time) state {
	s.manifests = maps.Clone(s.manifests)
	if s.manifests == nil {
		s.manifests = map[digest.Digest]time.Time{}
	}
	if at.After(s.manifests[d]) {
		s.manifests[d] = at
	}
	return s
}

// with returns s with a tag that names d, or nothing if d is empty.
func (s state) with(tag string, d digest.Digest) state {
	s.tags = maps.Clone(s.tags)
	if s.tags == nil {
		s.tags = map[string]digest.Digest{}
	}
	if s.tags[tag] = d; d == "" {
		delete(s.tags, tag)
	}
	return s
}

// without returns s without a manifest and the tags that name it.
func (s state) without(d digest.Digest) state {
	s.manifests, s.tags = maps.Clone(s.manifests), maps.Clone(s.tags)
	delete(s.manifests, d)
	maps.DeleteFunc(s.tags, func(_ string, of digest.Digest) bool { return of == d })
	return s
}

func (s state) key() string { return fmt.Sprint(s.manifests, s.tags) }

// start adds an op that starts now.
func (h *history) start(o op) *op {
	h.now++
	o.at, o.start, o.end = time.Now(), h.now, math.MaxInt
	h.ops = append(h.ops, &o)
	return &o
}

// finish ends an op.
func (h *history) finish(o *op) {
	h.now++
	o.end = h.now
}

// drop removes an op that has no effect and no meaning.
func (h *history) drop(dropped *op) {
	h.ops = slices.DeleteFunc(h.ops, func(o *op) bool { return o == dropped })
}

// excused reports whether a read need not fit the order. It falls between a deletion of a
// manifest and a push that overlaps the deletion.
//
//   - The push moves the tag that is read. If the deletion is of the manifest that the tag
//     moves from, the tag does not resolve in between; if it is of the one that the tag
//     moves to, the tag still resolves to what it named before.
//   - The push stores the manifest that is read, and stores it again after the deletion.
func (h *history) excused(r *op) bool {
	return h.some(func(p *op) bool {
		isPush := p.kind == moveTag && p.tag == r.tag || p.kind == putManifest && p.digest == r.digest
		return r.kind == readOp && isPush && p.overlaps(r) && h.some(func(d *op) bool {
			return d.kind == deleteManifest && d.overlaps(p)
		})
	})
}

// deletedTwice reports whether another deletion of the same tag or manifest overlaps this
// one. Both succeed: the store reports success for the deletion of a tag that is absent,
// and a deletion of a manifest that was not confirmed succeeds if the manifest is deleted
// afterwards.
func (h *history) deletedTwice(o *op) bool {
	return h.some(func(p *op) bool {
		return p != o && p.kind == o.kind && p.tag == o.tag && p.digest == o.digest && p.overlaps(o)
	})
}

// pushedTwice reports whether a push of the manifest overlaps its deletion. The push may
// store the manifest before the deletion and again after it.
func (h *history) pushedTwice(o *op) bool {
	return h.some(func(p *op) bool { return p.kind == putManifest && p.digest == o.digest && p.overlaps(o) })
}

func (h *history) some(is func(*op) bool) bool { return slices.ContainsFunc(h.ops, is) }

func (o *op) overlaps(p *op) bool { return o.start < p.end && p.start < o.end }

// check returns an error if the history is not linearizable. It searches all orders (J.
// Wing and C. Gong, Testing and Verifying Concurrent Objects, 1993), and keeps the
// states that it has visited.
func (h *history) check() error {
	var ops []*op
	for _, o := range h.ops {
		if !h.excused(o) {
			ops = append(ops, o)
		}
	}
	if len(ops) > 64 {
		return fmt.Errorf("the history has %d steps, want at most 64", len(ops))
	}
	index := map[*op]int{}
	for i, o := range ops {
		index[o] = i
	}
	visited := map[string]bool{}
	var search func(done uint64, s state) bool
	search = func(done uint64, s state) bool {
		visit := fmt.Sprint(done, s.key())
		if visited[visit] {
			return false
		}
		visited[visit] = true
		first, complete := remaining(ops, done)
		if complete {
			return true
		}
		for i, o := range ops {
			if done&(1<<i) != 0 || o.start > first || o.after != nil && done&(1<<index[o.after]) == 0 {
				continue
			}
			if next, ok := o.step(s); ok && search(done|1<<i, next) {
				return true
			}
		}
		return false
	}
	if search(0, state{}) {
		return nil
	}
	return fmt.Errorf("no order of these steps explains their responses:\n\t%s", strings.Join(h.lines(ops), "\n\t"))
}

// remaining returns the earliest end of the steps that are not done, and reports whether
// all of them are optional.
func remaining(ops []*op, done uint64) (first int, complete bool) {
	first, complete = math.MaxInt, true
	for i, o := range ops {
		if done&(1<<i) == 0 {
			first = min(first, o.end)
			complete = complete && o.optional
		}
	}
	return first, complete
}

func (h *history) lines(ops []*op) []string {
	var lines []string
	for _, o := range ops {
		end := fmt.Sprint(o.end)
		if o.end == math.MaxInt {
			end = "…"
		}
		if o.optional {
			end += ", perhaps"
		}
		lines = append(lines, fmt.Sprintf("%d to %s: %s", o.start, end, o.text))
	}
	return lines
}
