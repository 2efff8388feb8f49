package upload

// mustStop reports whether nothing more may be received: the upload was cut off,
// or must end while what came can still be recorded.
func (w *Writer) mustStop() bool { return w.wasCut.Load() || w.due.IsNear() }

func (w *Writer) setReading(reading bool) {
	w.readingMu.Lock()
	defer w.readingMu.Unlock()
	w.reading = reading
}

// cutOff takes the memory away. It is called by another goroutine, and perhaps
// more than once.
func (w *Writer) cutOff() {
	w.wasCut.Store(true)
	w.stop(ErrCut)
	w.readingMu.Lock()
	if w.reading && w.opts.Interrupt != nil {
		w.opts.Interrupt()
	}
	w.readingMu.Unlock()
	if !w.mu.TryLock() {
		return // the goroutine that receives sees the cut, and one that records has what came
	}
	go func() { // no method runs: the writer waits for its owner
		defer w.mu.Unlock()
		if w.client == nil || w.failed != nil {
			return
		}
		if w.opts.Final {
			w.releaseTail()
			w.down, w.downErr = true, ErrCut
		} else if err := w.putDown(w.store); err != nil {
			w.m.cfg.Log.Warn("what a writer held when it was cut off is lost", "upload", w.token.ID, "error", err)
		}
		w.failed = ErrCut
	}()
}
