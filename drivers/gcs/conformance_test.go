package gcs

import (
	"context"
	"crypto/rand"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/memory"
)

// No case of the suite is left out. The server, with the proxy in front of it,
// does not do the following. Other tests cover that with doubles:
//
//	refuse two writes of an object within a second (429)   TestBusy
//	answer a failed precondition on an absent source       TestCompleteRefused
//	keep sources of a compose                              TestCompleteTogether, TestCompleteDropsSources
//	check storage classes and KMS keys                     TestClasses, TestComposeRequest
//	deny requests, and sign by IAM                         TestOpenRefused, TestSignByIAM, TestSignRefusedByIAM
//	issue tokens of other kinds                            TestMetadataServer, TestCredentialsFile,
//	                                                       TestDefaultCredentials, TestNoToken
//
// Soft delete and versioning are not tested: they cost money, and change no answer.
//
// TestConformance runs on fake-gcs-server behind a strict proxy. BERTH_TEST_GCS
// names a real bucket instead, for the Application Default Credentials. Each
// case has a separate prefix under test/, which the case empties at its end.
//
// Here pages are short, listings have three of them, trees have two levels, and races
// have few participants. TestLongConformance has pages as long as the service's, deeper
// trees, and more of everything.
func TestConformance(t *testing.T) {
	runSuite(t, 50, drivertest.Suite{Like: memory.GCS(), Keys: 110, Parts: 100, Workers: 4, Steps: 60})
}

// TestLongConformance runs the suite with listings of three pages and trees of
// three levels.
func TestLongConformance(t *testing.T) {
	if os.Getenv("BERTH_TEST_LONG") == "" {
		t.Skip("lists 2,100 keys and composes 1,100 parts: set BERTH_TEST_LONG=1 (or run make test-long)")
	}
	runSuite(t, maxResults, drivertest.Suite{Like: memory.GCS(), Keys: 2100, Parts: 1100})
}

// runSuite runs the suite with at most pageSize keys in a page of a listing, except on a
// real bucket, where some listings have more keys than the service puts into a page.
func runSuite(t *testing.T, pageSize int, suite drivertest.Suite) {
	t.Helper()
	if name := os.Getenv("BERTH_TEST_GCS"); name != "" {
		suite.Keys, suite.Workers, suite.Steps = max(suite.Keys, maxResults+10), 0, 0 // the defaults
		suite.New = func(t *testing.T) drivertest.Opener {
			open := opener(Config{Bucket: name, Prefix: "test/" + rand.Text()})
			t.Cleanup(func() { empty(t, open) })
			return open
		}
	} else {
		server := emulator.FakeGCS(t)
		suite.New = func(t *testing.T) drivertest.Opener {
			return opener(Config{
				Bucket: server.Bucket(t), Prefix: "some/prefix", Endpoint: server.Endpoint, CredentialsFile: server.CredentialsFile, pageSize: pageSize,
			})
		}
	}
	drivertest.Run(t, suite)
}

// opener returns a function that opens a bucket.
func opener(cfg Config) drivertest.Opener {
	return func(ctx context.Context) (drivers.Bucket, error) { return Open(ctx, cfg) }
}

// empty deletes all objects of a bucket.
func empty(t *testing.T, open drivertest.Opener) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	defer cancel()
	b, err := open(ctx)
	if err != nil {
		t.Fatalf("empty: %v", err)
	}
	defer b.Close()
	for u, err := range b.Uploads(ctx, "") {
		if err == nil {
			err = b.Abort(ctx, u)
		}
		if err != nil {
			t.Errorf("empty: %v", err)
		}
	}
	var keys []string
	for o, err := range b.List(ctx, "", "", 0) {
		if err != nil {
			t.Errorf("empty: %v", err)
		}
		keys = append(keys, o.Key)
	}
	if err := b.Delete(ctx, keys...); err != nil {
		t.Errorf("empty: %v", err)
	}
}

// TestEmpty checks that the suite leaves no objects in a paid bucket.
func TestEmpty(t *testing.T) {
	server := emulator.FakeGCS(t)
	open := opener(Config{Bucket: server.Bucket(t), Prefix: "test/x", Endpoint: server.Endpoint, CredentialsFile: server.CredentialsFile})
	b, err := open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	body := drivers.NewBody([]byte("text"))
	if _, err := b.Create(t.Context(), "k", body); err != nil {
		t.Fatal(err)
	}
	u, err := b.StartUpload(t.Context(), "data/k")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.PutPart(t.Context(), u, 1, body); err != nil {
		t.Fatal(err)
	}
	empty(t, open)
	for o, err := range b.List(t.Context(), "", "", 0) {
		t.Errorf("empty left %+v, %v", o, err)
	}
	for u, err := range b.Uploads(t.Context(), "") {
		t.Errorf("empty left %+v, %v", u, err)
	}
}

// TestPages counts the keys in the pages of listings.
func TestPages(t *testing.T) {
	server := emulator.FakeGCS(t)
	cfg := Config{Bucket: server.Bucket(t), Prefix: "some/prefix", Endpoint: server.Endpoint, CredentialsFile: server.CredentialsFile}
	drivertest.TestPages(t, `"name":`, http.DefaultTransport, func(through http.RoundTripper) drivers.Bucket {
		cfg.Transport = through
		b, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	})
}
