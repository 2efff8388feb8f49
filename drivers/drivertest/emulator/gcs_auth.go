package emulator

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// serveToken returns a token for a JWT that the account signed, as Google's
// token endpoint does (RFC 7523).
func (s *strictGCS) serveToken(w http.ResponseWriter, r *http.Request) {
	if err := s.verifyJWT(r.PostFormValue("assertion")); err != nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": "invalid_grant", "error_description": err.Error()}) // fails if the client has left
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": s.token, "token_type": "Bearer", "expires_in": 3600}) // fails if the client has left
}

// verifyJWT returns an error unless the account signed the JWT and it is valid.
func (s *strictGCS) verifyJWT(jwt string) error {
	signed, encoded, _ := cutLast(jwt, ".")
	signature, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(signed))
	if err := rsa.VerifyPKCS1v15(s.key, crypto.SHA256, sum[:], signature); err != nil {
		return err
	}
	_, encoded, _ = strings.Cut(signed, ".")
	data, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	var claims struct {
		Issuer  string `json:"iss"`
		Expires int64  `json:"exp"`
	}
	if err := json.Unmarshal(data, &claims); err != nil {
		return err
	}
	if claims.Issuer != s.account || time.Now().Unix() > claims.Expires {
		return fmt.Errorf("claims %+v", claims)
	}
	return nil
}

// cutLast is strings.Cut at the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// clockSkew is how far a signing time may be in the future.
const clockSkew = 15 * time.Minute

// verify returns an error unless the request has a valid V4 signed URL. See
// https://cloud.google.com/storage/docs/authentication/canonical-requests and
// https://cloud.google.com/storage/docs/authentication/signatures.
func (s *strictGCS) verify(r *http.Request) error {
	q := r.URL.Query()
	at, err := time.Parse("20060102T150405Z", q.Get("X-Goog-Date"))
	if err != nil {
		return err
	}
	seconds, err := strconv.Atoi(q.Get("X-Goog-Expires"))
	if err != nil || seconds < 1 || seconds > 604800 {
		return fmt.Errorf("X-Goog-Expires %q", q.Get("X-Goog-Expires"))
	}
	if now := time.Now(); now.After(at.Add(time.Duration(seconds)*time.Second)) || at.After(now.Add(clockSkew)) {
		return errors.New("ExpiredToken")
	}
	scope := at.Format("20060102") + "/auto/storage/goog4_request"
	if q.Get("X-Goog-Algorithm") != "GOOG4-RSA-SHA256" || q.Get("X-Goog-Credential") != s.account+"/"+scope {
		return fmt.Errorf("algorithm %q, credential %q", q.Get("X-Goog-Algorithm"), q.Get("X-Goog-Credential"))
	}

	canonical := []string{r.Method, r.URL.EscapedPath(), canonicalQuery(q)}
	names := strings.Split(q.Get("X-Goog-SignedHeaders"), ";")
	if !slices.Contains(names, "host") || !slices.IsSorted(names) {
		return fmt.Errorf("signed headers %q", names)
	}
	for _, name := range names {
		value := r.Host
		if name != "host" {
			value = strings.Join(r.Header.Values(name), ",")
		}
		canonical = append(canonical, name+":"+strings.Join(strings.Fields(value), " "))
	}
	canonical = append(canonical, "", q.Get("X-Goog-SignedHeaders"), "UNSIGNED-PAYLOAD")
	hash := sha256.Sum256([]byte(strings.Join(canonical, "\n")))
	text := "GOOG4-RSA-SHA256\n" + q.Get("X-Goog-Date") + "\n" + scope + "\n" + hex.EncodeToString(hash[:])
	sum := sha256.Sum256([]byte(text))
	signature, err := hex.DecodeString(q.Get("X-Goog-Signature"))
	if err != nil {
		return err
	}
	return rsa.VerifyPKCS1v15(s.key, crypto.SHA256, sum[:], signature)
}

// canonicalQuery returns the query without the signature, sorted, with all
// characters escaped except the unreserved ones.
func canonicalQuery(q url.Values) string {
	var pairs []string
	for name, values := range q {
		if name == "X-Goog-Signature" {
			continue
		}
		for _, v := range values {
			pairs = append(pairs, escape(name)+"="+escape(v))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// escape escapes all characters except those that RFC 3986 calls unreserved.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
