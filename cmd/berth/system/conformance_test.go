package system

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// TestConformance runs the conformance suite of the OCI Distribution specification
// (https://github.com/opencontainers/distribution-spec/tree/main/conformance) against a
// directory. No case may fail or be skipped.
func TestConformance(t *testing.T) {
	t.Parallel()
	conforms(t, nil)
}

// TestLongConformance runs the suite against each store.
func TestLongConformance(t *testing.T) {
	skipUnlessLong(t, "conformance on S3, GCS and Azure")
	for _, store := range measuredStores() {
		t.Run(store.name, func(t *testing.T) {
			env, _ := store.start(t)
			conforms(t, env)
		})
	}
}

// conforms runs the suite against a berth with these settings. The development version
// wants the header Docker-Content-Digest in the last response to a GET of a blob, which a
// store that was redirected to cannot send. It runs without redirects.
func conforms(t *testing.T, env []string) {
	t.Helper()
	checkConformance(t, serving(t, t.TempDir(), env...).url, "1.1")
	env = append(env, "BERTH_REDIRECT_DEFAULT=direct")
	checkConformance(t, serving(t, t.TempDir(), env...).url, "dev")
}

// checkConformance runs the suite for one version of the specification. A case is
// disabled if it is not part of that version.
func checkConformance(t *testing.T, service, version string) {
	t.Helper()
	u, err := url.Parse(service)
	if err != nil {
		t.Fatal(err)
	}
	results := t.TempDir()
	suite := exec.CommandContext(t.Context(), filepath.Join(toolsDir(t), "conformance"))
	suite.Dir = results
	suite.Env = append(os.Environ(),
		"OCI_REGISTRY="+u.Host,
		"OCI_TLS=disabled",
		"OCI_VERSION="+version,
		"OCI_RESULTS_DIR="+results,
	)
	out, err := suite.CombinedOutput()
	if err != nil {
		t.Fatalf("the suite failed: %v\n%s", err, out)
	}
	totals := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^ +(Pass|Skip|FAIL|Error|Disabled)\.+: +(\d+)$`).FindAllStringSubmatch(string(out), -1) {
		totals[m[1]] = m[2]
	}
	if totals["Pass"] == "" || totals["Skip"] != "0" || totals["FAIL"] != "0" || totals["Error"] != "0" || version == "dev" && totals["Disabled"] != "0" {
		t.Errorf("version %s: the results are %v, want all passed:\n%s", version, totals, out)
	}
}
