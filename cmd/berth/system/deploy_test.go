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

// configFile is where the examples have the configuration.
const configFile = "/etc/berth/berth.yaml"

// startAs runs berth with the arguments of an example, and with this
// configuration in its file. Only the address and the store are of the test.
func startAs(t *testing.T, args []string, configuration string) (*process, *config.Config) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "berth.yaml")
	if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	if len(args) == 0 || args[0] != "serve" {
		t.Fatalf("the arguments are %q, want serve, and more", args)
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

// TestSystemdUnit runs what the unit runs.
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
	p, cfg := startAs(t, command[1:], "{}")
	want(t, p, http.StatusOK, http.MethodGet, "/v2/", nil)
	if stop, err := time.ParseDuration(settings["TimeoutStopSec"]); err != nil || stop <= cfg.Server.Shutdown {
		t.Errorf("TimeoutStopSec is %v, %v, want more than limits.shutdown, %v", stop, err, cfg.Server.Shutdown)
	}
}

// manifest is what of Kubernetes' objects this test looks at.
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
					Ports []struct {
						Name          string
						ContainerPort int
					}
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

// TestKubernetesManifest runs what the Deployment runs, with the ConfigMap's
// configuration, and follows the names from object to object.
func TestKubernetesManifest(t *testing.T) {
	t.Parallel()
	objects := manifests(t)
	deployment, service, budget := objects["Deployment"].Spec, objects["Service"].Spec, objects["PodDisruptionBudget"].Spec
	pod := deployment.Template.Spec
	container := pod.Containers[0]
	p, cfg := startAs(t, container.Args, objects["ConfigMap"].Data[filepath.Base(configFile)])

	port := container.Ports[0]
	for what, c := range map[string]struct {
		probe
		path string
	}{
		"startup":   {container.StartupProbe, "/healthz"},
		"readiness": {container.ReadinessProbe, "/readyz"},
		"liveness":  {container.LivenessProbe, "/healthz"},
	} {
		if c.HTTPGet.Path != c.path || c.HTTPGet.Port != port.Name {
			t.Errorf("the %s probe asks %q at port %q, want %q at %q", what, c.HTTPGet.Path, c.HTTPGet.Port, c.path, port.Name)
		}
		want(t, p, http.StatusOK, http.MethodGet, c.HTTPGet.Path, nil)
	}
	if !strings.HasSuffix(cfg.Address, ":"+strconv.Itoa(port.ContainerPort)) {
		t.Errorf("berth listens on %s, and the container's port is %d", cfg.Address, port.ContainerPort)
	}
	if name := service.Ports[0].TargetPort; name != port.Name {
		t.Errorf("the service asks port %q, and the container's is %q", name, port.Name)
	}
	for _, c := range []struct{ what, got, want string }{
		{"the deployment", string(deployment.Selector), `{"matchLabels":{"app":"berth"}}`},
		{"the disruption budget", string(budget.Selector), `{"matchLabels":{"app":"berth"}}`},
		{"the service", string(service.Selector), `{"app":"berth"}`},
		{"the label app", deployment.Template.Metadata.Labels["app"], "berth"},
	} {
		if c.got != c.want {
			t.Errorf("%s is for %s, want %s", c.what, c.got, c.want)
		}
	}
	mount, volume := container.VolumeMounts[0], pod.Volumes[0]
	if mount.Name != volume.Name || mount.MountPath != filepath.Dir(configFile) || volume.ConfigMap.Name != objects["ConfigMap"].Metadata.Name ||
		pod.ServiceAccountName != objects["ServiceAccount"].Metadata.Name {
		t.Errorf("the pod mounts %+v of %+v and is %q, and there is %+v", mount, volume, pod.ServiceAccountName, objects)
	}

	stop := time.Duration(pod.TerminationGracePeriodSeconds-container.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	if stop <= cfg.Server.Drain+cfg.Server.Shutdown {
		t.Errorf("the pod has %v from SIGTERM to SIGKILL, want more than limits.drain and limits.shutdown, %v", stop, cfg.Server.Drain+cfg.Server.Shutdown)
	}
	mebibytes, err := strconv.ParseInt(strings.TrimSuffix(container.Resources.Limits.Memory, "Mi"), 10, 64)
	if least := cfg.MemoryLimit(); err != nil || mebibytes<<20 < least+least/4 {
		t.Errorf("the pod has %s of memory, %v, want a quarter more than the %d bytes that berth bounds itself by", container.Resources.Limits.Memory, err, least)
	}
}

// manifests are the objects of the example, by kind.
func manifests(t *testing.T) map[string]manifest {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", "kubernetes", "berth.yaml"))
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
	}
}
