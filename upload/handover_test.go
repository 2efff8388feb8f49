package upload

import (
	"bytes"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/drivertest"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// FuzzHandover cuts content into chunks, sends each to some replica, loses
// answers, clients, calls of the store and whole processes on the way, and goes
// on as a client does that asks where the upload stands. In the end the upload
// has the digest of the content, and so does what is stored.
func FuzzHandover(f *testing.F) {
	for seed := range uint64(16) {
		f.Add(seed, uint32(1+seed*seed*997), uint8(seed))
	}
	habits := []membucket.Habits{smallS3(), streaming(), membucket.GCS(), membucket.Azure()}
	f.Fuzz(func(t *testing.T, seed uint64, size uint32, kind uint8) {
		rng := mathrand.New(mathrand.NewPCG(seed, uint64(kind)))
		store := &membucket.Store{Habits: habits[int(kind)%len(habits)]}
		alg := []digest.Algorithm{digest.SHA256, digest.SHA512}[int(kind/4)%2]
		data := randomBytes(seed, int64(size%3_000_000))
		tok := replica(t, store, nil).Start("r", alg)
		var at int64 // where the client believes that the upload stands
		for range 40 {
			if at == int64(len(data)) {
				break
			}
			tok = sendChunk(t, rng, store, tok, data, at)
			last, safe, err := replica(t, store, nil).Status(t.Context(), tok)
			if err != nil || safe < at {
				t.Fatalf("Status = %d, %v, and was %d before", safe, err, at)
			}
			tok, at = last, safe
		}
		good := replica(t, store, nil)
		tok, at, err := good.Status(t.Context(), tok)
		if err != nil {
			t.Fatal(err)
		}
		wantCommit(t, good, tok, data[at:], data)
		wantIdle(t, good)
	})
}

// sendChunk sends some of what follows, and returns the token that the client
// has then: a new one, or the old one if it got no answer.
func sendChunk(t *testing.T, rng *mathrand.Rand, store *membucket.Store, tok Token, data []byte, at int64) Token {
	t.Helper()
	faulty := &drivertest.Faulty{
		Mode: drivertest.Mode(rng.IntN(2)), // Lost or Unanswered
		Nth:  1 + rng.IntN(12),             // often there are not so many
		Dead: rng.IntN(2) == 0,             // the process is killed there
		Match: func(c drivertest.Call) bool {
			return c.Key != testLayout{}.TokenKey()
		},
	}
	m := replica(t, store, faulty.Intercept)
	w, err := m.Resume(t.Context(), tok, Options{Deadline: newDeadline(), Length: -1})
	if err != nil {
		wantIdle(t, m)
		return tok
	}
	defer wantIdle(t, m)
	defer w.Close()
	chunk := data[at : at+1+rng.Int64N(min(int64(len(data))-at, 700*kiB))]
	var body io.Reader = bytes.NewReader(chunk)
	switch rng.IntN(5) {
	case 0:
		body = iotest.HalfReader(body)
	case 1:
		body = iotest.DataErrReader(body)
	case 2: // the client goes away
		body = io.MultiReader(bytes.NewReader(chunk[:rng.IntN(len(chunk))]), iotest.ErrReader(errors.New("gone")))
	case 3: // the process is killed
		_, _ = w.ReadFrom(bytes.NewReader(chunk[:rng.IntN(len(chunk))])) // whatever comes of it
		return tok
	}
	_, _ = w.ReadFrom(body)             // what came is kept
	next, err := w.Suspend(t.Context()) // or not
	if err != nil || rng.IntN(4) == 0 {
		return tok // the answer is lost
	}
	return next
}
