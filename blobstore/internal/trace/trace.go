// Package trace records the calls that requests make to a bucket, as text that
// is the same in every run and that people can read:
//
//	PUT /v2/library/x/blobs/uploads/<upload>?digest=sha256:<sha256> 1000 bytes -> 201
//	    Create blobs/sha256/<xx>/<sha256>/record {size: 1000, state: live} + 1000 bytes
//	    Create blobs/sha256/<xx>/<sha256>/links/library!x {size: 1000, state: live} + 1000 bytes
//	2 requests to the store
//
// Drawn ids and digests become names, the tags of parts and the nonces of small
// bodies are left out, and the line of JSON of a small body is reduced to the
// fields that the protocol is about.
//
// Calls that run at the same time are marked with "|" and sorted. To find them,
// a [Recorder] makes each call take a millisecond. It therefore belongs in a
// bubble of package testing/synctest, where the clock stands still until all calls
// that can start have started.
package trace

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Recorder records the calls to the buckets that its Wrap returns. Its zero
// value is ready to use. Any number of goroutines may use it concurrently.
type Recorder struct {
	mu       sync.Mutex
	requests []*request
}

// request is a request to berth and the calls that it caused.
type request struct {
	text  string // with its outcome
	calls []*call
}

// call is one call of a method of a bucket.
type call struct {
	start   time.Time
	method  string
	key     string
	number  int    // of a part
	size    int64  // of a part
	args    string // what follows the key
	outcome string // empty for success
	free    bool   // it sends no request to the store
}

// Request starts the record of a request. The calls that follow belong to it.
// The function that it returns adds the outcome of the request.
func (r *Recorder) Request(text string) (done func(outcome string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := &request{text: text}
	r.requests = append(r.requests, q)
	return func(outcome string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		q.text += " -> " + outcome
	}
}

// Reset drops what was recorded so far.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = nil
}

// Calls returns the number of calls since the last Reset, without those that
// send no request to a store.
func (r *Recorder) Calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, q := range r.requests {
		n += q.count()
	}
	return n
}

// add records a call. When it returns, every call that can run at the same time
// has been recorded.
func (r *Recorder) add(c *call) {
	c.start = time.Now()
	r.mu.Lock()
	if len(r.requests) == 0 {
		r.requests = append(r.requests, &request{text: "before any request"})
	}
	q := r.requests[len(r.requests)-1]
	q.calls = append(q.calls, c)
	r.mu.Unlock()
	time.Sleep(time.Millisecond)
}

func (q *request) count() int {
	n := 0
	for _, c := range q.calls {
		if !c.free {
			n++
		}
	}
	return n
}

// String returns the trace since the last Reset.
func (r *Recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := names{}
	var blocks []string
	total := 0
	for _, q := range r.requests {
		blocks = append(blocks, n.replace(q.String()))
		total += q.count()
	}
	return strings.Join(shorten(blocks), "") + plural(total, "request") + " to the store\n"
}

// String returns the request and its calls, a line each, in canonical order.
func (q *request) String() string {
	calls := slices.Clone(q.calls)
	slices.SortStableFunc(calls, func(a, b *call) int {
		return cmp.Or(a.start.Compare(b.start), cmp.Compare(a.method, b.method), cmp.Compare(a.number, b.number), cmp.Compare(a.key, b.key))
	})
	at := map[time.Time]int{}
	for _, c := range calls {
		at[c.start]++
	}
	var b strings.Builder
	fmt.Fprintln(&b, q.text)
	for len(calls) > 0 {
		run := alike(calls)
		mark := " "
		if at[calls[0].start] > 1 {
			mark = "|"
		}
		fmt.Fprintf(&b, "  %s %s\n", mark, line(calls[:run]))
		calls = calls[run:]
	}
	return b.String()
}

// alike returns the number of calls at the front that one line can stand for:
// successive parts of one size of one upload.
func alike(calls []*call) int {
	first := calls[0]
	n := 1
	for n < len(calls) && first.number > 0 {
		c := calls[n]
		if c.method != first.method || c.key != first.key || c.size != first.size || c.outcome != first.outcome || c.number != first.number+n {
			break
		}
		n++
	}
	return n
}

func line(calls []*call) string {
	c := calls[0]
	text := c.method + " " + c.key
	switch {
	case len(calls) > 1:
		text += fmt.Sprintf(" parts %d to %d, %s each", c.number, c.number+len(calls)-1, bytes(c.size))
	case c.number > 0:
		text += fmt.Sprintf(" part %d, %s", c.number, bytes(c.size))
	}
	if c.args != "" {
		text += " " + c.args
	}
	if c.outcome != "" {
		text += " -> " + c.outcome
	}
	return text
}

// bytes returns a size in the unit in which it is a whole number.
func bytes(n int64) string {
	const miB = 1 << 20
	if n > 0 && n%miB == 0 {
		return fmt.Sprintf("%d MiB", n/miB)
	}
	return plural(int(n), "byte")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
