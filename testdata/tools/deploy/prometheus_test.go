package deploy_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

const deployDir = "../../../deploy/"

// metrics returns the labels of each metric in the table of deploy/README.md, which is
// generated from berth's code. The series of a histogram have names of their own.
func metrics(t *testing.T) map[string][]string {
	t.Helper()
	readme, err := os.ReadFile(deployDir + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{"up": nil}
	for _, m := range regexp.MustCompile("(?m)^\\| `(berth_[a-z_]+)` \\| (\\w+) \\| ([a-z_, ]*) \\|").FindAllStringSubmatch(string(readme), -1) {
		labels := strings.FieldsFunc(m[3], func(r rune) bool { return r == ',' || r == ' ' })
		if m[2] != "histogram" {
			found[m[1]] = labels
			continue
		}
		found[m[1]+"_bucket"] = append(slices.Clone(labels), "le")
		found[m[1]+"_sum"], found[m[1]+"_count"] = labels, labels
	}
	if len(found) < 10 {
		t.Fatalf("found %d metrics in deploy/README.md, want its table", len(found)-1)
	}
	return found
}

// checkExpr fails the test unless the expression is valid, and all its metrics exist and
// have the labels that it names.
func checkExpr(t *testing.T, where, text string, known map[string][]string) {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		t.Errorf("%s: %s: %v", where, text, err)
		return
	}
	var labels []string // of all metrics of the expression
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if v, ok := node.(*parser.VectorSelector); ok {
			own, exists := known[v.Name]
			if !exists {
				t.Errorf("%s: the metric %s does not exist", where, v.Name)
			}
			own = append(slices.Clone(own), "__name__", "job", "instance") // those of the scrape
			for _, m := range v.LabelMatchers {
				if !slices.Contains(own, m.Name) {
					t.Errorf("%s: %s has no label %s", where, v.Name, m.Name)
				}
			}
			labels = append(labels, own...)
		}
		return nil
	})
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if a, ok := node.(*parser.AggregateExpr); ok {
			for _, name := range a.Grouping {
				if !slices.Contains(labels, name) {
					t.Errorf("%s: no metric of %s has the label %s", where, a, name)
				}
			}
		}
		return nil
	})
}

// TestAlerts parses the rules, and checks their metrics, and that deploy/README.md
// explains each alert.
func TestAlerts(t *testing.T) {
	data, err := os.ReadFile(deployDir + "prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []struct {
				Alert       string            `json:"alert"`
				Expr        string            `json:"expr"`
				For         string            `json:"for"`
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.UnmarshalStrict(data, &rules); err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(deployDir + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	known := metrics(t)
	for _, r := range rules.Groups[0].Rules {
		checkExpr(t, r.Alert, r.Expr, known)
		if d, err := time.ParseDuration(r.For); err != nil || d <= 0 || r.Annotations["summary"] == "" || r.Labels["severity"] == "" {
			t.Errorf("%s: for = %q, %v; want a duration, a severity and a summary", r.Alert, r.For, err)
		}
		if !strings.Contains(string(readme), "**"+r.Alert+"**") {
			t.Errorf("deploy/README.md does not explain **%s**", r.Alert)
		}
	}
}

// TestDashboard checks the metrics of each panel of the dashboard, and that panels do not
// overlap.
func TestDashboard(t *testing.T) {
	data, err := os.ReadFile(deployDir + "grafana/berth.json")
	if err != nil {
		t.Fatal(err)
	}
	type position struct{ X, Y, W, H int }
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos position
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(data, &dashboard); err != nil {
		t.Fatal(err)
	}
	known := metrics(t)
	used := string(data)
	for i, p := range dashboard.Panels {
		for _, target := range p.Targets {
			checkExpr(t, p.Title, strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*").Replace(target.Expr), known)
		}
		for _, q := range dashboard.Panels[:i] {
			a, b := p.GridPos, q.GridPos
			if p.ID == q.ID || a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("the panels %q and %q have the same id or place", q.Title, p.Title)
			}
		}
	}
	for name := range known {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if name != "up" && !strings.Contains(used, base) {
			t.Errorf("the dashboard has no panel for %s", base)
		}
	}
}
