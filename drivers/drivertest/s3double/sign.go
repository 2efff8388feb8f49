package s3double

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	unsignedPayload = "UNSIGNED-PAYLOAD"
	algorithm       = "AWS4-HMAC-SHA256"
	timeFormat      = "20060102T150405Z"
)

// signature is the signature that a request carries, in a header or in the URL.
type signature struct {
	credential, headers, value string
	payload                    string
	date                       string
	expires                    time.Duration // of a URL, after its date
	query                      url.Values    // without the signature itself
}

// signatureOf returns the signature of a request. It reports false if there is
// none.
func signatureOf(r *http.Request) (s signature, ok bool) {
	s.query = r.URL.Query()
	if s.query.Has("X-Amz-Signature") {
		seconds, _ := strconv.Atoi(s.query.Get("X-Amz-Expires"))
		s.expires = time.Duration(seconds) * time.Second
		s.credential, s.headers, s.value = s.query.Get("X-Amz-Credential"), s.query.Get("X-Amz-SignedHeaders"), s.query.Get("X-Amz-Signature")
		s.payload, s.date = unsignedPayload, s.query.Get("X-Amz-Date")
		s.query.Del("X-Amz-Signature")
		return s, true
	}
	fields, ok := strings.CutPrefix(r.Header.Get("Authorization"), algorithm+" ")
	for field := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "Credential":
			s.credential = value
		case "SignedHeaders":
			s.headers = value
		case "Signature":
			s.value = value
		}
	}
	s.payload, s.date = r.Header.Get("X-Amz-Content-Sha256"), r.Header.Get("X-Amz-Date")
	return s, ok
}

// authorize verifies the signature and the time of a request.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
func authorize(r *http.Request, now time.Time) error {
	s, ok := signatureOf(r)
	if !ok {
		return fault(http.StatusForbidden, "AccessDenied", "Access Denied")
	}
	signed, err := time.Parse(timeFormat, s.date)
	if err != nil {
		return fault(http.StatusForbidden, "AccessDenied", "The request has no valid date.")
	}
	if id, _, _ := strings.Cut(s.credential, "/"); id != AccessKeyID {
		return fault(http.StatusForbidden, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
	}
	if !hmac.Equal([]byte(s.value), []byte(s.expected(r, signed))) {
		return fault(http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.")
	}
	early, late := signed.Sub(now), now.Sub(signed)
	switch {
	case s.expires == 0 && max(early, late) > maxSkew:
		return fault(http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
	case s.expires > 0 && early > maxSkew:
		return fault(http.StatusForbidden, "AccessDenied", "Request is not yet valid")
	case s.expires > 0 && late > s.expires:
		return fault(http.StatusForbidden, "AccessDenied", "Request has expired")
	}
	return nil
}

// expected returns the signature that the request should have, if it was signed
// at this time.
func (s *signature) expected(r *http.Request, signed time.Time) string {
	var canonical strings.Builder
	canonical.WriteString(r.Method + "\n" + cmp.Or(r.URL.EscapedPath(), "/") + "\n")
	canonical.WriteString(strings.ReplaceAll(s.query.Encode(), "+", "%20") + "\n")
	names := strings.Split(s.headers, ";")
	slices.Sort(names)
	for _, name := range names {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		canonical.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	canonical.WriteString("\n" + strings.Join(names, ";") + "\n" + s.payload)

	day := signed.Format("20060102")
	scope := day + "/" + Region + "/s3/aws4_request"
	key := []byte("AWS4" + SecretAccessKey)
	for _, step := range []string{day, Region, "s3", "aws4_request"} {
		key = sum(key, step)
	}
	return hex.EncodeToString(sum(key, algorithm+"\n"+signed.Format(timeFormat)+"\n"+scope+"\n"+hexSHA256([]byte(canonical.String()))))
}

func sum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func hexSHA256(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}
