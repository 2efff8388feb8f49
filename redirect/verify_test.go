package redirect

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A verifier returns an error if a CDN would refuse a URL at a given time. Each
// verifier is written from the page that its signer cites. keys is indexed by id, or
// by number if the CDN has no ids.
type verifier func(rawURL string, now time.Time, keys map[string]any) error

var errSignature = errors.New("signature does not match")

// decodeCloudFront decodes base64 with CloudFront's substitutes. It returns nil if
// s is not valid.
func decodeCloudFront(s string) []byte {
	data, err := base64.StdEncoding.Strict().DecodeString(strings.NewReplacer("-", "+", "_", "=", "~", "/").Replace(s))
	if err != nil {
		return nil
	}
	return data
}

func verifyCloudFrontSignature(policy []byte, params map[string]string, publicKey any) error {
	hash := crypto.SHA1
	if params["Hash-Algorithm"] == "SHA256" {
		hash = crypto.SHA256
	}
	h := hash.New()
	h.Write(policy)
	switch key := publicKey.(type) {
	case *rsa.PublicKey:
		if rsa.VerifyPKCS1v15(key, hash, h.Sum(nil), decodeCloudFront(params["Signature"])) != nil {
			return errSignature
		}
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(key, h.Sum(nil), decodeCloudFront(params["Signature"])) {
			return errSignature
		}
	default:
		return fmt.Errorf("no key %q", params["Key-Pair-Id"])
	}
	return nil
}

func verifyCloudFront(rawURL string, now time.Time, keys map[string]any) error {
	resource, query, _ := strings.Cut(rawURL, "?")
	params := make(map[string]string)
	for param := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(param, "=")
		switch name {
		case "Policy", "Expires", "Signature", "Key-Pair-Id", "Hash-Algorithm":
			params[name] = value
		default: // the viewer's own parameters are part of the resource
			resource += "?" + param
		}
	}
	policy := fmt.Appendf(nil, `{"Statement":[{"Resource":"%s","Condition":{"DateLessThan":{"AWS:EpochTime":%s}}}]}`, resource, params["Expires"])
	if params["Policy"] != "" {
		policy = decodeCloudFront(params["Policy"])
	}
	if err := verifyCloudFrontSignature(policy, params, keys[params["Key-Pair-Id"]]); err != nil {
		return err
	}

	var p struct {
		Statement []struct {
			Resource  string
			Condition struct {
				DateLessThan struct {
					Epoch int64 `json:"AWS:EpochTime"`
				}
			}
		}
	}
	if err := json.Unmarshal(policy, &p); err != nil {
		return fmt.Errorf("policy %s: %w", policy, err)
	}
	if len(p.Statement) != 1 {
		return fmt.Errorf("policy %s: want one statement", policy)
	}
	pattern := regexp.QuoteMeta(p.Statement[0].Resource)
	pattern = strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(pattern)
	if ok, err := regexp.MatchString("^"+pattern+"$", resource); !ok || err != nil {
		return fmt.Errorf("%s does not match %s", resource, p.Statement[0].Resource)
	}
	if now.Unix() >= p.Statement[0].Condition.DateLessThan.Epoch {
		return errors.New("expired")
	}
	return nil
}

// verifyGoogle is the common part of the verifiers of Cloud CDN and Media CDN.
func verifyGoogle(rawURL string, now time.Time, encoding *base64.Encoding, check func(keyName, value string, signature []byte) error) error {
	value, encoded, ok := strings.Cut(rawURL, "&Signature=")
	if !ok {
		return errors.New("no signature")
	}
	signature, err := encoding.Strict().DecodeString(encoded)
	if err != nil {
		return err
	}
	requested, query, _ := strings.Cut(value, "?")
	params, err := url.ParseQuery(query)
	if err != nil {
		return err
	}
	if params.Has("URLPrefix") {
		prefix, err := encoding.Strict().DecodeString(params.Get("URLPrefix"))
		if err != nil || len(prefix) == 0 || !strings.HasPrefix(requested, string(prefix)) {
			return fmt.Errorf("%s does not start with %s", requested, prefix)
		}
		_, signed, _ := strings.Cut(query, "URLPrefix=") // after any other parameters
		value = "URLPrefix=" + signed
	}
	if err := check(params.Get("KeyName"), value, signature); err != nil {
		return err
	}
	expires, err := strconv.ParseInt(params.Get("Expires"), 10, 64)
	if err != nil || now.Unix() >= expires {
		return errors.New("expired")
	}
	return nil
}

func verifyCloudCDN(rawURL string, now time.Time, keys map[string]any) error {
	return verifyGoogle(rawURL, now, base64.URLEncoding, func(keyName, value string, signature []byte) error {
		key, _ := keys[keyName].([]byte)
		mac := hmac.New(sha1.New, key)
		mac.Write([]byte(value))
		if key == nil || !hmac.Equal(mac.Sum(nil), signature) {
			return errSignature
		}
		return nil
	})
}

// verifyMediaCDN tries each key of the keyset "my-key".
func verifyMediaCDN(rawURL string, now time.Time, keys map[string]any) error {
	return verifyGoogle(rawURL, now, base64.RawURLEncoding, func(keyName, value string, signature []byte) error {
		for _, key := range keys {
			if keyName == "my-key" && ed25519.Verify(key.(ed25519.PublicKey), []byte(value), signature) {
				return nil
			}
		}
		return errSignature
	})
}

// verifyCloudflare evaluates is_timed_hmac_valid_v0(key, http.request.uri, 1800,
// http.request.timestamp.sec, 8) for each key, and accepts any match.
func verifyCloudflare(rawURL string, now time.Time, keys map[string]any) error {
	messageMAC := regexp.MustCompile(`^(.+)(.{8})(\d{10})-(.{43,})$`).FindStringSubmatch(requestURI(rawURL))
	if len(messageMAC) != 5 || messageMAC[2] != "?verify=" {
		return errors.New("not a MessageMAC")
	}
	encoded, err := url.QueryUnescape(messageMAC[4])
	if err != nil {
		return err
	}
	got, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return err
	}
	for _, key := range keys {
		mac := hmac.New(sha256.New, key.([]byte))
		mac.Write([]byte(messageMAC[1] + messageMAC[3]))
		if hmac.Equal(mac.Sum(nil), got) {
			if issued, _ := strconv.ParseInt(messageMAC[3], 10, 64); now.Unix() >= issued+1800 {
				return errors.New("expired")
			}
			return nil
		}
	}
	return errSignature
}

func verifyAkamai(rawURL string, now time.Time, keys map[string]any) error {
	requested, query, _ := strings.Cut(requestURI(rawURL), "?")
	token, ok := strings.CutPrefix(query, "__token__=")
	signed, got, ok2 := strings.Cut(token, "~hmac=")
	if !ok || !ok2 {
		return errors.New("no token")
	}
	for _, key := range keys {
		mac := hmac.New(sha256.New, key.([]byte))
		mac.Write([]byte(signed))
		if hex.EncodeToString(mac.Sum(nil)) != got {
			continue
		}
		fields := make(map[string]string)
		for field := range strings.SplitSeq(signed, "~") {
			name, value, _ := strings.Cut(field, "=")
			fields[name] = value
		}
		if expires, err := strconv.ParseInt(fields["exp"], 10, 64); err != nil || now.Unix() >= expires {
			return errors.New("expired")
		}
		for pattern := range strings.SplitSeq(fields["acl"], "!") {
			if ok, err := path.Match(pattern, requested); ok && err == nil {
				return nil
			}
		}
		return fmt.Errorf("%s does not match %s", requested, fields["acl"])
	}
	return errSignature
}

// verifyNginx does what nginx does with secure_link $arg_md5,$arg_expires and
// secure_link_md5 "$secure_link_expires$uri <key>", for each key.
func verifyNginx(rawURL string, now time.Time, keys map[string]any) error {
	uri, query, _ := strings.Cut(requestURI(rawURL), "?")
	args := make(map[string]string)
	for arg := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(arg, "=")
		args[name] = value
	}
	got, err := base64.RawURLEncoding.Strict().DecodeString(args["md5"])
	if err != nil {
		return err
	}
	for _, key := range keys {
		sum := md5.Sum(fmt.Appendf(nil, "%s%s %s", args["expires"], uri, key))
		if string(sum[:]) != string(got) {
			continue
		}
		if expires, err := strconv.ParseInt(args["expires"], 10, 64); err != nil || expires < now.Unix() {
			return errors.New("expired (410)")
		}
		return nil
	}
	return errSignature
}

// requestURI returns the part of a URL that an HTTP server receives.
func requestURI(rawURL string) string {
	_, rest, _ := strings.Cut(rawURL, "://")
	_, uri, _ := strings.Cut(rest, "/")
	return "/" + uri
}
