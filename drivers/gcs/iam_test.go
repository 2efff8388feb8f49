package gcs

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/api/iamcredentials/v1"
	"google.golang.org/api/option"

	"github.com/berthhq/berth/drivers"
)

// signedBy returns a signer for testAccount that sends its requests to a double
// of IAM.
func signedBy(t *testing.T, iam transport) *iamSigner {
	t.Helper()
	service, err := iamcredentials.NewService(t.Context(), option.WithHTTPClient(&http.Client{Transport: iam}))
	if err != nil {
		t.Fatal(err)
	}
	s, err := newIAMSigner(testAccount, service)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// iamDouble signs with key as an account, unless it denies requests.
type iamDouble struct {
	key      *rsa.PrivateKey
	account  string
	denies   bool
	requests int
}

func (d *iamDouble) RoundTrip(r *http.Request) (*http.Response, error) {
	d.requests++
	if d.denies {
		return answer(r, http.StatusForbidden, "Permission 'iam.serviceAccounts.signBlob' denied")
	}
	want := "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/" + d.account + ":signBlob"
	if authorization := r.Header.Get("Authorization"); !strings.HasPrefix(r.URL.String(), want) || authorization != "Bearer test" {
		return nil, fmt.Errorf("request to %s with %q", r.URL, authorization)
	}
	var req struct {
		Payload []byte `json:"payload"`
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(req.Payload)
	signature, err := rsa.SignPKCS1v15(nil, d.key, crypto.SHA256, sum[:])
	if err != nil {
		return nil, err
	}
	return answer(r, http.StatusOK, map[string]string{"signedBlob": base64.StdEncoding.EncodeToString(signature)})
}

// TestSignByIAM has IAM sign, once for each URL within a window.
func TestSignByIAM(t *testing.T) {
	iam := &iamDouble{key: newKey(t), account: "signer@test.iam.gserviceaccount.com"}
	b := openUnprobed(t, Config{CredentialsFile: writeCredentials(t, newKey(t)), SignAs: iam.account, Transport: iam})
	now := time.Date(2026, 11, 24, 10, 20, 30, 0, time.UTC)
	opts := drivers.SignOptions{Expires: 20 * time.Minute, Window: time.Hour}
	byKey := openUnprobed(t, Config{CredentialsFile: writeCredentials(t, iam.key), Transport: refuseAll})
	byKey.signer = keySigner{iam.account, iam.key}
	want, err := byKey.signGet(t.Context(), "data/k", opts, now)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		got, err := b.signGet(t.Context(), "data/k", opts, now.Add(time.Duration(i)*10*time.Minute))
		if err != nil || got != want {
			t.Errorf("signGet = %+v, %v, want %+v", got, err, want)
		}
	}
	if iam.requests != 1 {
		t.Errorf("%d requests to IAM for one URL, want 1", iam.requests)
	}
	iam.denies = true
	_, err = b.signGet(t.Context(), "data/l", opts, now)
	if err == nil || !strings.Contains(err.Error(), "iam.serviceAccounts.signBlob") || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("signGet, denied = %v, want iam.serviceAccounts.signBlob in it", err)
	}
	if iam.requests != 2 {
		t.Errorf("%d requests to IAM for two URLs, want 2", iam.requests)
	}
}

// slowIAM signs with the bytes "signature", after a delay.
type slowIAM struct {
	delay    time.Duration
	status   int
	requests atomic.Int32
}

func (s *slowIAM) RoundTrip(r *http.Request) (*http.Response, error) {
	s.requests.Add(1)
	select {
	case <-time.After(s.delay):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	return answer(r, s.status, map[string]string{"signedBlob": base64.StdEncoding.EncodeToString([]byte("signature"))})
}

// wantSignature fails the test unless s signs data.
func wantSignature(t *testing.T, s *iamSigner, data string) {
	t.Helper()
	if got, err := s.sign(t.Context(), []byte(data)); err != nil || string(got) != "signature" {
		t.Errorf("sign(%q) = %q, %v, want a signature", data, got, err)
	}
}

// TestSignByIAMShared has many callers sign the same URL. They share the request
// of the first, which leaves.
func TestSignByIAMShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		iam := &slowIAM{delay: time.Second, status: http.StatusOK}
		s := signedBy(t, iam.RoundTrip)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.sign(ctx, []byte("a")); !errors.Is(err, context.Canceled) {
				t.Errorf("sign of a caller that leaves = %v, want %v", err, context.Canceled)
			}
		})
		synctest.Wait()
		for range 50 {
			wg.Go(func() { wantSignature(t, s, "a") })
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		if n := iam.requests.Load(); n != 1 {
			t.Errorf("%d requests to IAM for one URL, want 1", n)
		}
	})
}

// TestSignWhileIAMFails has IAM refuse requests, recover, and then not respond.
// Signatures from before are still returned.
func TestSignWhileIAMFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		iam := &slowIAM{delay: time.Second, status: http.StatusOK}
		s := signedBy(t, iam.RoundTrip)
		wantSignature(t, s, "a")

		iam.status = http.StatusServiceUnavailable
		if got, err := s.sign(t.Context(), []byte("b")); err == nil {
			t.Errorf("sign while IAM is down = %q, want an error", got)
		}
		before, start := iam.requests.Load(), time.Now()
		if _, err := s.sign(t.Context(), []byte("c")); err == nil || iam.requests.Load() != before || time.Since(start) > 0 {
			t.Errorf("sign just after a failure = %v, with %d requests, want an error immediately", err, iam.requests.Load()-before)
		}
		wantSignature(t, s, "a")
		iam.status = http.StatusOK
		time.Sleep(iamPause)
		wantSignature(t, s, "c")

		iam.delay = 24 * time.Hour
		start = time.Now()
		if got, err := s.sign(t.Context(), []byte("d")); err == nil || time.Since(start) > iamTimeout {
			t.Errorf("sign while IAM does not respond = %q, %v after %v, want an error within %v", got, err, time.Since(start), iamTimeout)
		}
	})
}

// TestSignRefusedByIAM has IAM refuse to sign. Its 404 is about an account, not
// about the key of the URL.
func TestSignRefusedByIAM(t *testing.T) {
	const grant = "gcs.Config.SignAs: grant iam.serviceAccounts.signBlob on the service account " + testAccount + " itself"
	for status, want := range map[int]struct {
		sentinel error
		text     string
	}{
		http.StatusForbidden:          {drivers.ErrRefused, grant},
		http.StatusNotFound:           {drivers.ErrRefused, grant},
		http.StatusUnauthorized:       {drivers.ErrRefused, "signBlob as " + testAccount},
		http.StatusTooManyRequests:    {drivers.ErrBusy, "signBlob as " + testAccount},
		http.StatusServiceUnavailable: {drivers.ErrBusy, "signBlob as " + testAccount},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := openUnprobed(t, Config{Endpoint: "http://gcs.example", Transport: refuseAll})
			b.signer = signedBy(t, func(r *http.Request) (*http.Response, error) { return answer(r, status, "no") })
			s, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Minute})
			if !errors.Is(err, want.sentinel) || sentinel(err) != nil && !errors.Is(sentinel(err), want.sentinel) || !strings.Contains(err.Error(), want.text) {
				t.Errorf("SignGet with %d from IAM = %+v, %v, want %v with %q", status, s, err, want.sentinel, want.text)
			}
		})
	}
}

// TestSignReasons has IAM refuse to sign for reasons other than a missing
// permission, and for that one.
func TestSignReasons(t *testing.T) {
	for reason, want := range map[string]string{
		"SERVICE_DISABLED":                "gcloud services enable iamcredentials.googleapis.com --project 123",
		"ACCESS_TOKEN_SCOPE_INSUFFICIENT": "access scope cloud-platform",
		"IAM_PERMISSION_DENIED":           "grant iam.serviceAccounts.signBlob",
	} {
		b := openUnprobed(t, Config{Endpoint: "http://gcs.example", Transport: refuseAll})
		b.signer = signedBy(t, func(r *http.Request) (*http.Response, error) {
			return answer(r, http.StatusForbidden, infoError(http.StatusForbidden, reason, "iamcredentials.googleapis.com"))
		})
		_, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: time.Minute})
		if !errors.Is(err, drivers.ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("SignGet with %s from IAM = %v, want %v with %q", reason, err, drivers.ErrRefused, want)
		}
		if reason != "IAM_PERMISSION_DENIED" && strings.Contains(err.Error(), "signBlob on") {
			t.Errorf("SignGet with %s from IAM = %v, which names a permission that is not missing", reason, err)
		}
	}
}
