package drivertest

import (
	"context"
	"net/http"
	"slices"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/memory"
)

// Opener opens the same bucket each time it is called.
type Opener func(context.Context) (drivers.Bucket, error)

// Suite describes a driver, and the server it is tested on, to [Run].
type Suite struct {
	// New makes an empty bucket, or an unused prefix of one, for one case. What
	// it makes it removes in a cleanup of t.
	New func(t *testing.T) Opener

	// Like says which of the things that the contract leaves open this driver
	// does with parts and uploads. Its Limits, Generations and DatedByStart are
	// not used.
	Like memory.Habits

	// Gaps names the cases that are not run and says why: what the server
	// gets wrong, in its own words, or what the store cannot do. Each is
	// skipped with its reason. A name that is no case fails.
	Gaps map[string]string

	// Keys is how many keys the large listing has, and Parts how many parts the
	// long upload: 10,000 each if zero. They are for servers that are slow.
	Keys, Parts int

	// Workers is how many goroutines make them, and how many race: 16 if zero.
	Workers int

	// Steps is how many calls the random sequence has: 400 if zero.
	Steps int

	// Client fetches signed URLs: one with connections of its own if nil.
	Client *http.Client
}

// A testCase is one function of the suite. Its name is what Gaps names.
type testCase struct {
	name string
	run  func(*env)
}

func cases() []testCase {
	return slices.Concat(
		objectCases(), conditionCases(), listCases(), uploadCases(), completeCases(), streamCases(), cancelCases(), signCases(),
		[]testCase{{"Model", model}},
	)
}

// Run runs the suite, one subtest a case.
func Run(t *testing.T, s Suite) {
	s.Keys = orDefault(s.Keys, 10_000)
	s.Parts = orDefault(s.Parts, 10_000)
	s.Workers = orDefault(s.Workers, 16)
	s.Steps = orDefault(s.Steps, 400)
	if s.Client == nil {
		own := &http.Transport{Proxy: http.ProxyFromEnvironment}
		t.Cleanup(own.CloseIdleConnections)
		s.Client = &http.Client{Transport: own}
	}
	all := cases()
	for name := range s.Gaps {
		if !slices.ContainsFunc(all, func(c testCase) bool { return c.name == name }) {
			t.Errorf("Gaps: there is no case %q", name)
		}
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			if reason, ok := s.Gaps[c.name]; ok {
				t.Skipf("GAP, %s is not tested: %s", c.name, reason)
			}
			c.run(newEnv(t, s))
		})
	}
}

func orDefault(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}
