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

// FuzzHandover cuts content into chunks and sends each to a new replica. It loses
// responses, clients, calls to the store and whole processes on the way, and
// continues from the status of the upload. In the end the upload and the stored
// bytes have the digest of the content.
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
		var at int64 // the offset at which the client continues
		for range 40 {
			if at == int64(len(data)) {
				break
			}
			tok = sendChunk(t, rng, store, tok, data, at)
			last, safe, err := replica(t, store, nil).Status(t.Context(), tok)
			if err != nil || safe < at {
				t.Fatalf("Status = %d, %v, want at least %d", safe, err, at)
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

// sendChunk sends the next bytes, and returns the token that the client has then:
// a new one, or the old one if the client got no response.
func sendChunk(t *testing.T, rng *mathrand.Rand, store *membucket.Store, tok Token, data []byte, at int64) Token {
	t.Helper()
	faulty := &drivertest.Faulty{
		Mode: drivertest.Mode(rng.IntN(2)), // Lost or Unanswered
		Nth:  1 + rng.IntN(12),             // often more than there are calls
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
		_, _ = w.ReadFrom(bytes.NewReader(chunk[:rng.IntN(len(chunk))])) // any outcome will do
		return tok
	}
	_, _ = w.ReadFrom(body) // Suspend keeps what came
	next, err := w.Suspend(t.Context())
	if err != nil || rng.IntN(4) == 0 {
		return tok // the response is lost
	}
	return next
}
