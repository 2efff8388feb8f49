package upload

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestHashesContinue saves and restores the hashes at every length around the
// blocks of both algorithms, as processes do that continue an upload.
func TestHashesContinue(t *testing.T) {
	data := randomBytes(1, 300)
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		h := newHashes(alg)
		for i := range data {
			h.write(data[i : i+1])
			state, err := h.state()
			if err != nil {
				t.Fatal(err)
			}
			encoded, err := json.Marshal(state)
			if err != nil {
				t.Fatal(err)
			}
			var decoded hashState
			if err := json.Unmarshal(encoded, &decoded); err != nil {
				t.Fatal(err)
			}
			h = newHashes(alg)
			if err := h.restore(decoded); err != nil {
				t.Fatalf("restore after %d bytes: %v", i+1, err)
			}
			so256, so512 := digest.SHA256.FromBytes(data[:i+1]), digest.SHA512.FromBytes(data[:i+1])
			if h.canonical() != so256 || h.digest(digest.SHA256) != so256 {
				t.Fatalf("%s: after %d bytes the canonical digest is %s, want %s", alg, i+1, h.canonical(), so256)
			}
			if alg != digest.SHA512 {
				so512 = "" // it is not computed
			}
			if got := h.digest(digest.SHA512); got != so512 {
				t.Fatalf("%s: after %d bytes digest(sha512) = %q, want %q", alg, i+1, got, so512)
			}
		}
		if got := h.digest(digest.SHA384); got != "" {
			t.Errorf("%s: digest(sha384) = %s, want none", alg, got)
		}
	}
}

func TestHashesRefuseOtherStates(t *testing.T) {
	h := newHashes(digest.SHA256)
	state, err := h.state()
	if err != nil {
		t.Fatal(err)
	}
	state.SHA256 = state.SHA256[:len(state.SHA256)-1]
	if err := h.restore(state); err == nil {
		t.Error("restore of an incomplete state succeeds, want an error")
	}
}

// TestRestoreWithoutSHA512 restores a state without a sha512. The sha512 so far is
// one of other bytes, so it is no longer computed.
func TestRestoreWithoutSHA512(t *testing.T) {
	h := newHashes(digest.SHA256)
	h.write([]byte("a"))
	state, err := h.state()
	if err != nil {
		t.Fatal(err)
	}
	h.hashAlso(digest.SHA512, [][]byte{[]byte("a")})
	if got, want := h.digest(digest.SHA512), digest.SHA512.FromString("a"); got != want {
		t.Errorf("digest(sha512) = %s, want %s", got, want)
	}
	if err := h.restore(state); err != nil {
		t.Fatal(err)
	}
	if got := h.digest(digest.SHA512); got != "" {
		t.Errorf("digest(sha512) after restore = %s, want none", got)
	}
}
