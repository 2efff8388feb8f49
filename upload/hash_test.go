package upload

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestHashesGoOn stops and goes on at every length around the blocks of both
// algorithms, as processes do that hand an upload on.
func TestHashesGoOn(t *testing.T) {
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
			if h.canonical() != so256 || !h.matches(so256) {
				t.Fatalf("%s: after %d bytes the canonical digest is %s, want %s", alg, i+1, h.canonical(), so256)
			}
			if got, want := h.matches(so512), alg == digest.SHA512; got != want {
				t.Fatalf("%s: after %d bytes matches(sha512) = %v, want %v", alg, i+1, got, want)
			}
			if other := digest.SHA256.FromBytes(data[:i]); h.matches(other) {
				t.Fatalf("%s: after %d bytes they match the digest of %d", alg, i+1, i)
			}
		}
		if h.matches(digest.SHA384.FromBytes(data)) {
			t.Errorf("%s: the bytes match a sha384, which nobody computed", alg)
		}
	}
}

func TestHashesRefuseOtherStates(t *testing.T) {
	h := newHashes(digest.SHA256)
	state, err := h.state()
	if err != nil {
		t.Fatal(err)
	}
	if err := newHashes(digest.SHA512).restore(state); err == nil {
		t.Error("restore of a sha512 that was not saved = nil, want an error")
	}
	state.SHA256 = state.SHA256[:len(state.SHA256)-1]
	if err := h.restore(state); err == nil {
		t.Error("restore of half a state = nil, want an error")
	}
}
