package ocihttp

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"strings"
)

// The bytes of names in ascending order, as names are ordered in lists: "/" sorts
// before all others. So it is written "!" here.
const nameBytes = "!-.0123456789_abcdefghijklmnopqrstuvwxyz"

// tagPosition returns a string of the bytes of tags, and no longer than a tag, such
// that the tags after it are the tags after last. A client may send any text, but the
// store gets keys.
func tagPosition(last string) string { return position(last, tagBytes, maxTag) }

// namePosition is tagPosition for the names of repositories.
func namePosition(last string) string {
	return strings.ReplaceAll(position(strings.ReplaceAll(last, "/", "!"), nameBytes, maxName), "!", "/")
}

func position(last, alphabet string, longest int) string {
	last = last[:min(len(last), longest)]
	i := 0
	for i < len(last) && strings.IndexByte(alphabet, last[i]) >= 0 {
		i++
	}
	if i == len(last) {
		return last
	}
	// No entry has the byte at i. The last entry before it has a lower byte there, if
	// there is one, and then as many of the highest byte as fit.
	for j := len(alphabet) - 1; j >= 0; j-- {
		if alphabet[j] < last[i] {
			return last[:i] + alphabet[j:j+1] + strings.Repeat(alphabet[len(alphabet)-1:], longest-i-1)
		}
	}
	return last[:i]
}

// positions encrypts names of repositories that a caller may not pull from, and which
// are where the caller's list continues.
type positions struct {
	cipher.AEAD
}

// sealed is the start of an encrypted position. No name starts with it.
const sealed = "."

func newPositions(key []byte) (positions, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return positions{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return positions{aead}, err
}

func (p positions) seal(name string) string {
	return sealed + base64.RawURLEncoding.EncodeToString(p.Seal(nil, nil, []byte(name), nil))
}

// open returns the position that the parameter last of a request contains: any text, or
// one that seal has returned.
func (p positions) open(last string) string {
	if text, ok := strings.CutPrefix(last, sealed); ok {
		raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
		if err == nil {
			raw, err = p.Open(nil, nil, raw, nil)
		}
		if err == nil {
			return string(raw)
		}
	}
	return namePosition(last)
}
