package config

import (
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/cmd/berth/auth"
	"github.com/berthhq/berth/cmd/berth/policy"
	"github.com/berthhq/berth/redirect"
)

// KeysIn returns text with keys of the configuration in place of the fields that
// they set. The libraries do not know the keys, so their errors name fields:
//
//	s3.Config.Endpoint                         storage.s3.endpoint
//	upload.Config.Memory                       upload.memory
//	redirect.Config.CDN["edge"].Keys[0].File   redirect.cdn.edge.keys[0].file
//
// Other text and fields that no key sets stay as they are.
func KeysIn(text string) string {
	if !strings.Contains(text, ".Config.") {
		return text
	}
	return fieldPath.ReplaceAllStringFunc(text, func(path string) string {
		var entries []string // "edge" and "0" of CDN["edge"].Keys[0]
		general := entry.ReplaceAllStringFunc(path, func(e string) string {
			entries = append(entries, strings.Trim(e, `[]"`))
			if strings.HasPrefix(e, `["`) {
				return `["` + anyName + `"]`
			}
			return "[0]"
		})
		key, ok := keysByField()[general]
		if !ok {
			return path
		}
		return anyEntry.ReplaceAllStringFunc(key, func(e string) string {
			name := entries[0]
			entries = entries[1:]
			return strings.NewReplacer(anyName, name, "0", name).Replace(e)
		})
	})
}

// DataError returns err with the keys of storage.data in its text instead of the fields
// that they set, which are those of storage too. It returns nil for nil.
func DataError(err error) error {
	if err == nil {
		return nil
	}
	return &dataError{err}
}

type dataError struct {
	err error
}

func (e *dataError) Error() string {
	return inStorage.ReplaceAllString(KeysIn(e.err.Error()), "storage.data.$1")
}
func (e *dataError) Unwrap() error { return e.err }

// ReplaceAttr applies [KeysIn] to the messages and errors of a log. It is for
// [slog.HandlerOptions].
func ReplaceAttr(_ []string, a slog.Attr) slog.Attr {
	switch {
	case a.Key == slog.MessageKey && a.Value.Kind() == slog.KindString:
		a.Value = slog.StringValue(KeysIn(a.Value.String()))
	case a.Value.Kind() == slog.KindAny:
		if err, ok := a.Value.Any().(error); ok {
			a.Value = slog.StringValue(KeysIn(err.Error()))
		}
	}
	return a
}

// anyName stands for the name of a CDN or header.
const anyName = "<name>"

var (
	fieldPath = regexp.MustCompile(`\b[a-z][a-z0-9]*\.Config(\.[A-Z]\w*|\["[^"]*"\]|\[\d+\])+`)
	entry     = regexp.MustCompile(`\["[^"]*"\]|\[\d+\]`)
	inStorage = regexp.MustCompile(`\bstorage\.(prefix|s3|gcs|azure|filesystem)\b`)
	anyEntry  = regexp.MustCompile(anyName + `|\[0\]`)
)

// sample returns a configuration with one entry in each map and list that a file
// can fill. The entries of maps have this name.
func sample(name string) *Config {
	c := &Config{cdns: map[string]*redirect.CDN{name: {Keys: make([]redirect.Key, 1)}}}
	c.Storage.S3.Headers = map[string]string{name: ""}
	c.Redirect.Rules = make([]redirect.Rule, 1)
	c.Auth.OIDC = make([]auth.Provider, 1)
	c.Auth.Policy.Rules = make([]policy.Rule, 1)
	c.Blobs.Manifests.ImmutableTags = make([]blobstore.ImmutableTags, 1)
	return c
}

// keysByField returns the key of each field of a library. The keys are those of
// sample(anyName). It computes them once, because errors in the log of a busy
// server may name fields.
var keysByField = sync.OnceValue(func() map[string]string {
	c := sample(anyName)
	paths := make(map[any][]string)
	for path, config := range map[string]any{
		"s3.Config":           &c.Storage.S3,
		"gcs.Config":          &c.Storage.GCS,
		"azure.Config":        &c.Storage.Azure,
		"filesystem.Config":   &c.Storage.Filesystem,
		"ocihttp.Config":      &c.API,
		"blobstore.Config":    &c.Blobs,
		"upload.Config":       &c.Blobs.Upload,
		"server.Config":       &c.Server,
		"collect.Config":      &c.Collect,
		"auth.Config":         &c.Auth,
		"policy.Config":       &c.Auth.Policy,
		"redirect.Config":     &c.Redirect,
		"redirect.Config.CDN": c.cdns,
	} {
		addPaths(paths, path, reflect.ValueOf(config))
	}

	found := make(map[string]string)
	for _, k := range keys(c) {
		all := slices.Clone(k.also)
		for _, p := range k.value.fields() {
			all = append(all, paths[p]...)
		}
		for _, path := range all {
			addKey(found, path, k.name)
		}
	}
	return found
})

// addPaths adds the path of each field in v by the field's address. The path of v
// is path.
func addPaths(paths map[any][]string, path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		paths[v.Interface()] = append(paths[v.Interface()], path)
		if v.Elem().Kind() != reflect.Pointer {
			addPaths(paths, path, v.Elem())
		}
	case reflect.Struct:
		for f, field := range v.Fields() {
			if f.IsExported() {
				addPaths(paths, path+"."+f.Name, field.Addr())
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			addPaths(paths, fmt.Sprintf("%s[%d]", path, i), v.Index(i).Addr())
		}
	case reflect.Map:
		for name, value := range v.Seq2() {
			addPaths(paths, fmt.Sprintf("%s[%q]", path, name), value)
		}
	}
}

// addKey adds the key of a path, and the sections that contain them: redirect.rules
// for redirect.Config.Rules.
func addKey(found map[string]string, path, key string) {
	for path != "" && key != "" && !strings.HasSuffix(path, ".Config") {
		if _, ok := found[path]; ok {
			return
		}
		found[path] = key
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
}
