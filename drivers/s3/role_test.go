package s3

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
)

// fakeSTS answers AssumeRole with temporary credentials, and configures the SDK
// to use it.
func fakeSTS(t *testing.T, status int) {
	t.Helper()
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("Action") != "AssumeRole" || r.FormValue("RoleArn") != "arn:aws:iam::1:role/berth" {
			t.Errorf("the request to STS is a %s of %s, want AssumeRole of arn:aws:iam::1:role/berth", r.FormValue("Action"), r.FormValue("RoleArn"))
		}
		if !strings.Contains(r.Header.Get("Authorization"), "Credential=FROMPROFILE/") {
			t.Errorf("the request to STS has Authorization: %s, want the profile's key", r.Header.Get("Authorization"))
		}
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(status)
		if status != http.StatusOK {
			fmt.Fprint(w, `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized to perform sts:AssumeRole</Message></Error></ErrorResponse>`)
			return
		}
		seconds, err := strconv.Atoi(r.FormValue("DurationSeconds"))
		if err != nil {
			t.Errorf("the request to STS is for a session of %q seconds, want a number", r.FormValue("DurationSeconds"))
		}
		expires := time.Now().Add(time.Duration(seconds) * time.Second).UTC()
		fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>`+
			`<AccessKeyId>FROMROLE</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>TOKEN</SessionToken>`+
			`<Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`, expires.Format(time.RFC3339))
	}))
	t.Cleanup(sts.Close)
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	file := filepath.Join(t.TempDir(), "config")
	profile := "[profile other]\nregion = eu-west-3\naws_access_key_id = FROMPROFILE\naws_secret_access_key = secret\n" +
		"[profile role]\nregion = eu-west-3\nrole_arn = arn:aws:iam::1:role/berth\nsource_profile = other\n" +
		"[profile short]\nregion = eu-west-3\nrole_arn = arn:aws:iam::1:role/berth\nsource_profile = other\nduration_seconds = 1800\n"
	if err := os.WriteFile(file, []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", file)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
}

// TestProfileAndRole checks that requests use the profile's key and region, or
// the role's credentials. Requests and URLs carry the role's token, and URLs
// expire before the token.
func TestProfileAndRole(t *testing.T) {
	fakeSTS(t, http.StatusOK)
	var last http.Header
	store := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { last = r.Header.Clone() }))
	defer store.Close()
	cfg := Config{Bucket: "b", Endpoint: store.URL, PathStyle: true, Profile: "other"}
	connectAs := func(wantKey, wantToken string) *bucket {
		t.Helper()
		b, _ := connectBucket(t, cfg)
		if err := b.Delete(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		if got := last.Get("Authorization"); !strings.Contains(got, "Credential="+wantKey+"/") || !strings.Contains(got, "/eu-west-3/s3/") {
			t.Errorf("Delete has Authorization: %s, want the key %s in eu-west-3", got, wantKey)
		}
		if got := last.Get("X-Amz-Security-Token"); got != wantToken {
			t.Errorf("Delete has the session token %q, want %q", got, wantToken)
		}
		return b
	}
	connectAs("FROMPROFILE", "")
	for _, role := range []struct {
		profile, arn string
		session      time.Duration
	}{
		{"other", "arn:aws:iam::1:role/berth", time.Hour},
		{"role", "", time.Hour},
		{"short", "", 30 * time.Minute},
	} {
		cfg.Profile, cfg.RoleARN = role.profile, role.arn
		b := connectAs("FROMROLE", "TOKEN")
		signed, err := b.SignGet(t.Context(), "data/k", drivers.SignOptions{Expires: 24 * time.Hour})
		left := time.Until(signed.Expires) + credentialMargin
		if err != nil || !strings.Contains(signed.URL, "X-Amz-Security-Token=TOKEN") || left > role.session || left < role.session-time.Minute {
			t.Errorf("SignGet() with %+v = %+v, %v, want a URL with the role's token that expires shortly before the token", role, signed, err)
		}
	}
	cfg.Profile, cfg.RoleARN, cfg.Region = "", "", "eu-west-3"
	cfg.AccessKeyID, cfg.SecretAccessKey, cfg.SessionToken = "STATIC", "secret", "STATICTOKEN"
	connectAs("STATIC", "STATICTOKEN")
}

// TestRoleDenied checks that the error names the role, and not the key that may
// not assume it.
func TestRoleDenied(t *testing.T) {
	fakeSTS(t, http.StatusForbidden)
	_, err := Open(t.Context(), Config{Bucket: "b", Profile: "other", RoleARN: "arn:aws:iam::1:role/berth"})
	wantNoClaim(t, err, "Open")
	wantText(t, err, "s3.Config.RoleARN", "Open")
	wantText(t, err, "sts:AssumeRole", "Open")
}
