// Package progress shows how far long work has come: with bars on a terminal, and with
// lines otherwise.
package progress

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// interval is the time between two lines about the same work.
const interval = 10 * time.Second

// Reporter shows the progress of several pieces of work. It is safe for concurrent use.
// A nil Reporter shows nothing.
type Reporter struct {
	mu   sync.Mutex
	w    io.Writer
	bars *mpb.Progress // nil without a terminal
}

// New returns a Reporter that writes to w, bars if it is a terminal. The caller closes
// it.
func New(w io.Writer, terminal bool) *Reporter {
	r := &Reporter{w: w}
	if terminal {
		r.bars = mpb.New(mpb.WithOutput(w), mpb.WithWidth(64), mpb.WithAutoRefresh())
	}
	return r
}

// Close removes the bars of work that has not ended, and waits until everything is
// written.
func (r *Reporter) Close() {
	if r != nil && r.bars != nil {
		r.bars.Shutdown()
	}
}

// Print writes a line.
func (r *Reporter) Print(line string) {
	switch {
	case r == nil:
	case r.bars != nil:
		_, _ = r.bars.Write([]byte(line + "\n")) // above the bars
	default:
		r.mu.Lock()
		defer r.mu.Unlock()
		fmt.Fprintln(r.w, line)
	}
}

// Bytes starts work of total bytes, or of an unknown number if total is negative.
func (r *Reporter) Bytes(name string, total int64) *Work {
	return r.start(name, total, func(n int64) string { return units.BytesSize(float64(n)) },
		decor.CountersKibiByte("% .1f / % .1f"), decor.AverageSpeed(decor.SizeB1024(0), "% .1f"))
}

// Count starts work of an unknown number of steps.
func (r *Reporter) Count(name string) *Work {
	return r.start(name, -1, func(n int64) string { return fmt.Sprint(n) }, decor.CurrentNoUnit("%d"))
}

func (r *Reporter) start(name string, total int64, format func(int64) string, columns ...decor.Decorator) *Work {
	w := &Work{r: r, name: name, total: total, format: format, shown: time.Now()}
	if r != nil && r.bars != nil {
		w.bar = r.bars.New(max(total, 0), mpb.BarStyle(),
			mpb.BarRemoveOnComplete(), mpb.PrependDecorators(decor.Name(name+" ")), mpb.AppendDecorators(columns...))
	}
	return w
}

// Work is one piece of work. It is for one goroutine.
type Work struct {
	r      *Reporter
	bar    *mpb.Bar
	name   string
	format func(int64) string
	done   int64
	total  int64 // negative if it is unknown
	shown  time.Time
}

// Add reports that n more bytes or steps are done.
func (w *Work) Add(n int64) {
	w.done += n
	if w.bar != nil {
		w.bar.IncrInt64(n)
		return
	}
	if w.r == nil || time.Since(w.shown) < interval {
		return
	}
	w.shown = time.Now()
	line := w.name + " " + w.format(w.done)
	if w.total > 0 {
		line += fmt.Sprintf(" of %s (%d%%)", w.format(w.total), w.done*100/w.total)
	}
	w.r.Print(line)
}

// End ends the work, and writes a line about it unless it is empty.
func (w *Work) End(line string) {
	if w.bar != nil {
		w.bar.Abort(true)
		w.bar.Wait()
	}
	if line != "" {
		w.r.Print(line)
	}
}

// Reader returns a reader that reports what is read from r.
func (w *Work) Reader(r io.Reader) io.Reader { return &reader{r, w} }

type reader struct {
	r io.Reader
	w *Work
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.w.Add(int64(n))
	return n, err
}
