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
	Seq        int              `json:"seq"` // number of the session record to continue from; 0 for none
	Algorithm  digest.Algorithm `json:"algorithm"`
}

// next is the token of the record that follows.
func (t Token) next(seq int) Token {
	t.Seq = seq
	return t
}

// keySize is the size of the key that tokens are signed with, in bytes.
const keySize = 32

// SharedKey returns the secret of 32 bytes that is stored at this key of a bucket, the
// same for all replicas. The first replica creates it.
func SharedKey(ctx context.Context, b drivers.Bucket, at string) ([]byte, error) {
	key := make([]byte, keySize)
	rand.Read(key)
	s, err := envelope.Read[[]byte](ctx, b, at)
	if errors.Is(err, drivers.ErrNotFound) {
		s, err = envelope.Create(ctx, b, at, key, drivers.Body{})
		if errors.Is(err, drivers.ErrExists) {
			err = nil // s is the key that another replica has created
		}
	}
	if err != nil {
		return nil, fmt.Errorf("upload: shared key: %w", err)
	}
	if len(s.Value) != keySize {
		return nil, fmt.Errorf("upload: shared key %s: %d bytes, want %d", at, len(s.Value), keySize)
	}
	return s.Value, nil
}

// Sign returns the token as a string for a client, which can read but not change
// it.
func (m *Manager) Sign(t Token) string {
	payload, err := json.Marshal(t)
	if err != nil {
		return "" // no field of a Token can fail to be encoded
	}
	return base64.RawURLEncoding.EncodeToString(append(m.mac(payload), payload...))
}

// Verify returns the token that Sign has made a string of. It returns ErrUnknown
// if the string is forged, or if the session has expired.
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
	return t, t.checkAge(m.cfg.SessionLifetime)
}

// checkAge returns ErrUnknown if the session is older than most.
func (t Token) checkAge(most time.Duration) error {
	if age := time.Since(t.Started); age > most {
		return fmt.Errorf("%w: the session expired %v ago", ErrUnknown, (age - most).Round(time.Second))
	}
	return nil
}

func (m *Manager) mac(payload []byte) []byte {
	h := hmac.New(sha256.New, m.key)
	h.Write(payload)
	return h.Sum(nil)
}

// DeriveKey returns a key of 32 bytes for another purpose, the same in all replicas.
// No token is signed with it.
func (m *Manager) DeriveKey(purpose string) []byte { return m.mac([]byte(purpose)) }
