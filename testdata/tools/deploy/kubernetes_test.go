package deploy_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	strict "sigs.k8s.io/yaml"
)

// TestKubernetesTypes reads the objects of the example and of the chart's golden output
// into the types of Kubernetes. A field that a type lacks, or of another type, is an
// error.
func TestKubernetesTypes(t *testing.T) {
	files, err := filepath.Glob("../../../deploy/helm/testdata/*.golden.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("Glob = %q, %v, want golden output", files, err)
	}
	seen := make(map[string]bool)
	for _, name := range append(files, "../../../deploy/kubernetes/berth.yaml") {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for d := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data))); ; {
			doc, err := d.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			var kind struct{ APIVersion, Kind string }
			if err := strict.Unmarshal(doc, &kind); err != nil {
				t.Fatal(err)
			}
			object := objectOf(kind.APIVersion + " " + kind.Kind)
			if object == nil {
				t.Errorf("%s: no type for %s %s", name, kind.APIVersion, kind.Kind)
				continue
			}
			seen[kind.Kind] = true
			if err := strict.UnmarshalStrict(doc, object); err != nil {
				t.Errorf("%s: %s: %v", name, kind.Kind, err)
			}
		}
	}
	for _, kind := range []string{"Deployment", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy", "PodDisruptionBudget", "Service"} {
		if !seen[kind] {
			t.Errorf("found no %s", kind)
		}
	}
}

// objectOf returns an empty object of the type, or nil for a type that is not expected.
func objectOf(kind string) any {
	switch kind {
	case "v1 ConfigMap":
		return new(core.ConfigMap)
	case "v1 Service":
		return new(core.Service)
	case "v1 ServiceAccount":
		return new(core.ServiceAccount)
	case "apps/v1 Deployment":
		return new(apps.Deployment)
	case "autoscaling/v2 HorizontalPodAutoscaler":
		return new(autoscaling.HorizontalPodAutoscaler)
	case "batch/v1 CronJob":
		return new(batch.CronJob)
	case "networking.k8s.io/v1 Ingress":
		return new(networking.Ingress)
	case "networking.k8s.io/v1 NetworkPolicy":
		return new(networking.NetworkPolicy)
	case "monitoring.coreos.com/v1 ServiceMonitor":
		return new(serviceMonitor)
	case "policy/v1 PodDisruptionBudget":
		return new(policy.PodDisruptionBudget)
	}
	return nil
}

// serviceMonitor has the fields that the chart uses, by the reference of the Prometheus
// operator: https://prometheus-operator.dev/docs/api-reference/api/
type serviceMonitor struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata"`

	Spec struct {
		JobLabel          string             `json:"jobLabel"`
		Selector          meta.LabelSelector `json:"selector"`
		NamespaceSelector struct {
			MatchNames []string `json:"matchNames"`
		} `json:"namespaceSelector"`
		Endpoints []struct {
			Port     string `json:"port"`
			Path     string `json:"path"`
			Interval string `json:"interval"`
		} `json:"endpoints"`
	} `json:"spec"`
}
