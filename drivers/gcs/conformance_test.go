package gcs_test

import (
	"context"
	"crypto/rand"
	"os"
	"testing"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/gcs"
	"github.com/berthhq/berth/drivers/memory"
)

// No case of the suite is left out. The following behavior is not shown by the
// server and the proxy in front of it. The right column names what covers it:
//
//	one write of an object a second (429)   the proxy does not count: TestBusy
//	404 or 412 to a precondition on what    either is taken: on DeleteIf and Replace here,
//	is not there                            on a compose in TestCompleteRefused
//	sources that a compose leaves           the proxy deletes them all: TestCompleteTogether
//	storage classes and KMS keys            the server only notes them: TestClasses and
//	                                        TestComposeRequest check the requests
//	IAM roles, signBlob                     the account may do everything: TestOpenRefused (403),
//	                                        TestSignByIAM, TestSignRefusedByIAM
//	metadata server, workload identity      there is none: TestMetadataServer, TestCredentialsFile,
//	                                        TestDefaultCredentials, TestNoToken
//	soft delete and object versioning       they cost money, and change no answer
//
// TestConformance runs on fake-gcs-server behind a strict proxy. BERTH_TEST_GCS
// names a real bucket instead, for the Application Default Credentials. Each
// case has a separate prefix under test/, which the case empties at its end.
func TestConformance(t *testing.T) {
	// Pages of 1000 and trees of three levels; more takes the server minutes.
	suite := drivertest.Suite{Like: memory.GCS(), Keys: 2100, Parts: 1100}
	if name := os.Getenv("BERTH_TEST_GCS"); name != "" {
		suite.New = func(t *testing.T) drivertest.Opener {
			open := opener(gcs.Config{Bucket: name, Prefix: "test/" + rand.Text()})
			t.Cleanup(func() { empty(t, open) })
			return open
		}
	} else {
		server := emulator.FakeGCS(t)
		suite.New = func(t *testing.T) drivertest.Opener {
			return opener(gcs.Config{Bucket: server.Bucket(t), Prefix: "some/prefix", Endpoint: server.Endpoint, CredentialsFile: server.CredentialsFile})
		}
	}
	drivertest.Run(t, suite)
}

func opener(cfg gcs.Config) drivertest.Opener {
	return func(ctx context.Context) (drivers.Bucket, error) { return gcs.Open(ctx, cfg) }
}

// empty deletes all objects of a bucket.
func empty(t *testing.T, open drivertest.Opener) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	defer cancel()
	b, err := open(ctx)
	if err != nil {
		t.Fatalf("emptying the bucket: %v", err)
	}
	defer b.Close()
	for u, err := range b.Uploads(ctx, "") {
		if err == nil {
			err = b.Abort(ctx, u)
		}
		if err != nil {
			t.Errorf("emptying the bucket: %v", err)
		}
	}
	var keys []string
	for o, err := range b.List(ctx, "", "") {
		if err != nil {
			t.Errorf("emptying the bucket: %v", err)
		}
		keys = append(keys, o.Key)
	}
	if err := b.Delete(ctx, keys...); err != nil {
		t.Errorf("emptying the bucket: %v", err)
	}
}

// TestEmpty checks that the suite leaves no objects in a paid bucket.
func TestEmpty(t *testing.T) {
	server := emulator.FakeGCS(t)
	open := opener(gcs.Config{Bucket: server.Bucket(t), Prefix: "test/x", Endpoint: server.Endpoint, CredentialsFile: server.CredentialsFile})
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
	for o, err := range b.List(t.Context(), "", "") {
		t.Errorf("after empty there is %+v, %v", o, err)
	}
	for u, err := range b.Uploads(t.Context(), "") {
		t.Errorf("after empty there is %+v, %v", u, err)
	}
}
