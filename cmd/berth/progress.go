package main

import (
	"fmt"
	"io"
	"time"
)

// progressLine shows how far a command is: one line that changes, on a terminal, and otherwise
// a line every ten seconds. It is not safe for concurrent use.
type progressLine struct {
	w        io.Writer
	terminal bool
	last     time.Time // of a line, if it is no terminal
	open     bool      // the line of a terminal is not empty
}

// plainEvery is the time between lines that are not for a terminal.
const plainEvery = 10 * time.Second

func newProgressLine(w io.Writer) *progressLine {
	return &progressLine{w: w, terminal: isTerminal(w), last: time.Now()}
}

// clearLine moves to the start of a terminal's line, and clears it.
const clearLine = "\r\x1b[K"

func (p *progressLine) show(line string) {
	switch {
	case p.terminal:
		fmt.Fprint(p.w, clearLine, line)
		p.open = true
	case time.Since(p.last) >= plainEvery:
		p.last = time.Now()
		fmt.Fprintln(p.w, line)
	}
}

// finish clears the line of a terminal.
func (p *progressLine) finish() {
	if p.open {
		fmt.Fprint(p.w, clearLine)
		p.open = false
	}
}

// sizeText returns a number of bytes for people.
func sizeText(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, prefix := float64(n)/unit, 0
	for f >= unit {
		f /= unit
		prefix++
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTPE"[prefix])
}

// count is a line of a report: a number of things.
type count struct {
	n      int64
	what   string
	always bool // print it even if n is 0
}

func (c count) print(w io.Writer) {
	if c.n > 0 || c.always {
		fmt.Fprintf(w, "  %8d  %s\n", c.n, c.what)
	}
}
