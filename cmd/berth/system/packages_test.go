package system

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/berthhq/berth/cmd/berth/config"
)

var sourceDir = filepath.Join("..", "..", "..")

// TestPackageConfig loads the configuration of the packages.
func TestPackageConfig(t *testing.T) {
	t.Parallel()
	cfg, err := config.Load(filepath.Join(sourceDir, "deploy", "packages", "berth.yaml"), pflag.NewFlagSet("berth", pflag.ContinueOnError))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Storage.Filesystem.Root != "/var/lib/berth" || !strings.HasPrefix(cfg.Address, "127.0.0.1:") {
		t.Errorf("root = %s, listen = %s, want the state directory of the unit, and loopback", cfg.Storage.Filesystem.Root, cfg.Address)
	}
}

// packaged is a file of a package.
type packaged struct {
	Src, Dst, Type, Packager string
	FileInfo                 struct{ Mode int } `yaml:"file_info"`
}

// TestReleaseContents checks that releases have the files of the packages, and that the
// sources that are in the repository exist.
func TestReleaseContents(t *testing.T) {
	t.Parallel()
	var nfpm struct{ Contents []packaged }
	var release struct {
		NFPMs []struct{ Contents []packaged }
	}
	for name, v := range map[string]any{"packages/nfpm.yaml": &nfpm, "goreleaser.yaml": &release} {
		data, err := os.ReadFile(filepath.Join(sourceDir, "deploy", filepath.FromSlash(name)))
		if err == nil {
			err = yaml.Unmarshal(data, v)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for _, c := range nfpm.Contents {
		if strings.HasPrefix(c.Src, "dist/") {
			continue
		}
		if _, err := os.Stat(filepath.Join(sourceDir, filepath.FromSlash(c.Src))); err != nil {
			t.Error(err)
		}
	}
	binary := func(c packaged) bool { return c.Dst == "/usr/bin/berth" }
	if want := slices.DeleteFunc(nfpm.Contents, binary); len(want) == 0 || len(release.NFPMs) != 1 || !slices.Equal(want, release.NFPMs[0].Contents) {
		t.Errorf("goreleaser.yaml has the files %v, want those of nfpm.yaml, %v", release.NFPMs, want)
	}
}

// TestLongUnit has systemd read the unit, and judge how much of the system it exposes.
func TestLongUnit(t *testing.T) {
	skipUnlessLong(t, "the unit, with systemd-analyze")
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("NOT TESTED: the unit: systemd-analyze is not installed (Debian's package systemd)")
	}
	dir := t.TempDir()
	unit := filepath.Join(dir, "berth.service")
	text := example(t, filepath.Join("systemd", "berth.service"), "/usr/bin/berth", filepath.Join(buildDir, "berth"), "man:berth(1) ", "")
	if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput(); err != nil || len(out) != 0 {
		t.Errorf("systemd-analyze verify = %v, want no message\n%s", err, out)
	}
	const exposure = "20" // of 100; the unit has 12
	if out, err := exec.Command(analyze, "security", "--offline=true", "--threshold="+exposure, unit).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security = %v\n%.4000s", err, out)
	}
}

// TestLongPackages builds the packages, installs that of Debian below a directory, and
// looks into that of Red Hat.
func TestLongPackages(t *testing.T) {
	skipUnlessLong(t, "the packages")
	packages := t.TempDir()
	build := exec.Command("make", "package", "PACKAGES="+packages, "VERSION=1.2.3")
	build.Dir = sourceDir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make package = %v\n%s", err, out)
	}
	rpm, err := os.ReadFile(onlyFile(t, filepath.Join(packages, "*.rpm")))
	if err != nil || !bytes.HasPrefix(rpm, []byte{0xed, 0xab, 0xee, 0xdb}) || !bytes.Contains(rpm, []byte("berth.service")) {
		t.Errorf("the package of Red Hat: %v, want a package with the unit", err)
	}
	if _, err := exec.LookPath("dpkg"); err != nil || os.Geteuid() != 0 {
		t.Skip("NOT TESTED: installing the package: this needs dpkg and root")
	}
	dpkg := dpkgBelow(t, t.TempDir())
	dpkg.run(t, "--install", onlyFile(t, filepath.Join(packages, "*.deb")))
	dpkg.wantInstalled(t)
	dpkg.run(t, "--remove", "berth")
	if _, err := os.Stat(dpkg.path("/etc/berth/berth.yaml")); err != nil {
		t.Errorf("after a removal: %v, want the configuration kept", err)
	}
}

// dpkg is a directory in which dpkg installs packages.
type dpkg string

// dpkgBelow prepares a directory without packages.
func dpkgBelow(t *testing.T, root string) dpkg {
	t.Helper()
	d := dpkg(root)
	for _, dir := range []string{"updates", "info", "triggers"} {
		if err := os.MkdirAll(d.path("/var/lib/dpkg/"+dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"status", "available"} {
		if err := os.WriteFile(d.path("/var/lib/dpkg/"+name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// The scripts of the package run chrootless. Without systemd-sysusers and systemctl
	// they change nothing of this machine.
	t.Setenv("PATH", pathWithout(t, "systemd-sysusers", "systemctl"))
	return d
}

func (d dpkg) path(name string) string { return filepath.Join(string(d), filepath.FromSlash(name)) }

func (d dpkg) run(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{"--root=" + string(d), "--force-script-chrootless"}, args...)
	out, err := exec.Command("dpkg", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("dpkg %q = %v\n%s", args, err, out)
	}
	return string(out)
}

// wantInstalled checks the files and the status of the package.
func (d dpkg) wantInstalled(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"/usr/bin/berth", "/usr/lib/systemd/system/berth.service", "/usr/lib/sysusers.d/berth.conf", "/etc/berth/berth.yaml",
		"/etc/berth/env", "/usr/share/man/man1/berth-serve.1.gz", "/usr/share/bash-completion/completions/berth",
		"/usr/share/fish/vendor_completions.d/berth.fish", "/usr/share/doc/berth/CONFIGURATION.md",
	} {
		if _, err := os.Stat(d.path(name)); err != nil {
			t.Error(err)
		}
	}
	if info, err := os.Stat(d.path("/etc/berth/env")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of env = %v, %v, want 0600", info, err)
	}
	out, err := exec.Command(d.path("/usr/bin/berth"), "version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "berth ") || !strings.HasSuffix(string(out), runtime.GOARCH+"\n") {
		t.Errorf("berth version = %v, %s", err, out)
	}
	if status := d.run(t, "--status", "berth"); !regexp.MustCompile(`(?m)^Version: 1\.2\.3$`).MatchString(status) {
		t.Errorf("status of the package:\n%s", status)
	}
}

// onlyFile returns the only file that matches a pattern.
func onlyFile(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) != 1 {
		t.Fatalf("%s matches %q, %v, want one file", pattern, files, err)
	}
	return files[0]
}

// pathWithout returns a PATH that has all commands except these.
func pathWithout(t *testing.T, commands ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, from := range filepath.SplitList(os.Getenv("PATH") + ":/usr/sbin:/sbin") {
		entries, err := os.ReadDir(from)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if !slices.Contains(commands, e.Name()) {
				_ = os.Symlink(filepath.Join(from, e.Name()), filepath.Join(dir, e.Name())) // the first one wins
			}
		}
	}
	return dir
}
