package upload

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	membucket "github.com/berthhq/berth/drivers/memory"
)

// TestSealOfAnothersUpload: the end of another repository's session is no end
// of one's own, although it is of the same bytes.
func TestSealOfAnothersUpload(t *testing.T) {
	m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
	p := randomBytes(70, 300*kiB)
	d := digest.SHA512.FromBytes(p) // binds the key by a record that ends the session
	theirs := m.Start("theirs", digest.SHA512)
	mine := theirs
	mine.Repository = "mine"
	for _, tok := range []Token{theirs, mine} {
		w := resume(t, m, tok, Options{Length: int64(len(p)), Final: true, Digest: d})
		t.Cleanup(func() { w.Close() })
		if _, err := w.ReadFrom(bytes.NewReader(p)); err != nil {
			t.Fatal(err)
		}
		again, err := w.Seal(t.Context(), d, unpublished)
		if tok == theirs && err != nil {
			t.Fatal(err)
		}
		if tok == mine && (again || !errors.Is(err, ErrUnknown)) {
			t.Errorf("Seal of another's upload = %v, %v, want %v", again, err, ErrUnknown)
		}
	}
}

// TestCommittedOfNoEnd: a record that is spent for one that ends nothing is an
// error, which names that one.
func TestCommittedOfNoEnd(t *testing.T) {
	m := replica(t, &membucket.Store{Habits: smallS3()}, nil)
	tok := patch(t, m, m.Start("r", digest.SHA256), []byte("some"))
	_, err := m.Committed(t.Context(), tok, &EndedError{end: 1})
	if err == nil || !strings.Contains(err.Error(), "record 1 is no end") {
		t.Errorf("Committed = %v, want an error that names record 1", err)
	}
}
