package upload

import (
	"bytes"
	"errors"
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
