// Package sim simulates processes that share a bucket, and checks that the
// invariants of package blobstore hold.
//
// A [Scenario] opens an empty bucket, prepares it, and has actors. An [Actor] is
// a client with a process of its own, which gets its requests. Processes share nothing
// but the bucket, so the only thing that matters between them is the order in
// which their calls reach it. That order is a schedule:
//
//   - [Explore] runs a scenario in every schedule.
//   - [Scenario.Draw] runs it in one schedule that is drawn at random.
//   - [Scenario.Play] lets the actors run freely.
//
// A [Fault] is what happens to one call of one actor: it is lost, it takes effect
// but its response is lost, or it takes effect late; and the process may die of
// it. [EveryFault] plays a scenario once for each call and each fault.
//
// The [Ledger] records the responses to clients: which pushes were acknowledged,
// and which deletions may still take effect. [Invariants] reads the whole bucket
// and reports what it must never contain. Both are checked after every call of a
// schedule that may have changed something, and at the end.
//
// This scenario has two clients that push the same bytes. process opens a replica
// and push records its results in the ledger; see sim_test.go for both.
//
//	sim.Scenario{
//		Open: open, // an empty bucket
//		Read: read, // a blob, for the ledger
//		Start: func(r *sim.Run) (actors []sim.Actor, err error) {
//			for i, name := range []string{"A", "B"} {
//				repo, err := process(r.Ctx, r.Process(i), library)
//				if err != nil {
//					return nil, err
//				}
//				actors = append(actors, sim.Actor{Name: name, Run: func() error { return push(r, repo, p) }})
//			}
//			return actors, nil
//		},
//	}
//
// The package knows the bucket by the types of package catalog and by the view of
// sessions of package upload. The code under test is brought by the scenario.
package sim
