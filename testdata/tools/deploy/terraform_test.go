package deploy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

const terraformDir = "../../../deploy/terraform"

// module is a module of Terraform, as far as it can be checked without its provider.
type module struct {
	dir      string
	declared map[string]bool           // "var.bucket", "local.policy", "aws_s3_bucket.blobs", "data.x.y"
	locals   map[string]hcl.Expression // by name
	used     map[string]hcl.Range      // references, in the same form
}

func readModule(t *testing.T, dir string) *module {
	t.Helper()
	m := &module{dir, make(map[string]bool), make(map[string]hcl.Expression), make(map[string]hcl.Range)}
	files, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %q, %v, want files of Terraform", dir, files, err)
	}
	parser := hclparse.NewParser()
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := hclwrite.Format(text); string(got) != string(text) {
			t.Errorf("%s is not formatted; run terraform fmt, or tofu fmt", name)
		}
		f, diags := parser.ParseHCL(text, name)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		m.read(f.Body.(*hclsyntax.Body))
	}
	return m
}

func (m *module) read(body *hclsyntax.Body) {
	for _, b := range body.Blocks {
		switch b.Type {
		case "variable":
			m.declared["var."+b.Labels[0]] = true
		case "resource":
			m.declared[strings.Join(b.Labels, ".")] = true
		case "data":
			m.declared["data."+strings.Join(b.Labels, ".")] = true
		case "locals":
			for name, a := range b.Body.Attributes {
				m.declared["local."+name] = true
				m.locals[name] = a.Expr
			}
		}
		if b.Type != "terraform" {
			m.references(b.Body)
		}
	}
}

// references records what the expressions of a block refer to.
func (m *module) references(body *hclsyntax.Body) {
	for _, a := range body.Attributes {
		for _, traversal := range a.Expr.Variables() {
			names := []string{traversal.RootName()}
			for _, step := range traversal[1:] {
				if attribute, ok := step.(hcl.TraverseAttr); ok {
					names = append(names, attribute.Name)
				}
			}
			n := 2
			if names[0] == "data" {
				n = 3
			}
			if len(names) >= n {
				m.used[strings.Join(names[:n], ".")] = a.SrcRange
			}
		}
	}
	for _, b := range body.Blocks {
		m.references(b.Body)
	}
}

// TestTerraform parses each module, and checks that it is formatted, that everything it
// refers to exists, and that it uses all its variables.
func TestTerraform(t *testing.T) {
	for _, name := range []string{"aws", "google", "azure"} {
		t.Run(name, func(t *testing.T) {
			m := readModule(t, filepath.Join(terraformDir, name))
			for reference, where := range m.used {
				root, _, _ := strings.Cut(reference, ".")
				switch root {
				case "path", "each", "encryption": // of Terraform, and of the dynamic block
				default:
					if !m.declared[reference] {
						t.Errorf("%s: %s does not exist", where, reference)
					}
				}
			}
			for name := range m.declared {
				if _, ok := m.used[name]; !ok && strings.HasPrefix(name, "var.") {
					t.Errorf("%s is never used", name)
				}
			}
		})
	}
}

// local returns the value of a local, which may use files and variables.
func (m *module) local(t *testing.T, name string, variables map[string]cty.Value) cty.Value {
	t.Helper()
	file := function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			text, err := os.ReadFile(args[0].AsString())
			return cty.StringVal(string(text)), err
		},
	})
	variables["path"] = cty.ObjectVal(map[string]cty.Value{"module": cty.StringVal(m.dir)})
	value, diags := m.locals[name].Value(&hcl.EvalContext{
		Variables: variables,
		Functions: map[string]function.Function{"file": file, "replace": stdlib.ReplaceFunc, "jsondecode": stdlib.JSONDecodeFunc},
	})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return value
}

// TestTerraformPolicy evaluates the permissions on Amazon S3, which the module reads from
// the example in deploy/s3.
func TestTerraformPolicy(t *testing.T) {
	m := readModule(t, filepath.Join(terraformDir, "aws"))
	policy := m.local(t, "policy", map[string]cty.Value{
		"var": cty.ObjectVal(map[string]cty.Value{"bucket": cty.StringVal("my-blobs")}),
		"data": cty.ObjectVal(map[string]cty.Value{"aws_partition": cty.ObjectVal(map[string]cty.Value{
			"current": cty.ObjectVal(map[string]cty.Value{"partition": cty.StringVal("aws-cn")}),
		})}),
	})
	want := map[string]string{"Objects": "arn:aws-cn:s3:::my-blobs/*", "Bucket": "arn:aws-cn:s3:::my-blobs", "Settings": "arn:aws-cn:s3:::my-blobs"}
	statements := policy.GetAttr("Statement")
	for it := statements.ElementIterator(); it.Next(); {
		_, s := it.Element()
		sid, resource := s.GetAttr("Sid").AsString(), s.GetAttr("Resource").AsString()
		if want[sid] != resource {
			t.Errorf("statement %s is for %s, want %q", sid, resource, want[sid])
		}
		delete(want, sid)
	}
	if len(want) != 0 {
		t.Errorf("the policy lacks the statements %v", want)
	}
}

// TestTerraformLocals evaluates what the modules read from the other examples.
func TestTerraformLocals(t *testing.T) {
	aws := readModule(t, filepath.Join(terraformDir, "aws")).local(t, "lifecycle", map[string]cty.Value{})
	rules := aws.GetAttr("Rules").AsValueSlice()
	if days, _ := rules[0].GetAttr("AbortIncompleteMultipartUpload").GetAttr("DaysAfterInitiation").AsBigFloat().Int64(); days != 9 {
		t.Errorf("uploads are aborted after %d days, want 9", days)
	}
	azure := readModule(t, filepath.Join(terraformDir, "azure"))
	if actions := azure.local(t, "role", map[string]cty.Value{}).GetAttr("DataActions").LengthInt(); actions != 3 {
		t.Errorf("the role has %d data actions, want 3", actions)
	}
	if days, _ := azure.local(t, "lifecycle", map[string]cty.Value{}).GetAttr("version").GetAttr("delete").GetAttr("daysAfterCreationGreaterThan").AsBigFloat().Int64(); days != 7 {
		t.Errorf("versions are deleted after %d days, want 7", days)
	}
}
