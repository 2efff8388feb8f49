package upload

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
	membucket "github.com/berthhq/berth/drivers/memory"
)

// FuzzRecord decodes arbitrary bytes as a session record, and continues from it.
// That may fail, but not by a panic.
func FuzzRecord(f *testing.F) {
	store := &membucket.Store{Habits: smallS3()}
	m := replica(f, store, nil)
	tok := patch(f, m, m.Start("r", digest.SHA512), randomBytes(1, 300*kiB))
	s, tail, err := m.read(f.Context(), tok)
	if err != nil {
		f.Fatal(err)
	}
	tail.Close()
	seed, err := json.Marshal(s.Value)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, []byte("tail"))
	f.Add([]byte(`{"kind":"open","repository":"r","algorithm":"md5","sizes":{"first":-1},"offset":-5}`), []byte{})
	f.Add([]byte(`{"kind":"committed","repository":"r","digest":"x"}`), []byte{})
	f.Add([]byte(`{"kind":"spent","repository":"r","end":-1}`), []byte{})
	f.Add([]byte(strings.Replace(string(seed), `"n":1`, `"n":0`, 1)), []byte{0})
	f.Fuzz(func(t *testing.T, value, tail []byte) {
		var r sessionRecord
		if json.Unmarshal(value, &r) != nil {
			return
		}
		encoded, err := json.Marshal(r)
		if err != nil {
			return // JSON has no form for some times
		}
		var again sessionRecord
		if err := json.Unmarshal(encoded, &again); err != nil {
			t.Fatalf("Unmarshal(%s), which Marshal has returned, = %v", encoded, err)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(twice, encoded) {
			t.Fatalf("Marshal after Unmarshal(%s) = %s, %v, want no change", encoded, twice, err)
		}
		r.Repository = "r"
		m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
		tok := Token{ID: "fuzz", Repository: "r", Seq: 1}
		if _, err := envelope.Create(t.Context(), m.cfg.Bucket, m.cfg.Layout.SessionRecord("fuzz", 1), r, drivers.NewBody(tail)); err != nil {
			t.Fatal(err)
		}
		w, err := m.Resume(t.Context(), tok, Options{Deadline: newDeadline(), Length: -1})
		if err != nil {
			wantIdle(t, m)
			return
		}
		if _, err := w.Write([]byte("more")); err == nil {
			_, _ = w.Suspend(t.Context()) // any outcome will do
		}
		w.Close()
		wantIdle(t, m)
		_ = m.Cancel(t.Context(), tok, newDeadline())
		if _, _, err := m.Status(t.Context(), tok); err == nil {
			t.Errorf("Status of a cancelled upload with record %+v succeeds, want an error", r)
		}
	})
}
