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
	// New creates an empty bucket, or an unused prefix of one, for one case. It
	// deletes what it created in a cleanup of t.
	New func(t *testing.T) Opener

	// Like selects the behaviour of this driver's parts and uploads where the
	// contract leaves it open. Its Limits, Generations and DatedByStart are not
	// used.
	Like memory.Habits

	// Gaps maps the name of each case that is not run to the reason: what the
	// server gets wrong, in its own words, or what the store cannot do. The
	// case is skipped with this reason. A name that is not a case fails the
	// test.
	Gaps map[string]string

	// Cases are the names of the cases to run. If it is empty, Run runs all.
	Cases []string

	// DataOnly leaves out conditional writes, for a bucket that holds only the data of
	// blobs (see package split).
	DataOnly bool

	// Keys is the number of keys in the large listing, and Parts the number of
	// parts in the long upload. Each is 10,000 if zero. Slow servers need
	// fewer.
	Keys, Parts int

	// Workers is the number of goroutines that create the keys and parts, and
	// that race. It is 16 if zero.
	Workers int

	// Steps is the number of calls in the random sequence. It is 400 if zero.
	Steps int

	// Client fetches signed URLs. If it is nil, Run uses a client with a new
	// Transport.
	Client *http.Client
}

// A testCase is one function of the suite. Gaps refers to it by its name.
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

// conditional returns the names of the cases about conditional writes.
func conditional() []string {
	names := []string{"CreateTaken", "CreateRace", "ReadReplaced", "CompleteTaken", "CompleteCreateRace", "CancelWrites", "Cancelled", "Model"}
	for _, c := range conditionCases() {
		names = append(names, c.name)
	}
	return names
}

// Run runs the suite, with one subtest per case.
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
	isCase := func(name string) bool {
		return slices.ContainsFunc(all, func(c testCase) bool { return c.name == name })
	}
	for name := range s.Gaps {
		if !isCase(name) {
			t.Errorf("Suite.Gaps: %q is not a case", name)
		}
	}
	for _, name := range s.Cases {
		if !isCase(name) {
			t.Errorf("Suite.Cases: %q is not a case", name)
		}
	}
	for _, c := range all {
		if len(s.Cases) > 0 && !slices.Contains(s.Cases, c.name) || s.DataOnly && slices.Contains(conditional(), c.name) {
			continue
		}
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
