package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// algorithms are the signatures that tokens may have. None of them is symmetric, so that
// no token can be signed with a public key.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

const (
	minRSA  = 2048 // bits of the shortest RSA key
	maxRSA  = 16384
	maxKeys = 100 // in one set
)

// publicKey is a key that verifies tokens.
type publicKey struct {
	id         string // empty if tokens do not name it
	algorithms []jose.SignatureAlgorithm
	key        any
}

type keySet []publicKey

// find returns the keys that may have signed a token with this key id and algorithm. A
// key from a PEM file has no id of its own, so it may have signed any token.
func (s keySet) find(id string, algorithm jose.SignatureAlgorithm) (found keySet) {
	for _, k := range s {
		if (k.id == id || k.id == "" || id == "") && slices.Contains(k.algorithms, algorithm) {
			found = append(found, k)
		}
	}
	return found
}

// keySource has the keys of an issuer, which may change.
type keySource interface {
	// keys returns the keys that are known. It returns nil if none were ever read.
	keys() keySet

	// refresh returns the keys after they were read again, if that is possible now.
	refresh(ctx context.Context) keySet
}

// keyFile is a file with keys.
type keyFile struct{ file *watched[keySet] }

func (f keyFile) keys() keySet                     { return *f.file.get() }
func (f keyFile) refresh(_ context.Context) keySet { return f.keys() }

func openKeyFile(ctx context.Context, field, path string, log *slog.Logger) (keySource, error) {
	file, err := watch(ctx, field, path, log, func(data []byte) (*keySet, error) {
		set, err := parseKeys(data)
		return &set, err
	})
	return keyFile{file}, err
}

// fixedKey is a key that never changes.
type fixedKey struct{ set keySet }

func (f fixedKey) keys() keySet                     { return f.set }
func (f fixedKey) refresh(_ context.Context) keySet { return f.set }

// parseKeys parses a JSON Web Key Set, or certificates and public keys in PEM.
func parseKeys(data []byte) (keySet, error) {
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' {
		return parseJWKS(trimmed)
	}
	return parsePEM(data)
}

func parsePEM(data []byte) (set keySet, err error) {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		var key any
		switch block.Type {
		case "CERTIFICATE":
			var cert *x509.Certificate
			if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
				key = cert.PublicKey
			}
		case "PUBLIC KEY":
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			key, err = x509.ParsePKCS1PublicKey(block.Bytes)
		default:
			err = fmt.Errorf("has a PEM block of type %.40q: want certificates and public keys", block.Type)
		}
		var fits []jose.SignatureAlgorithm
		if err == nil {
			fits, err = algorithmsOf(key)
		}
		if err != nil {
			return nil, err
		}
		set = append(set, publicKey{algorithms: fits, key: key})
	}
	return set, set.check()
}

// check returns an error unless the set has a reasonable number of keys.
func (s keySet) check() error {
	switch {
	case len(s) == 0:
		return errors.New("has no key that can verify tokens: want a JSON Web Key Set, or certificates or public keys in PEM")
	case len(s) > maxKeys:
		return fmt.Errorf("has more than %d keys", maxKeys)
	}
	return nil
}

// parseJWKS parses a JSON Web Key Set (https://www.rfc-editor.org/rfc/rfc7517). It leaves
// keys out that are not for signatures, and of kinds that it does not know.
func parseJWKS(data []byte) (set keySet, err error) {
	var keys struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &keys); err != nil {
		return nil, fmt.Errorf("is not a JSON Web Key Set: %w", err)
	}
	for _, raw := range keys.Keys {
		var key jose.JSONWebKey
		if err := key.UnmarshalJSON(raw); err != nil || !key.IsPublic() || key.Use != "" && key.Use != "sig" {
			continue
		}
		fits, err := algorithmsOf(key.Key)
		if err != nil {
			continue
		}
		if key.Algorithm != "" {
			fits = slices.DeleteFunc(fits, func(a jose.SignatureAlgorithm) bool { return string(a) != key.Algorithm })
		}
		if len(fits) > 0 {
			set = append(set, publicKey{key.KeyID, fits, key.Key})
		}
	}
	return set, set.check()
}

// algorithmsOf returns the algorithms of the signatures that a key can verify.
func algorithmsOf(key any) ([]jose.SignatureAlgorithm, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSA || n > maxRSA {
			return nil, fmt.Errorf("has an RSA key of %d bits: want %d to %d", n, minRSA, maxRSA)
		}
		return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512}, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return []jose.SignatureAlgorithm{jose.ES256}, nil
		case elliptic.P384():
			return []jose.SignatureAlgorithm{jose.ES384}, nil
		case elliptic.P521():
			return []jose.SignatureAlgorithm{jose.ES512}, nil
		}
	case ed25519.PublicKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}, nil
	}
	return nil, fmt.Errorf("has a key of type %T: want RSA, ECDSA with P-256, P-384 or P-521, or Ed25519", key)
}
