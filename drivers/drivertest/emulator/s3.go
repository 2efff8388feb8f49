package emulator

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// S3 is a server that speaks the S3 protocol.
type S3 struct {
	Endpoint        string // http://127.0.0.1:port; buckets are in the path
	Region          string
	AccessKeyID     string
	SecretAccessKey string

	dir string // holds a directory for each bucket
}

// VersityGW starts versitygw behind a proxy that gives conditional deletes the
// semantics of Amazon S3: see strictS3.
func VersityGW(t testing.TB) *S3 {
	t.Helper()
	s := VersityGWAlone(t)
	s.Endpoint = newStrictS3(t, s.Endpoint)
	return s
}

// VersityGWAlone starts versitygw on a directory. Its keys are paths, so a key
// cannot be a directory of another key.
func VersityGWAlone(t testing.TB) *S3 {
	t.Helper()
	s := newS3()
	dir, addr := start(t, func(dir, addr string) command {
		return command{
			name: "versitygw",
			args: []string{
				"--port", addr, "--access", s.AccessKeyID, "--secret", s.SecretAccessKey, "--region", s.Region,
				"--quiet", "--keep-alive", "--health", "/health", "posix", dir,
			},
			ready: "http://" + addr + "/health",
		}
	})
	s.dir, s.Endpoint = dir, "http://"+addr
	return s
}

// MinIO starts MinIO on a directory, with a new key for SSE-KMS.
func MinIO(t testing.TB) *S3 {
	t.Helper()
	s := newS3()
	var key [32]byte
	rand.Read(key[:])
	dir, addr := start(t, func(dir, addr string) command {
		return command{
			name: "minio",
			args: []string{"server", dir, "--address", addr, "--console-address", freeAddr(t), "--quiet"},
			env: []string{
				"MINIO_ROOT_USER=" + s.AccessKeyID, "MINIO_ROOT_PASSWORD=" + s.SecretAccessKey,
				"MINIO_BROWSER=off", "MINIO_UPDATE=off",
				"MINIO_KMS_SECRET_KEY=" + MinIOKey + ":" + base64.StdEncoding.EncodeToString(key[:]),
			},
			// MinIO's health check succeeds before requests are served.
			ready: "http://" + addr + "/", status: http.StatusForbidden,
		}
	})
	s.dir, s.Endpoint = dir, "http://"+addr
	return s
}

// MinIOKey is the id of MinIO's key for SSE-KMS.
const MinIOKey = "berth-test"

// newS3 returns a server with new credentials.
func newS3() *S3 {
	return &S3{Region: "us-east-1", AccessKeyID: "berth-test", SecretAccessKey: rand.Text()}
}

// Bucket creates an empty bucket and returns its name. Both servers use a
// directory as a bucket.
func (s *S3) Bucket(t testing.TB) string {
	t.Helper()
	name := "test-" + strings.ToLower(rand.Text())
	if err := os.Mkdir(filepath.Join(s.dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}
