package blobstore

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/memory"
)

// faultScenario is something that one client does, with a bucket that was prepared for
// it. All three functions get the same client.
type faultScenario struct {
	name   string
	part   int64                   // size of parts, in bytes
	before func(c *retrying) error // without faults
	do     func(c *retrying) error // repeats requests until they succeed
	after  func(c *retrying) error // returns an error for what must hold then
}

// everyFault is what can become of a call and of the process that makes it.
func everyFault() []sim.Fault {
	return []sim.Fault{
		{Mode: drivertest.Lost},
		{Mode: drivertest.Unanswered},
		{Mode: drivertest.Late},
		{Mode: drivertest.Late, Soon: true},
		{Mode: drivertest.Lost, Dead: true},
		{Mode: drivertest.Unanswered, Dead: true},
		{Mode: drivertest.Late, Dead: true},
	}
}

// usedMemory returns how much of the memory for uploads is in use.
func usedMemory(s *Store) string { return fmt.Sprintf("%+v", s.uploads.Memory()) }

// simulated returns the scenario for package sim, with that many parts of an upload in
// progress at a time.
func (s faultScenario) simulated(open opener, parallel int) sim.Scenario {
	cfg := Config{
		InlineMax: tinyInline,
		Upload:    UploadConfig{Memory: 8 << 20, PartSize: s.part, ParallelParts: parallel},
	}
	var c *retrying // of the run
	var unused string
	return sim.Scenario{
		Open: open,
		Read: readers,
		Start: func(r *sim.Run) ([]sim.Actor, error) {
			run := &simRun{Run: r}
			own, err := Open(r.Ctx, r.Process(0), cfg)
			if err != nil {
				return nil, err
			}
			spare, err := Open(r.Ctx, r.Spare(0), cfg)
			if err != nil {
				return nil, err
			}
			unused = usedMemory(own)
			c = &retrying{run: run, own: &client{run: run, s: own}, spare: &client{run: run, s: spare}}
			if s.before != nil {
				if err := s.before(c); err != nil {
					return nil, err
				}
			}
			c.requests = 0
			return []sim.Actor{{Name: "client", Run: func() error { return s.do(c) }}}, nil
		},
		After: func(*sim.Run) error {
			if s.after != nil {
				if err := s.after(c); err != nil {
					return err
				}
			}
			synctest.Wait()
			if got := usedMemory(c.own.s); got != unused {
				return fmt.Errorf("memory for uploads: %s, want %s", got, unused)
			}
			return nil
		},
	}
}

// TestFaults plays every scenario with every call failing in every way.
func TestFaults(t *testing.T) {
	for _, s := range faultScenarios() {
		playEveryFault(t, s, inMemory(tinyS3()), 1, everyFault())
	}
}

// playEveryFault plays a scenario once for each fault of each call. That no goroutine
// is left is checked by the bubble that it runs in.
func playEveryFault(t *testing.T, s faultScenario, open opener, parallel int, faults []sim.Fault) {
	t.Helper()
	t.Run(s.name, func(t *testing.T) {
		t.Parallel()
		if !long() { // one fault for each scenario
			faults = faults[drawn(t.Name()).IntN(len(faults)):][:1]
		}
		plays := sim.EveryFault(t, s.simulated(open, parallel), faults...)
		t.Logf("%d plays", plays)
	})
}

// TestFaultsElsewhere plays those scenarios that make a difference on stores with
// other habits, and with several parts in progress at once.
func TestFaultsElsewhere(t *testing.T) {
	all := everyFault()
	for name, on := range map[string]struct {
		open     opener
		parallel int
		faults   []sim.Fault
	}{
		"directory":       {inMemory(memory.Habits{}), 1, all},
		"GCS":             {inMemory(memory.GCS()), 1, all[:2]},
		"Azure":           {inMemory(memory.Azure()), 1, all[:2]},
		"S3, in parallel": {inMemory(tinyS3()), 4, all},
		"filesystem":      {inFiles(t), 1, []sim.Fault{all[1], all[4]}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, s := range fewScenarios() {
				playEveryFault(t, s, on.open, on.parallel, on.faults)
			}
		})
	}
}
