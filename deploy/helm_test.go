package deploy_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden output of Helm")

const chartHash = "helm/testdata/chart.sha256"

// TestHelm lints the chart, and compares the output of `helm template` with the golden
// output of each file of values. Its hash tells TestChartHash that the output is
// current.
func TestHelm(t *testing.T) {
	helm, err := exec.LookPath(filepath.Join("..", ".tools", "bin", "helm"))
	if os.Getenv("BERTH_TEST_HELM") == "" || err != nil {
		t.Skip("NOT TESTED: the chart with Helm, which takes minutes to build; make helm runs it (BERTH_TEST_HELM=1)")
	}
	run := func(args ...string) []byte {
		cmd := exec.Command(helm, args...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("helm %q = %v\n%s%s", args, err, out, &stderr)
		}
		return out
	}
	for _, values := range chartValues(t) {
		run("lint", "--strict", "helm/berth", "--values", values)
		got := run("template", "registry", "helm/berth", "--namespace", "registry", "--values", values)
		golden := strings.Replace(values, ".values.", ".golden.", 1)
		if *update {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", golden, diff)
		}
	}
	for values, want := range map[string]string{
		"config.storage.driver=memory":                  "config/storage/driver",
		"config.storage.s3.secret_access_key=plain":     "config/storage/s3",
		"secrets[0].variable=X,secrets[0].secret=s":     "secrets/0",
		"image.digest=sha256:1":                         "image/digest",
		"replica=4":                                     "replica",
		"networkPolicy.enabled=true,replicas=0":         "replicas",
		"config.listen=null,config.storage.driver=s3":   "listen",
		"podDisruptionBudget.maxUnavailable=many":       "podDisruptionBudget/maxUnavailable",
		"serviceAccount.annotations.a=b,service.port=0": "service/port",
	} {
		out, err := exec.Command(helm, "template", "registry", "helm/berth", "--set", values).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("helm template --set %s = %v, want an error about %s\n%s", values, err, want, out)
		}
	}
	if *update {
		if err := os.WriteFile(chartHash, []byte(hashOfChart(t)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestChartHash checks that the golden output is that of the chart as it is now.
func TestChartHash(t *testing.T) {
	t.Parallel()
	got, err := os.ReadFile(chartHash)
	if err != nil {
		t.Fatal(err)
	}
	if want := hashOfChart(t); string(got) != want {
		t.Errorf("%s is not that of the chart: run make helm UPDATE=-update, and review the differences", chartHash)
	}
}

// chartValues returns the files of values that have golden output.
func chartValues(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("helm/testdata/*.values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("Glob = %q, %v, want files of values", files, err)
	}
	return files
}

// hashOfChart returns a hash of the chart and of the files in helm/testdata.
func hashOfChart(t *testing.T) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir("helm", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.ToSlash(name) == chartHash {
			return err
		}
		data, err := os.ReadFile(name)
		sum := sha256.Sum256(data)
		h.Write([]byte(filepath.ToSlash(name)))
		h.Write(sum[:])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil)) + "\n"
}
