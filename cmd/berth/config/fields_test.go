package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/collect"
	"github.com/berthhq/berth/blobstore/ocihttp"
	"github.com/berthhq/berth/cmd/berth/auth"
	"github.com/berthhq/berth/cmd/berth/policy"
	"github.com/berthhq/berth/cmd/berth/server"
	"github.com/berthhq/berth/drivers/azure"
	"github.com/berthhq/berth/drivers/filesystem"
	"github.com/berthhq/berth/drivers/gcs"
	"github.com/berthhq/berth/drivers/memory"
	"github.com/berthhq/berth/drivers/s3"
	"github.com/berthhq/berth/redirect"
	"github.com/berthhq/berth/upload"
)

func TestKeysIn(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "",
		"storage.s3.bucket is empty":         "storage.s3.bucket is empty",
		"s3.Config.Bucket is empty":          "storage.s3.bucket is empty",
		"set s3.Config.Region. Then retry":   "set storage.s3.region. Then retry",
		"(see gcs.Config.SignAs)":            "(see storage.gcs.sign_as)",
		"azure.Config.Prefix: too long":      "storage.prefix: too long",
		"filesystem.Config.Root: full":       "storage.filesystem.root: full",
		"upload.Config.Memory: 1":            "upload.memory: 1",
		"blobstore.Config.Upload.PartSize":   "upload.part_size",
		"blobstore.Config.Upload":            "upload",
		"blobstore.Config.Grace: 1h":         "gc.grace: 1h",
		`s3.Config.Headers["x-a"]: no`:       "storage.s3.headers.x-a: no",
		"s3.Config.Headers: no":              "storage.s3.headers: no",
		`redirect.Config.CDN["edge"].Kind`:   "redirect.cdn.edge.kind",
		`redirect.Config.CDN["edge"]: none`:  "redirect.cdn.edge: none",
		"redirect.Config.Rules[12].From: no": "redirect.rules[12].from: no",
		"redirect.Config.Rules[1]: no":       "redirect.rules[1]: no",
		"redirect.Config.TrustedNetworks":    "trusted_proxies",
		`redirect.Config.CDN["a-0"].Keys[10].File and redirect.Config.CDN["b"].Keys[0].ID`: "redirect.cdn.a-0.keys[10].file and redirect.cdn.b.keys[0].id",

		"s3.Config.Log, s3.Config.Nothing, other.Config.Bucket": "s3.Config.Log, s3.Config.Nothing, other.Config.Bucket",
	} {
		if got := KeysIn(text); got != want {
			t.Errorf("KeysIn(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestReplaceAttr(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: ReplaceAttr}))
	log.Info("set gcs.Config.SignAs", "error", errors.New("s3.Config.Bucket: none"), "path", "/s3.Config.Bucket", slog.Group("g", "error", errors.New("no upload.Config.Memory")))
	_, got, _ := bytes.Cut(out.Bytes(), []byte("msg="))
	const want = `"set storage.gcs.sign_as" error="storage.s3.bucket: none" path=/s3.Config.Bucket g.error="no upload.memory"` + "\n"
	if string(got) != want {
		t.Errorf("the log has\n%s, want\n%s", got, want)
	}
}

// TestFields walks the configurations of all libraries. A key must set each of
// their fields, except those that the command sets itself.
func TestFields(t *testing.T) {
	keyless := []string{
		"s3.Config.Transport", "s3.Config.Watch", "s3.Config.Log",
		"s3.Config.DataOnly", // of storage.data
		"gcs.Config.Transport", "gcs.Config.Watch", "gcs.Config.Log",
		"azure.Config.Transport", "azure.Config.Watch", "azure.Config.Log",
		"memory.Config.Store",
		"upload.Config.Bucket", "upload.Config.Layout", "upload.Config.Log",
		"blobstore.Config.Log", "blobstore.Config.Redirect", "blobstore.Config.Access",
		"ocihttp.Config.Log", "ocihttp.Config.Authorizer", "ocihttp.Config.IdleTimeout",
		"collect.Config.Bucket", "collect.Config.Log", "collect.Config.DryRun",
		"redirect.Config.MaxPresign", // follows from the credentials
		"server.Config.API", "server.Config.Ping", "server.Config.CutOff", "server.Config.ClientAddr", "server.Config.Log",
		"server.Config.Begin", "server.Config.End", "server.Config.Admin.Listener", "server.Config.Admin.Metrics",
	}
	found := make(map[string]bool)
	for _, config := range []any{
		s3.Config{}, gcs.Config{}, azure.Config{}, filesystem.Config{}, memory.Config{},
		upload.Config{}, blobstore.Config{}, ocihttp.Config{}, redirect.Config{}, server.Config{},
		auth.Config{}, policy.Config{}, collect.Config{},
	} {
		typ := reflect.TypeOf(config)
		for _, path := range leaves(typ.String(), typ) {
			if strings.HasPrefix(path, "collect.Config.Limits.") || strings.HasPrefix(path, "collect.Config.Broken.") {
				continue // the limits are those of other sections
			}
			found[path] = true
			hasKey := KeysIn(path) != path
			if listed := slices.Contains(keyless, path); hasKey == listed {
				t.Errorf("%s: set by a key: %t, listed as set by none: %t", path, hasKey, listed)
			}
		}
	}
	for _, path := range slices.Concat(keyless, slices.Collect(maps.Keys(keysByField()))) {
		ok := func(leaf string) bool { return leaf == path || len(leaf) > len(path) && leaf[:len(path)] == path }
		if !slices.ContainsFunc(slices.Collect(maps.Keys(found)), ok) {
			t.Errorf("%s: there is no such field", path)
		}
	}
}

// TestOwnFields tests that a key sets each field that no library has.
func TestOwnFields(t *testing.T) {
	c := sample(anyName)
	set := make(map[any]bool)
	for _, k := range keys(c) {
		for _, p := range k.value.fields() {
			set[p] = true
		}
	}
	for _, section := range []any{&c.GC, &c.Telemetry} {
		for f, v := range reflect.ValueOf(section).Elem().Fields() {
			if !set[v.Addr().Interface()] {
				t.Errorf("%T.%s: no key sets it", section, f.Name)
			}
		}
	}
}

// TestFieldsInTexts checks that the fields that libraries name in their texts have
// keys.
func TestFieldsInTexts(t *testing.T) {
	texts := regexp.MustCompile("\"(\\\\.|[^\"\\\\\n])*\"|`[^`]*`")
	checked := 0
	for _, library := range []string{"blobstore", "drivers", "redirect", "upload", "cmd/berth/auth", "cmd/berth/policy"} {
		err := filepath.WalkDir(filepath.Join("..", "..", "..", library), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			for _, text := range texts.FindAllString(string(source), -1) {
				for _, field := range fieldPath.FindAllString(text, -1) {
					checked++
					if KeysIn(field) == field {
						t.Errorf("%s: %s: no key sets %s", path, text, field)
					}
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if checked == 0 {
		t.Error("no text names a field")
	}
}

// leaves returns the paths of the exported fields below a type.
func leaves(path string, t reflect.Type) (paths []string) {
	switch t.Kind() {
	case reflect.Struct:
		for f := range t.Fields() {
			switch {
			case f.Anonymous:
				paths = append(paths, leaves(path, f.Type)...)
			case f.IsExported():
				paths = append(paths, leaves(path+"."+f.Name, f.Type)...)
			}
		}
		return paths
	case reflect.Map:
		return leaves(fmt.Sprintf("%s[%q]", path, anyName), t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct {
			return leaves(path+"[0]", t.Elem())
		}
	}
	return []string{path}
}
