package blobstore

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers/drivertest"
)

// TestDrainWhileWritersStart drains the store while writers are created and canceled.
func TestDrainWhileWritersStart(t *testing.T) {
	s := openStore(t, buckets(t)["S3"](t), smallParts())
	r := repository(t, s, "a")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			s.Drain()
		}
	}()
	for range 200 {
		w, err := r.Create(t.Context())
		if err != nil {
			continue
		}
		if err := w.Cancel(t.Context()); err != nil {
			t.Error(err)
		}
	}
	<-done
}

// TestCancelAgain repeats a Cancel that failed.
func TestCancelAgain(t *testing.T) {
	for _, c := range []struct {
		name   string
		size   int
		method string // of the call that fails
	}{
		{"a tail", 1000, "Create"},
		{"a tail", 1000, "Replace"}, // which frees its bytes
		{"parts", 300_000, "Create"},
	} {
		b := buckets(t)["S3"](t)
		r := repository(t, openStore(t, b, smallParts()), "a")
		w, err := r.Create(t.Context())
		must(t, err)
		_, err = w.Write(randomBytes(1, c.size))
		must(t, err)
		must(t, w.Close())

		fault := &drivertest.Faulty{Mode: drivertest.Lost, Nth: 1, Match: sim.On(c.method, "uploads/")}
		other := repository(t, openStore(t, drivertest.Wrap(b, fault.Intercept), smallParts()), "a")
		w, err = other.Resume(t.Context(), w.ID())
		must(t, err)
		if err := w.Cancel(t.Context()); !errors.Is(err, drivertest.ErrInjected) {
			t.Errorf("%s, %s fails: Cancel = %v, want the injected error", c.name, c.method, err)
		}
		if _, err := w.Write([]byte("x")); err == nil {
			t.Errorf("%s, %s fails: Write after Cancel succeeds", c.name, c.method)
		}
		if _, err := w.Commit(t.Context(), Descriptor{Digest: digest.FromString("x")}); err == nil {
			t.Errorf("%s, %s fails: Commit after Cancel succeeds", c.name, c.method)
		}
		must(t, w.Close())
		for range 2 {
			if err := w.Cancel(t.Context()); err != nil {
				t.Errorf("%s, %s fails: Cancel again = %v", c.name, c.method, err)
			}
		}
		if _, err := r.Resume(t.Context(), w.ID()); !errors.Is(err, ErrBlobUploadUnknown) {
			t.Errorf("%s, %s fails: Resume after Cancel = %v, want %v", c.name, c.method, err, ErrBlobUploadUnknown)
		}
	}
}

// TestResumeExpired resumes a session by its id, before and after it expires.
func TestResumeExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := buckets(t)["S3"](t)
		r := repository(t, openStore(t, b, smallParts()), "a")
		w, err := r.Create(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			after time.Duration
			want  error
		}{{143 * time.Hour, nil}, {2 * time.Hour, ErrBlobUploadUnknown}} {
			time.Sleep(tc.after)
			w, err := r.Resume(t.Context(), w.ID())
			if !errors.Is(err, tc.want) {
				t.Errorf("Resume %v later = %v, want %v", tc.after, err, tc.want)
			}
			if err == nil {
				w.Close()
			}
		}
	})
}

// TestPutTooLarge checks that the Go API returns the errors of this package.
func TestPutTooLarge(t *testing.T) {
	cfg := smallParts()
	cfg.Upload.MaxBlobSize = 10
	r := repository(t, openStore(t, buckets(t)["S3"](t), cfg), "a")
	if _, err := r.Put(t.Context(), "", make([]byte, 11)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Put = %v, want %v", err, ErrTooLarge)
	}
}
