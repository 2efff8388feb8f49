package system

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/berthhq/berth/cmd/berth/config"
)

// configFile is the path of the configuration in the examples.
const configFile = "/etc/berth/berth.yaml"

// startExample runs berth with the arguments and the configuration of an example. Only
// the address and the store are different.
func startExample(t *testing.T, args []string, configuration string) (*process, *config.Config) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "berth.yaml")
	if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	if len(args) == 0 || args[0] != "serve" {
		t.Fatalf("the arguments are %q, want serve first", args)
	}
	rest := strings.Fields(strings.ReplaceAll(strings.Join(args[1:], " "), configFile, file))
	cfg, err := config.Load(file, pflag.NewFlagSet("berth", pflag.ContinueOnError))
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(t.TempDir(), append(cleanEnv(), "BERTH_STORAGE_DRIVER=filesystem"), rest...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	return p, cfg
}

// TestSystemdUnit runs the command of the unit.
func TestSystemdUnit(t *testing.T) {
	t.Parallel()
	unit, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", "systemd", "berth.service"))
	if err != nil {
		t.Fatal(err)
	}
	settings := make(map[string]string)
	for line := range strings.Lines(string(unit)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			settings[name] = value
		}
	}
	command := strings.Fields(settings["ExecStart"])
	p, cfg := startExample(t, command[1:], "{}")
	want(t, p, http.StatusOK, http.MethodGet, "/v2/", nil)
	if stop, err := time.ParseDuration(settings["TimeoutStopSec"]); err != nil || stop <= cfg.Server.Shutdown {
		t.Errorf("TimeoutStopSec = %v, %v, want more than limits.shutdown, which is %v", stop, err, cfg.Server.Shutdown)
	}
}

// manifest is the part of an object of Kubernetes that the tests check.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		Selector json.RawMessage
		Ports    []struct{ TargetPort string }
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     struct {
				ServiceAccountName            string
				TerminationGracePeriodSeconds int
				Containers                    []struct {
					Args  []string
					Env   []struct{ Name, Value string }
					Ports []struct {
						Name          string
						ContainerPort int
					}
					SecurityContext                             struct{ ReadOnlyRootFilesystem bool }
					StartupProbe, ReadinessProbe, LivenessProbe probe

					Lifecycle struct {
						PreStop struct{ Sleep struct{ Seconds int } }
					}
					Resources    struct{ Limits struct{ Memory string } }
					VolumeMounts []struct{ Name, MountPath string }
				}
				Volumes []struct {
					Name      string
					ConfigMap struct{ Name string }
					Secret    struct{ Items []struct{ Key, Path string } }
				}
			}
		}
	}
}

type probe struct {
	HTTPGet          struct{ Path, Port string }
	PeriodSeconds    int
	FailureThreshold int
}

// TestKubernetesManifest runs the command of the Deployment with the configuration of
// the ConfigMap, and sends it the probes.
func TestKubernetesManifest(t *testing.T) {
	t.Parallel()
	objects := manifests(t, filepath.Join("kubernetes", "berth.yaml"))
	container := objects["Deployment"].Spec.Template.Spec.Containers[0]
	p, cfg := startExample(t, container.Args, objects["ConfigMap"].Data[filepath.Base(configFile)])
	for _, probe := range []probe{container.StartupProbe, container.ReadinessProbe, container.LivenessProbe} {
		want(t, p, http.StatusOK, http.MethodGet, probe.HTTPGet.Path, nil)
	}
	checkPod(t, objects, cfg)
}

// checkPod compares the pod of a Deployment with what berth needs by its configuration.
func checkPod(t *testing.T, objects map[string]manifest, cfg *config.Config) {
	t.Helper()
	container := objects["Deployment"].Spec.Template.Spec.Containers[0]
	port := container.Ports[0]
	for name, c := range map[string]struct {
		probe
		path string
	}{
		"startup":   {container.StartupProbe, "/healthz"},
		"readiness": {container.ReadinessProbe, "/readyz"},
		"liveness":  {container.LivenessProbe, "/healthz"},
	} {
		if c.HTTPGet.Path != c.path || c.HTTPGet.Port != port.Name {
			t.Errorf("%s probe: path %q at port %q, want %q at %q", name, c.HTTPGet.Path, c.HTTPGet.Port, c.path, port.Name)
		}
	}
	if !strings.HasSuffix(cfg.Address, ":"+strconv.Itoa(port.ContainerPort)) {
		t.Errorf("listen = %s, want the port of the container, %d", cfg.Address, port.ContainerPort)
	}

	pod := objects["Deployment"].Spec.Template.Spec
	grace := time.Duration(pod.TerminationGracePeriodSeconds-container.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	if least := cfg.Server.Drain + cfg.Server.Shutdown; grace <= least {
		t.Errorf("the pod has %v from SIGTERM to SIGKILL, want more than limits.drain and limits.shutdown, %v", grace, least)
	}
	mebibytes, err := strconv.ParseInt(strings.TrimSuffix(container.Resources.Limits.Memory, "Mi"), 10, 64)
	if least := cfg.MemoryLimit() * 5 / 4; err != nil || mebibytes<<20 < least {
		t.Errorf("the pod has %s of memory, %v, want at least %d bytes, a quarter more than berth's limit", container.Resources.Limits.Memory, err, least)
	}
}

// TestKubernetesNames checks that the objects refer to each other by the right names.
func TestKubernetesNames(t *testing.T) {
	objects := manifests(t, filepath.Join("kubernetes", "berth.yaml"))
	deployment, service, budget := objects["Deployment"].Spec, objects["Service"].Spec, objects["PodDisruptionBudget"].Spec
	pod := deployment.Template.Spec
	mount, volume := pod.Containers[0].VolumeMounts[0], pod.Volumes[0]
	for _, tc := range []struct{ name, got, want string }{
		{"selector of the Deployment", string(deployment.Selector), `{"matchLabels":{"app":"berth"}}`},
		{"selector of the PodDisruptionBudget", string(budget.Selector), `{"matchLabels":{"app":"berth"}}`},
		{"selector of the Service", string(service.Selector), `{"app":"berth"}`},
		{"label of the pod", deployment.Template.Metadata.Labels["app"], "berth"},
		{"target port of the Service", service.Ports[0].TargetPort, pod.Containers[0].Ports[0].Name},
		{"volume of the mount", mount.Name, volume.Name},
		{"path of the mount", mount.MountPath, filepath.Dir(configFile)},
		{"ConfigMap of the volume", volume.ConfigMap.Name, objects["ConfigMap"].Metadata.Name},
		{"ServiceAccount of the pod", pod.ServiceAccountName, objects["ServiceAccount"].Metadata.Name},
	} {
		if tc.got != tc.want {
			t.Errorf("%s = %q, want %q", tc.name, tc.got, tc.want)
		}
	}
}

// manifests returns the objects in a file of deploy by their kinds, and by their kinds
// and names.
func manifests(t *testing.T, name string) map[string]manifest {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	objects := make(map[string]manifest)
	for d := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var tree any
		err := d.Decode(&tree)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(tree)
		if err != nil {
			t.Fatal(err)
		}
		var m manifest
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		objects[m.Kind] = m
		objects[m.Kind+" "+m.Metadata.Name] = m
	}
}
