// Package budget bounds the memory of all uploads of a process. Pushes of manifests
// have a budget of their own.
//
// A [Budget] hands out memory in segments of 64 KiB. An upload is a [Client] of
// the budget, and holds the bytes of one part in a [Buffer]. A client holds
// segments only for bytes that it has sent, so thousands of slow clients hold
// little.
//
// # Fairness
//
// The budget sets aside a reserve, which is large enough for the largest part.
// A buffer gets its segments immediately if the reserve stays untouched. Otherwise it
// waits in a queue, in the order of arrival. The oldest waiter becomes the
// runner: it alone may take segments from the reserve, until its part is stored
// and its buffer released. Then the next waiter becomes the runner.
//
// The queue always moves, because the reserve holds everything that one part
// needs, and because storing a part needs no memory. Three rules for the callers
// keep it that way:
//
//   - A buffer takes all segments for earlier bytes of an upload in one call, or
//     none ([Buffer.ReserveFront]).
//   - A buffer for a stream takes its scratch segment together with its first
//     segment ([Client.NewBuffer]).
//   - No client waits for memory in order to send what it holds to the store.
//
// Bodies that are known to be small have a share of their own
// ([Buffer.ReserveSmall]), so they rarely wait. The lists of parts of long uploads
// have another share ([Client.ReserveList]). No client waits for that share,
// because a list cannot be sent to the store to free its memory.
//
// # Cutting clients off
//
// While any client waits, the budget looks every second for clients that hold
// segments and are slow, and cuts them off, the one that has been silent for the
// longest time first. A client is slow if it has
//
//   - sent less than 64 KiB/s over a window of 10 s,
//   - sent nothing for 10 s, or
//   - sent nothing for 2 s and is the runner.
//
// Only the time in which berth waits for the client counts: see [Client.Pause].
// While no client waits, a client may be as slow as it likes.
package budget
