package blobstore

import (
	"github.com/opencontainers/go-digest"
)

// sample is a blob of a scenario, and the size of the parts in which it is pushed.
type sample struct {
	name  string
	p     []byte
	named digest.Digest // by which it is pushed
	part  int64
}

// samples returns a blob of each kind. They are small, because scenarios are many.
// Only the last one has a tail that is worth freeing, which takes a long part.
func samples(alg digest.Algorithm) []sample {
	var all []sample
	for i, s := range []struct {
		name string
		size int
		part int64
	}{
		{"inline", tinyInline, tinyPart},
		{"one part", tinyInline + 1, tinyPart},
		{"parts", 600, tinyPart},
		{"long parts", (68 + 66) << 10, 68 << 10},
	} {
		p := randomBytes(uint64(1000+i), s.size)
		all = append(all, sample{s.name, p, alg.FromBytes(p), s.part})
	}
	return all
}

func (b sample) digest() digest.Digest { return digest.FromBytes(b.p) }

func (b sample) inline() bool { return len(b.p) <= tinyInline }

func (b sample) String() string { return b.name + " " + b.named.Algorithm().String() }

// situation is what a push or a mount meets.
type situation struct {
	recordState
	here    bool // the blob was pushed to this repository, and not to the other one
	earlier bool // this repository has a link from an earlier life of the record
}

// situations returns all situations. The first three are the most common ones.
func situations() []situation {
	all := []situation{
		{recordState: stateNamed("no record")},
		{recordState: stateNamed("live")},
		{recordState: stateNamed("live"), here: true},
		{recordState: stateNamed("live"), earlier: true},
	}
	for _, s := range recordStates() {
		if s.make != nil {
			all = append(all, situation{recordState: s})
		}
	}
	return all
}

func (at situation) String() string {
	switch {
	case at.here:
		return at.name + " here"
	case at.earlier:
		return at.name + ", with a link of an earlier life"
	default:
		return at.name
	}
}

// prepare leaves a blob in the situation.
func (at situation) prepare(c *retrying, b sample) error {
	if at.earlier {
		if err := first(
			func() error { return pushAnd(c, repoA, b) },
			c.mutation(repoA, b).forget,
		); err != nil {
			return err
		}
		c.run.Ledger.Forget()
	}
	if at.make == nil && !at.none { // by the digest that the scenario uses
		if at.here {
			return pushAnd(c, repoA, b)
		}
		return pushAnd(c, repoB, b)
	}
	if b.named != b.digest() {
		if err := pushAnd(c, repoB, b); err != nil { // which creates the alias
			return err
		}
	}
	return at.leave(c.own, repoB, b.p)
}

// pushAnd pushes a blob in one request.
func pushAnd(c *retrying, repo string, b sample) error { return c.own.pushAs(repo, b.p, b.named) }

func (c *retrying) mutation(repo string, b sample) *mutation {
	return &mutation{c.run, repo, b.digest()}
}
