package upload

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"fmt"
	"hash"

	"github.com/opencontainers/go-digest"
)

// hashes computes the canonical digest, and another one on request, of bytes that
// arrive in several processes, one after the other.
type hashes struct {
	sha256 hash.Hash
	sha512 hash.Hash // nil unless asked for
}

// hashState is the state of the hashes, from which another process can continue.
type hashState struct {
	SHA256 []byte `json:"sha256"`
	SHA512 []byte `json:"sha512,omitempty"`
}

func newHashes(alg digest.Algorithm) hashes {
	h := hashes{sha256: sha256.New()}
	if alg == digest.SHA512 {
		h.sha512 = sha512.New()
	}
	return h
}

func (h hashes) write(p []byte) {
	h.sha256.Write(p)
	if h.sha512 != nil {
		h.sha512.Write(p)
	}
}

func (h hashes) state() (hashState, error) {
	var s hashState
	var err error
	if s.SHA256, err = h.sha256.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
		return s, fmt.Errorf("upload: save sha256: %w", err)
	}
	if h.sha512 != nil {
		if s.SHA512, err = h.sha512.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
			return s, fmt.Errorf("upload: save sha512: %w", err)
		}
	}
	return s, nil
}

// restore sets h to the state s. An algorithm that s does not have is no longer
// computed.
func (h *hashes) restore(s hashState) error {
	if err := h.sha256.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.SHA256); err != nil {
		return fmt.Errorf("upload: restore sha256: %w", err)
	}
	if len(s.SHA512) == 0 {
		h.sha512 = nil
	}
	if h.sha512 != nil {
		if err := h.sha512.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.SHA512); err != nil {
			return fmt.Errorf("upload: restore sha512: %w", err)
		}
	}
	return nil
}

// canonical returns the sha256 of all bytes so far.
func (h hashes) canonical() digest.Digest { return digest.NewDigest(digest.SHA256, h.sha256) }

// digest returns the digest of all bytes so far by an algorithm, or an empty
// one if that algorithm is not computed.
func (h hashes) digest(alg digest.Algorithm) digest.Digest {
	switch {
	case alg == digest.SHA256:
		return h.canonical()
	case alg == digest.SHA512 && h.sha512 != nil:
		return digest.NewDigest(digest.SHA512, h.sha512)
	default:
		return ""
	}
}

// hashAlso computes the digest by one more algorithm. The segments are all bytes so
// far.
func (h *hashes) hashAlso(alg digest.Algorithm, segments [][]byte) {
	if alg != digest.SHA512 || h.sha512 != nil {
		return
	}
	h.sha512 = sha512.New()
	for _, p := range segments {
		h.sha512.Write(p)
	}
}
