package upload

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	membucket "github.com/berthhq/berth/drivers/memory"
)

func TestTokens(t *testing.T) {
	store := &membucket.Store{}
	a, b := replica(t, store, nil), replica(t, store, nil)
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		tok := a.Start("team/app", alg).next(7)
		got, err := b.Verify(a.Sign(tok))
		if err != nil {
			t.Fatalf("Verify of another replica's token: %v", err)
		}
		if diff := cmp.Diff(tok, got); diff != "" {
			t.Errorf("-signed +verified:\n%s", diff)
		}
	}
	if one, two := a.Start("team/app", digest.SHA256), a.Start("team/app", digest.SHA256); one.ID == two.ID {
		t.Errorf("two uploads have the id %s", one.ID)
	}
}

// TestForgedTokens changes every bit of a token, cuts it everywhere, and signs
// it with another bucket's key.
func TestForgedTokens(t *testing.T) {
	m := replica(t, &membucket.Store{}, nil)
	tok := m.Start("team/app", digest.SHA256)
	raw, err := base64.RawURLEncoding.DecodeString(m.Sign(tok))
	if err != nil {
		t.Fatal(err)
	}
	var forged [][]byte
	for i := range raw {
		for bit := range 8 {
			f := bytes.Clone(raw)
			f[i] ^= 1 << bit
			forged = append(forged, f)
		}
		forged = append(forged, raw[:i])
	}
	forged = append(forged, append(bytes.Clone(raw), ' '))
	for _, f := range forged {
		if got, err := m.Verify(base64.RawURLEncoding.EncodeToString(f)); !errors.Is(err, ErrUnknown) {
			t.Fatalf("Verify(%q) = %+v, %v, want %v", f, got, err, ErrUnknown)
		}
	}
	signed := m.Sign(tok)
	for _, f := range []string{"", "x", "!" + signed, signed + "=", signed[:len(signed)-1] + "?", strings.ToUpper(signed)} {
		if _, err := m.Verify(f); !errors.Is(err, ErrUnknown) {
			t.Errorf("Verify(%q) = %v, want %v", f, err, ErrUnknown)
		}
	}
	if _, err := replica(t, &membucket.Store{}, nil).Verify(signed); !errors.Is(err, ErrUnknown) {
		t.Errorf("Verify of another bucket's token = %v, want %v", err, ErrUnknown)
	}
}

func TestTokensExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := replica(t, &membucket.Store{}, nil)
		tok := m.Start("team/app", digest.SHA256)
		signed := m.Sign(tok)
		time.Sleep(m.cfg.SessionLifetime)
		if _, err := m.Verify(signed); err != nil {
			t.Errorf("Verify at the end of the lifetime = %v, want success", err)
		}
		time.Sleep(2 * time.Second)
		for range 2 {
			if _, err := m.Verify(signed); !errors.Is(err, ErrUnknown) {
				t.Errorf("Verify after the lifetime = %v, want %v", err, ErrUnknown)
			}
			signed = m.Sign(tok.next(3)) // a later record does not prolong it
		}
	})
}

// TestTokenKeyRace opens an empty bucket by several replicas concurrently: all of them
// sign with the same key.
func TestTokenKeyRace(t *testing.T) {
	for _, habits := range []membucket.Habits{smallS3(), membucket.GCS(), streaming()} {
		store := &membucket.Store{Habits: habits}
		managers := make([]*Manager, 8)
		var wg sync.WaitGroup
		for i := range managers {
			wg.Go(func() { managers[i] = replica(t, store, nil) })
		}
		wg.Wait()
		signed := managers[0].Sign(managers[0].Start("r", digest.SHA256))
		for i, m := range managers {
			if _, err := m.Verify(signed); err != nil {
				t.Errorf("replica %d: Verify = %v, want success", i, err)
			}
		}
	}
}

func TestTokenKeyIsNoKey(t *testing.T) {
	for name, body := range map[string]string{
		"short":  `{"v":1,"nonce":"N","value":"c2hvcnQ="}` + "\n",
		"absent": `{"v":1,"nonce":"N"}` + "\n",
		"other":  "something else",
	} {
		b, err := membucket.Open(t.Context(), membucket.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Create(t.Context(), testLayout{}.TokenKey(), drivers.NewBody([]byte(body))); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), testConfig(b)); err == nil || !strings.Contains(err.Error(), testLayout{}.TokenKey()) {
			t.Errorf("Open with a %s token key = %v, want an error that names it", name, err)
		}
	}
}

// FuzzVerify verifies arbitrary strings, and what was signed from them.
func FuzzVerify(f *testing.F) {
	m := replica(f, &membucket.Store{}, nil)
	f.Add("", "team/app", 0)
	f.Add(m.Sign(m.Start("team/app", digest.SHA256)), "team/app", 3)
	f.Add(base64.RawURLEncoding.EncodeToString(append(m.mac([]byte("{}")), "{}"...)), "", -1)
	f.Add(base64.RawURLEncoding.EncodeToString(m.mac(nil)), "é\x00", 1)
	f.Fuzz(func(t *testing.T, signed, repository string, seq int) {
		got, err := m.Verify(signed)
		switch {
		case err != nil && !errors.Is(err, ErrUnknown):
			t.Fatalf("Verify(%q) = %v, want %v", signed, err, ErrUnknown)
		case err == nil && time.Since(got.Started) > m.cfg.SessionLifetime:
			t.Fatalf("Verify(%q) = %+v, which has expired", signed, got)
		}
		tok := m.Start(strings.ToValidUTF8(repository, "?"), digest.SHA512).next(seq)
		got, err = m.Verify(m.Sign(tok))
		if err != nil || got != tok {
			t.Fatalf("Verify of a signed %+v = %+v, %v", tok, got, err)
		}
		if got, err := m.Verify(m.Sign(tok) + signed); err == nil && strings.Trim(signed, "\r\n") != "" { // base64 has no lines
			t.Fatalf("Verify of a token and %q = %+v, want an error", signed, got)
		}
	})
}
