package system

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/berthhq/berth/cmd/berth/config"
)

// TestHelmConfig loads the configurations in the golden output of the chart, with their
// variables and secrets, and compares the pods with them.
func TestHelmConfig(t *testing.T) {
	for name, driver := range map[string]string{"aws": "s3", "gcs": "gcs", "azure": "azure", "keys": "s3"} {
		t.Run(name, func(t *testing.T) {
			objects := manifests(t, filepath.Join("helm", "testdata", name+".golden.yaml"))
			pod := objects["Deployment"].Spec.Template.Spec
			dir := t.TempDir()
			for i, m := range pod.Containers[0].VolumeMounts {
				for _, item := range pod.Volumes[i].Secret.Items {
					writeSecret(t, filepath.Join(dir, m.MountPath), item.Path)
				}
			}
			for _, v := range pod.Containers[0].Env {
				if strings.HasSuffix(v.Name, "_FILE") {
					v.Value = filepath.Join(dir, v.Value)
				}
				t.Setenv(v.Name, v.Value)
			}
			file := filepath.Join(dir, "berth.yaml")
			if err := os.WriteFile(file, []byte(objects["ConfigMap"].Data[filepath.Base(configFile)]), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := config.Load(file, pflag.NewFlagSet("berth", pflag.ContinueOnError))
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Storage.Driver != driver || name == "keys" && cfg.Storage.S3.SecretAccessKey != "secret" {
				t.Errorf("storage.driver = %s, want %s and the mounted secret", cfg.Storage.Driver, driver)
			}
			checkPod(t, objects, cfg)
			if ports := pod.Containers[0].Ports; len(ports) > 1 && !strings.HasSuffix(cfg.Admin.Address, ":"+strconv.Itoa(ports[1].ContainerPort)) {
				t.Errorf("admin.listen = %s, want the port %s of the container, %d", cfg.Admin.Address, ports[1].Name, ports[1].ContainerPort)
			}
			if got, want := strings.Join(pod.Containers[0].Args, " "), "serve --config "+configFile; got != want || !pod.Containers[0].SecurityContext.ReadOnlyRootFilesystem {
				t.Errorf("arguments = %q, want %q and a read-only file system", got, want)
			}
		})
	}
}

// writeSecret writes the file of a mounted secret.
func writeSecret(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestHelmSelectors checks that the Deployment, the Service and the PodDisruptionBudget
// select the pods, and no other object's.
func TestHelmSelectors(t *testing.T) {
	objects := manifests(t, filepath.Join("helm", "testdata", "aws.golden.yaml"))
	selector := map[string]string{
		"app.kubernetes.io/name": "berth", "app.kubernetes.io/instance": "registry", "app.kubernetes.io/component": "registry",
	}
	for kind, wrap := range map[string]bool{"Deployment": true, "Service registry-berth": false, "Service registry-berth-metrics": false, "PodDisruptionBudget": true} {
		got := struct{ MatchLabels map[string]string }{}
		var err error
		if wrap {
			err = json.Unmarshal(objects[kind].Spec.Selector, &got)
		} else {
			err = json.Unmarshal(objects[kind].Spec.Selector, &got.MatchLabels)
		}
		if diff := cmp.Diff(selector, got.MatchLabels); err != nil || diff != "" {
			t.Errorf("selector of the %s: %v (-want +got):\n%s", kind, err, diff)
		}
	}
	labels := objects["Deployment"].Spec.Template.Metadata.Labels
	for name, value := range selector {
		if labels[name] != value {
			t.Errorf("label %s of the pods = %q, want %q", name, labels[name], value)
		}
	}
	if got, want := objects["Service registry-berth"].Spec.Ports[0].TargetPort, objects["Deployment"].Spec.Template.Spec.Containers[0].Ports[0].Name; got != want {
		t.Errorf("target port of the Service = %q, want %q", got, want)
	}
	account := objects["ServiceAccount"].Metadata.Name
	if got := objects["Deployment"].Spec.Template.Spec.ServiceAccountName; got != account {
		t.Errorf("service account of the pods = %q, want %q", got, account)
	}
}
