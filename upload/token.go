package upload

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// Token names the upload that a request belongs to and the record where it
// continues. It is all that is known of an upload before its first bytes are
// recorded, so that starting one asks nothing of the store.
type Token struct {
	ID         string           `json:"id"`
	Repository string           `json:"repository"`
	Started    time.Time        `json:"started"`
	Seq        int              `json:"seq"` // number of the session record to go on from; 0 for none
	Algorithm  digest.Algorithm `json:"algorithm"`
}

// next is the token of the record that follows.
func (t Token) next(seq int) Token {
	t.Seq = seq
	return t
}

// keySize is the size of the key that tokens are signed with, in bytes.
const keySize = 32

// sharedKey reads the key that all replicas sign tokens with. The first replica
// of all makes it.
func sharedKey(ctx context.Context, b drivers.Bucket, at string) ([]byte, error) {
	key := make([]byte, keySize)
	rand.Read(key)
	s, err := envelope.Read[[]byte](ctx, b, at)
	if errors.Is(err, drivers.ErrNotFound) {
		s, err = envelope.Create(ctx, b, at, key, drivers.Body{})
		if errors.Is(err, drivers.ErrExists) {
			err = nil // s is the one that was first
		}
	}
	if err != nil {
		return nil, fmt.Errorf("upload: token key: %w", err)
	}
	if len(s.Value) != keySize {
		return nil, fmt.Errorf("upload: token key %s: %d bytes, want %d", at, len(s.Value), keySize)
	}
	return s.Value, nil
}

// Sign writes the token down for a client, which can read but not change it.
func (m *Manager) Sign(t Token) string {
	payload, err := json.Marshal(t)
	if err != nil {
		return "" // no field of a Token can fail to be encoded
	}
	return base64.RawURLEncoding.EncodeToString(append(m.mac(payload), payload...))
}

// Verify reads a token that Sign made. It reports ErrUnknown if it was forged,
// or has expired.
func (m *Manager) Verify(signed string) (Token, error) {
	var t Token
	raw, err := base64.RawURLEncoding.Strict().DecodeString(signed)
	if err != nil || len(raw) < sha256.Size {
		return t, fmt.Errorf("%w: malformed token", ErrUnknown)
	}
	sum, payload := raw[:sha256.Size], raw[sha256.Size:]
	if !hmac.Equal(sum, m.mac(payload)) {
		return t, fmt.Errorf("%w: the token's signature is wrong", ErrUnknown)
	}
	if err := json.Unmarshal(payload, &t); err != nil {
		return t, fmt.Errorf("%w: malformed token", ErrUnknown)
	}
	return t, m.checkAge(t)
}

// checkAge reports ErrUnknown if the session has expired.
func (m *Manager) checkAge(t Token) error {
	if age := time.Since(t.Started); age > m.cfg.SessionLifetime {
		return fmt.Errorf("%w: the session expired %v ago", ErrUnknown, (age - m.cfg.SessionLifetime).Round(time.Second))
	}
	return nil
}

func (m *Manager) mac(payload []byte) []byte {
	h := hmac.New(sha256.New, m.key)
	h.Write(payload)
	return h.Sum(nil)
}
