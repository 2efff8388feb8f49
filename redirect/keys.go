package redirect

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Key is a key that signs URLs. Exactly one of Value, File and Env is set. White
// space around the key is ignored, and so is a byte order mark, which some
// editors write first.
type Key struct {
	// ID is the name of the key at the CDN, for the kinds that use one. For
	// mediacdn it is the name of the keyset that the key is in.
	ID string

	Value string
	File  string
	Env   string // the name of an environment variable
}

// String returns the name of the key and its source, never the key itself.
func (k Key) String() string {
	switch {
	case k.File != "":
		return fmt.Sprintf("key %q of file %s", k.ID, k.File)
	case k.Env != "":
		return fmt.Sprintf("key %q of environment variable %s", k.ID, k.Env)
	}
	return fmt.Sprintf("key %q", k.ID)
}

// read returns the key, and the name of the field that it comes from. The name is
// empty unless exactly one field is set.
func (k Key) read() (data []byte, field string, err error) {
	given := 0
	for _, s := range []string{k.Value, k.File, k.Env} {
		if s != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return nil, "", errors.New("set exactly one of Value, File and Env")
	case k.File != "":
		field = "File"
		data, err = os.ReadFile(k.File)
		if pathErr, ok := errors.AsType[*os.PathError](err); ok {
			err = pathErr.Err // the caller adds the path
		}
	case k.Env != "":
		field = "Env"
		data = []byte(os.Getenv(k.Env))
	default:
		field = "Value"
		data = []byte(k.Value)
	}
	data = bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\ufeff")))
	if err == nil && len(data) == 0 {
		err = errors.New("is empty or not set")
	}
	return data, field, err
}

// readKeys reads and parses all keys of c, and returns the first. Errors of parse
// must not contain the key.
func readKeys[K any](bad problems, c CDN, parse func([]byte) (K, error)) K {
	var first K
	for i, k := range c.Keys {
		at := bad.field("Keys").index(i)
		data, field, err := k.read()
		if field == "" {
			at.add(err)
			continue
		}
		var parsed K
		if err == nil {
			parsed, err = parse(data)
		}
		switch {
		case err != nil && field == "Value":
			at.field(field).add(err)
		case err != nil:
			at.field(field).addf("%s%s: %w", k.File, k.Env, err)
		case i == 0:
			first = parsed
		}
	}
	return first
}

func checkKeyID(id string, wanted bool) error {
	if !wanted {
		if id != "" {
			return errors.New("keys of this kind have no id")
		}
		return nil
	}
	// All vendors have a rule of this form. This is the strictest.
	if ok, _ := regexp.MatchString(`^[A-Za-z0-9_-]{1,63}$`, id); !ok {
		return fmt.Errorf("%q: want 1 to 63 characters from A-Z a-z 0-9 _ -", id)
	}
	return nil
}

// parsePrivateKey parses a private key in PEM: PKCS #8, PKCS #1 or SEC 1.
func parsePrivateKey(data []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		if strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") || block.Type == "ENCRYPTED PRIVATE KEY" {
			return nil, errors.New("the private key is encrypted; give it without a passphrase")
		}
		switch block.Type {
		case "EC PARAMETERS": // openssl writes them before the key
			continue
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "OPENSSH PRIVATE KEY":
			return nil, errors.New("is a private key in OpenSSH format; use a PKCS #8 key")
		default:
			return nil, fmt.Errorf("is a PEM %s, not a private key", block.Type)
		}
		if err != nil {
			return nil, fmt.Errorf("PEM %s: %w", block.Type, err)
		}
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
		return nil, fmt.Errorf("is a private key of type %T, which cannot sign", key)
	}
	return nil, errors.New("is not a PEM private key")
}

// parseBase64 decodes base64 of either alphabet, with or without padding.
func parseBase64(data []byte) ([]byte, error) {
	s := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(string(data), "="))
	key, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return nil, errors.New("is not base64")
	}
	return key, nil
}

func parseHex(data []byte) ([]byte, error) {
	key, err := hex.DecodeString(string(data))
	if err != nil {
		return nil, errors.New("is not an even number of hexadecimal digits")
	}
	return key, nil
}

// parseText returns a secret that is copied verbatim into the CDN's configuration.
// It refuses data that is not one line of UTF-8 text, which is probably the
// wrong file.
func parseText(data []byte) ([]byte, error) {
	if !utf8.Valid(data) || bytes.ContainsFunc(data, unicode.IsControl) {
		return nil, errors.New("is not one line of text in UTF-8")
	}
	return data, nil
}
