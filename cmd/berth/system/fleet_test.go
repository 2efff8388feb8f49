package system

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// fleet is several replicas on one store. Any of them may be killed and replaced at
// any time.
type fleet struct {
	start func(i int) (*process, error)

	mu       sync.Mutex
	replicas []*process
	last     int // the replica that was chosen last
}

// noReplica is an index that no replica has.
const noReplica = -1

// newFleet starts n replicas that run until the end of the test.
func newFleet(t *testing.T, n int, start func(i int) (*process, error)) *fleet {
	t.Helper()
	f := &fleet{start: start}
	t.Cleanup(func() {
		for _, p := range f.replicas {
			p.kill()
		}
	})
	for i := range n {
		p, err := start(i)
		if err != nil {
			t.Fatal(err)
		}
		f.replicas = append(f.replicas, p)
	}
	return f
}

// next returns the index of the next replica, as a round-robin proxy would choose
// it. It does not return except, unless the fleet has no other replica.
func (f *fleet) next(except int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last++
	if f.last %= len(f.replicas); f.last == except {
		f.last = (f.last + 1) % len(f.replicas)
	}
	return f.last
}

func (f *fleet) replica(i int) *process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.replicas[i]
}

// any returns some replica.
func (f *fleet) any() *process { return f.replica(f.next(noReplica)) }

// replace kills a replica, if it is still running, and starts another after a pause. It
// returns an error if the log of the killed replica has unexpected lines.
func (f *fleet) replace(i int, pause time.Duration) error {
	p := f.replica(i)
	p.kill()
	if lines := unexpectedLines(p.stderr.String()); len(lines) > 0 {
		return fmt.Errorf("berth logged: %q", lines)
	}
	time.Sleep(pause)
	p, err := f.start(i)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replicas[i] = p
	return nil
}
