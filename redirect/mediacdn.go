package redirect

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/berthhq/berth/drivers"
)

// mediaCDN is a signer for Google Media CDN: Ed25519, in the forms of Cloud CDN
// but with unpadded base64. KeyName is the name of the EdgeCacheKeyset. Media
// CDN tries every key of the keyset, so a rotation does not change KeyName.
//
// https://cloud.google.com/media-cdn/docs/generate-signatures
// https://cloud.google.com/media-cdn/docs/create-keyset
type mediaCDN struct {
	keyName string
	key     ed25519.PrivateKey
	prefix  bool
}

func newMediaCDN(bad problems, c CDN) signer {
	return mediaCDN{
		keyName: c.Keys[0].ID,
		key:     readKeys(bad, c, parseEd25519),
		prefix:  choose(bad.field("Form"), c.Form, "url", "prefix") == "prefix",
	}
}

// parseEd25519 parses PEM, as "openssl genpkey -algorithm ed25519" writes it, or
// base64 of the seed, alone or followed by the public key.
func parseEd25519(data []byte) (ed25519.PrivateKey, error) {
	if bytes.Contains(data, []byte("-----BEGIN")) {
		key, err := parsePrivateKey(data)
		if err != nil {
			return nil, err
		}
		ed, ok := key.(ed25519.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("want an Ed25519 key for Media CDN, got a %T", key)
		}
		return ed, nil
	}
	raw, err := parseBase64(data)
	switch {
	case err != nil:
		return nil, errors.New("is neither PEM nor base64")
	case len(raw) != ed25519.SeedSize && len(raw) != ed25519.PrivateKeySize:
		return nil, fmt.Errorf("want an Ed25519 key of 32 or 64 bytes for Media CDN, got %d bytes", len(raw))
	}
	key := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
	if len(raw) == ed25519.PrivateKeySize && !key.Equal(ed25519.PrivateKey(raw)) {
		return nil, errors.New("the public half of the key does not match the private half")
	}
	return key, nil
}

func (s mediaCDN) sign(u unsignedURL) (drivers.Signed, error) {
	return signGoogle(u, s.keyName, s.prefix, base64.RawURLEncoding, func(value string) []byte {
		return ed25519.Sign(s.key, []byte(value))
	}), nil
}
