package system

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/berthhq/berth/cmd/berth/config"
)

var dockerDir = filepath.Join("..", "..", "..", "deploy", "docker")

// compose is the file for docker compose. It has a field for each key that the file
// uses.
type compose struct {
	Name     string
	Services struct{ Berth, CDN, Store, Setup service }
	Configs  map[string]struct{ File, Content string }
	Volumes  map[string]struct{}
	Networks map[string]struct {
		Ipam struct{ Config []struct{ Subnet string } }
	}
}

type service struct {
	Image           string
	Build           struct{ Context, Dockerfile string }
	Entrypoint      []string
	Command         []string
	Configs         []struct{ Source, Target string }
	Environment     map[string]string
	Ports           []string
	Volumes         []string
	DependsOn       any      `yaml:"depends_on"`
	ReadOnly        bool     `yaml:"read_only"`
	CapDrop         []string `yaml:"cap_drop"`
	SecurityOpt     []string `yaml:"security_opt"`
	StopGracePeriod string   `yaml:"stop_grace_period"`
	Healthcheck     struct {
		Test              []string
		Interval, Timeout string
		Retries           int
	}
	Restart  string
	Networks any
}

func readCompose(t *testing.T) compose {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dockerDir, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var c compose
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

// runIn runs the script of a service, with files in place of the paths of its
// container.
func runIn(t *testing.T, s service, oldnew ...string) {
	t.Helper()
	script := strings.NewReplacer(append(oldnew, "$$", "$")...).Replace(s.Command[0])
	sh := exec.Command(s.Entrypoint[0], append(s.Entrypoint[1:], script)...)
	sh.Env = append(cleanEnv(), "CDN_KEY=0123456789abcdef")
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
}

// TestComposeCDN runs the script that fills in the configuration of nginx, and has
// nginx read the result.
func TestComposeCDN(t *testing.T) {
	t.Parallel()
	toolsDir(t)
	c := readCompose(t)
	dir := t.TempDir()
	conf := filepath.Join(dir, "default.conf")
	runIn(t, c.Services.CDN,
		"/etc/berth/nginx.conf", filepath.Join(dockerDir, c.Configs["nginx"].File),
		"/etc/nginx/conf.d/default.conf", conf, "exec nginx -g 'daemon off;'", "")
	data, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	_, server, ok := strings.Cut(string(data), "\nserver {")
	if !ok {
		t.Fatalf("the configuration of nginx has no server:\n%s", data)
	}
	for _, word := range []string{"BUCKET", "REGION", `KEY"`, "example.com", "ssl http2", "ssl_certificate "} {
		if strings.Contains(server, word) {
			t.Errorf("the configuration of nginx still contains %s", word)
		}
	}
	for _, text := range []string{"listen 5001;", `$uri 0123456789abcdef"`, "set $origin http://store:7070/berth;"} {
		if !strings.Contains(server, text) {
			t.Errorf("the configuration of nginx does not contain %s", text)
		}
	}
	whole := "error_log stderr; pid pid; events {}\nhttp {\n" +
		"client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n" +
		strings.ReplaceAll(string(data), "/var/cache/nginx/berth", "cache") + "\n}\n"
	if err := os.WriteFile(conf, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	nginx := exec.Command(filepath.Join(toolsDir(t), "nginx"), "-t", "-q", "-e", "stderr", "-p", dir, "-c", conf)
	if out, err := nginx.CombinedOutput(); err != nil {
		t.Errorf("nginx -t = %v\n%s", err, out)
	}
}

// TestComposePolicy runs the script that fills in the bucket's policy.
func TestComposePolicy(t *testing.T) {
	t.Parallel()
	c := readCompose(t)
	dir := t.TempDir()
	runIn(t, c.Services.Setup,
		"/etc/berth/nginx-origin.json", filepath.Join(dockerDir, c.Configs["policy"].File),
		"/tmp/policy.json", filepath.Join(dir, "policy.json"), "aws s3api", "true")
	var policy struct {
		Statement []struct {
			Resource  string
			Condition map[string]map[string][]string
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "policy.json"))
	if err == nil {
		err = json.Unmarshal(data, &policy)
	}
	if err != nil || len(policy.Statement) != 1 {
		t.Fatalf("policy = %+v, %v, want one statement", policy, err)
	}
	s := policy.Statement[0]
	networks, _ := c.Services.CDN.Networks.(map[string]any)
	backend, _ := networks["backend"].(map[string]any)
	address, _ := backend["ipv4_address"].(string)
	if got := s.Condition["IpAddress"]["aws:SourceIp"]; s.Resource != "arn:aws:s3:::berth/data/*" || len(got) != 1 || got[0] != address+"/32" {
		t.Errorf("the policy is for %s and %s, want data/ of the bucket and the address of the CDN, %s", s.Resource, got, address)
	}
}

// TestComposeBerth loads the configuration of berth, and compares the health of the
// containers with what berth and the store need.
func TestComposeBerth(t *testing.T) {
	c := readCompose(t)
	s := c.Services.Berth
	for name := range s.Environment {
		t.Setenv(name, "0123456789abcdef")
	}
	file := filepath.Join(t.TempDir(), "berth.yaml")
	if err := os.WriteFile(file, []byte(c.Configs["berth"].Content), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file, pflag.NewFlagSet("berth", pflag.ContinueOnError))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Storage.S3.Endpoint != "http://store:7070" || cfg.Storage.S3.Bucket != "berth" || cfg.Storage.S3.AccessKeyID != c.Services.Store.Environment["ROOT_ACCESS_KEY_ID"] {
		t.Errorf("storage = %+v, want the service store and its key", cfg.Storage.S3)
	}
	if !s.ReadOnly || len(s.CapDrop) != 1 || s.CapDrop[0] != "ALL" {
		t.Errorf("read_only = %v, cap_drop = %q, want a read-only file system and no capability", s.ReadOnly, s.CapDrop)
	}
	image, err := os.ReadFile(filepath.Join(dockerDir, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	if want := `CMD ["` + strings.Join(s.Command, `", "`) + `"]`; !strings.Contains(string(image), want) {
		t.Errorf("the Dockerfile does not contain %s, so the health check reads another configuration", want)
	}
	servers, err := os.ReadFile(filepath.Join("..", "..", "..", "testdata", "tools", "servers", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(c.Services.Store.Image, ":")
	if !strings.Contains(string(servers), "github.com/versity/versitygw "+version+" ") {
		t.Errorf("the store is versitygw %s, want the version that the tests use", version)
	}
}

// TestImageConfig loads the configuration in the image, which lacks the choice of how
// clients authenticate.
func TestImageConfig(t *testing.T) {
	load := func() (*config.Config, error) {
		return config.Load(filepath.Join(dockerDir, "berth.yaml"), pflag.NewFlagSet("berth", pflag.ContinueOnError))
	}
	if _, err := load(); err == nil || !strings.Contains(err.Error(), "auth.kind") {
		t.Errorf("Load without auth.kind = %v, want an error about it", err)
	}
	t.Setenv("BERTH_AUTH_KIND", "none")
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(filepath.Join(dockerDir, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	root := cfg.Storage.Filesystem.Root
	if !strings.Contains(string(image), " "+root+"\n") || !strings.HasSuffix(cfg.Address, ":5000") {
		t.Errorf("listen = %s, root = %s, want the port and the directory of the Dockerfile", cfg.Address, root)
	}
}
