package gcs_test

import (
	"context"
	"crypto/rand"
	"os"
	"testing"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/drivertest"
	"github.com/berthhq/berth/drivers/drivertest/emulator"
	"github.com/berthhq/berth/drivers/gcs"
	"github.com/berthhq/berth/drivers/memory"
)

// No case of the suite is left out. What the server and the proxy in front of it
// do not show, and what stands for it:
//
//	one write of an object a second (429)   the proxy does not count: TestBusy
//	404 or 412 to a precondition on what    either is taken: on DeleteIf and Replace here,
//	is not there                            on a compose in TestCompleteRefused
//	sources that a compose leaves           the proxy deletes them all: TestCompleteTogether
//	storage classes and KMS keys            the server only notes them: TestClasses and
//	                                        TestComposeRequest look at what is asked for
//	IAM roles, signBlob                     the account may do everything: TestOpenRefused (403),
//	                                        TestSignByIAM
//	metadata server, workload identity      the SDK's own business
//	soft delete and object versioning       they cost money, and change no answer
//
// TestConformance runs on fake-gcs-server behind a strict proxy. BERTH_TEST_GCS
// names a real bucket instead, reached by the Application Default Credentials;
// what the tests leave there lies under test/.
func TestConformance(t *testing.T) {
	// Pages of 1000 and trees of three levels; more takes the server minutes.
	suite := drivertest.Suite{Like: memory.GCS(), Keys: 2100, Parts: 1100}
	if name := os.Getenv("BERTH_TEST_GCS"); name != "" {
		suite.New = func(*testing.T) drivertest.Opener {
			return opener(gcs.Config{Bucket: name, Prefix: "test/" + rand.Text()})
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
