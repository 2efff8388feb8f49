package manifest

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

var (
	digestA = digest.FromString("a")
	digestB = digest.FromString("b")
	digestC = digest.SHA512.FromString("c")
)

func desc(mediaType string, d digest.Digest) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, mediaType, d)
}

const (
	config = "application/vnd.oci.image.config.v1+json"
	layer  = "application/vnd.oci.image.layer.v1.tar+gzip"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name, contentType, body string
		want                    Manifest
	}{
		{
			name: "image", contentType: MediaTypeImage,
			body: `{"schemaVersion":2,"mediaType":"` + MediaTypeImage + `","config":` + desc(config, digestA) +
				`,"layers":[` + desc(layer, digestB) + `,` + desc(layer, digestC) + `],"annotations":{"k":"v"},"custom":{"layers":1}}`,
			want: Manifest{MediaType: MediaTypeImage, ArtifactType: config,
				References: []Reference{{digestA, Blob}, {digestB, Blob}, {digestC, Blob}}},
		},
		{
			name: "parameters of the header are ignored", contentType: MediaTypeImage + "; charset=utf-8",
			body: `{"schemaVersion":2,"config":` + desc(config, digestA) + `,"layers":[]}`,
			want: Manifest{MediaType: MediaTypeImage, ArtifactType: config, References: []Reference{{digestA, Blob}}},
		},
		{
			name: "type from the body alone",
			body: `{"schemaVersion":2,"mediaType":"` + MediaTypeDockerImage + `","config":` + desc("c", digestA) + `}`,
			want: Manifest{MediaType: MediaTypeDockerImage, ArtifactType: "c", References: []Reference{{digestA, Blob}}},
		},
		{
			name: "config and layer are the same blob", contentType: MediaTypeImage,
			body: `{"schemaVersion":2,"artifactType":"x/y","config":` + desc("e", digestA) + `,"layers":[` + desc("e", digestA) + `]}`,
			want: Manifest{MediaType: MediaTypeImage, ArtifactType: "x/y", References: []Reference{{digestA, Blob}}},
		},
		{
			name: "subject", contentType: MediaTypeImage,
			body: `{"schemaVersion":2,"config":` + desc("e", digestA) + `,"layers":null,"subject":` + desc(MediaTypeImage, digestC) + `}`,
			want: Manifest{MediaType: MediaTypeImage, ArtifactType: "e", Subject: digestC, References: []Reference{{digestA, Blob}}},
		},
		{
			name: "layers that clients fetch elsewhere", contentType: MediaTypeImage,
			body: `{"schemaVersion":2,"config":` + desc(config, digestA) + `,"layers":[` +
				desc("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", digestB) + `,` +
				desc("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", digestC) + `]}`,
			want: Manifest{MediaType: MediaTypeImage, ArtifactType: config,
				References: []Reference{{digestA, Blob}, {digestB, Foreign}, {digestC, Foreign}}},
		},
		{
			name: "index of a manifest, and of a blob as build caches have it", contentType: MediaTypeIndex,
			body: `{"schemaVersion":2,"manifests":[` + desc(MediaTypeImage, digestA) + `,` + desc(layer, digestB) + `]}`,
			want: Manifest{MediaType: MediaTypeIndex, References: []Reference{{digestA, Child}, {digestB, Blob}}},
		},
		{
			name: "empty list", contentType: MediaTypeDockerList,
			body: `{"schemaVersion":2,"manifests":[],"artifactType":"x/y"}`,
			want: Manifest{MediaType: MediaTypeDockerList, ArtifactType: "x/y"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(tt.contentType, []byte(tt.body))
			if err != nil {
				t.Fatalf("Parse(%q, %s): %v", tt.contentType, tt.body, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Parse(%q, %s) (-want +got):\n%s", tt.contentType, tt.body, diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	image := func(fields string) string {
		return `{"schemaVersion":2,"config":` + desc(config, digestA) + fields + `}`
	}
	for _, tt := range []struct{ name, contentType, body, want string }{
		{"no JSON", MediaTypeImage, `hello`, "not JSON"},
		{"not UTF-8", MediaTypeImage, image(`, "annotations": {"a": "` + "\xff" + `"}`), "UTF-8"},
		{"cut off", MediaTypeImage, `{"schemaVersion":2,`, "JSON ends too early"},
		{"empty", MediaTypeImage, ``, "JSON ends too early"},
		{"list", MediaTypeImage, `[]`, "want a JSON object"},
		{"something after it", MediaTypeImage, image("") + `{}`, "not JSON"},
		{"wrong type of a field", MediaTypeImage, image(`,"layers":{}`), "layers must not be a JSON object"},
		{"wrong type of an annotation", MediaTypeImage, image(`,"annotations":{"a":1}`), "annotations must not be a JSON number"},
		{"header that cannot be read", "application/;", image(""), "Content-Type"},
		{"no type at all", "", image(""), "media type is missing"},
		{"types that differ", MediaTypeImage, image(`,"mediaType":"` + MediaTypeDockerImage + `"`), "but the field mediaType is"},
		{"unknown type", "application/json", image(""), "not supported"},
		{"schema 1 by header", mediaTypeSchema1Signed, `{}`, "schema 1"},
		{"schema 1 by body", "", `{"schemaVersion":1,"fsLayers":[]}`, "schema 1"},
		{"schema 1 under another name", MediaTypeDockerImage, `{"schemaVersion":2,"fsLayers":[]}`, "schema 1"},
		{"no schemaVersion", MediaTypeImage, `{"config":` + desc(config, digestA) + `}`, "schemaVersion is 0"},
		{"image with manifests", MediaTypeImage, image(`,"manifests":null`), "must not have the field manifests"},
		{"image without a config", MediaTypeImage, `{"schemaVersion":2,"layers":[]}`, "needs the field config"},
		{"index with layers", MediaTypeIndex, `{"schemaVersion":2,"manifests":[],"layers":[]}`, "must not have the field layers"},
		{"index with a config", MediaTypeIndex, `{"schemaVersion":2,"manifests":[],"config":{}}`, "must not have the field config"},
		{"index without manifests", MediaTypeIndex, `{"schemaVersion":2}`, "needs the field manifests"},
		{"field twice", MediaTypeImage, image(`,"layers":[],"layers":[]`), `"layers" is there twice`},
		{"digest twice", MediaTypeImage, image(`,"layers":[{"mediaType":"a","size":1,"digest":"` + digestA.String() + `","digest":"` + digestB.String() + `"}]`), `"digest" is there twice`},
		{"digest in other case", MediaTypeImage, image(`,"subject":{"mediaType":"a","size":1,"digest":"` + digestA.String() + `","Digest":"` + digestB.String() + `"}`), `must be written "digest"`},
		{"descriptor that is none", MediaTypeImage, image(`,"layers":["a"]`), "want a JSON object"},
		{"field in other case", MediaTypeImage, image(`,"Layers":[]`), `must be written "layers"`},
		{"no digest", MediaTypeImage, image(`,"layers":[{"mediaType":"a","size":1}]`), "layers[0] has no digest"},
		{"digest of an unknown algorithm", MediaTypeImage, image(`,"layers":[` + desc(layer, "sha384:00") + `]`), "layers[0] has the digest"},
		{"no size", MediaTypeImage, image(`,"layers":[{"mediaType":"a","digest":"` + digestB.String() + `"}]`), "layers[0] has no size"},
		{"negative size", MediaTypeImage, image(`,"layers":[{"mediaType":"a","size":-1,"digest":"` + digestB.String() + `"}]`), "layers[0] has the size -1"},
		{"no media type", MediaTypeIndex, `{"schemaVersion":2,"manifests":[{"size":1,"digest":"` + digestB.String() + `"}]}`, "manifests[0] has no mediaType"},
		{"bad subject", MediaTypeImage, image(`,"subject":{"mediaType":"a","size":1,"digest":"sha256:zz"}`), "subject has the digest"},
		{"bad field blobs", MediaTypeImage, image(`,"blobs":[{}]`), "blobs[0] has no digest"},
		{"too many references", MediaTypeImage, image(`,"layers":[` + strings.Repeat(desc(layer, digestB)+`,`, MaxReferences-1) + desc(layer, digestB) + `]`), "more than 4096"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.contentType, []byte(tt.body))
			if _, ok := errors.AsType[*InvalidError](err); !ok || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse(%q, %.200s) = %v, want an InvalidError with %q", tt.contentType, tt.body, err, tt.want)
			}
		})
	}
}

// TestParseStopsAtTooManyReferences checks that Parse does not decode more descriptors than
// a manifest may have, because they would take a hundred times the memory of their text.
func TestParseStopsAtTooManyReferences(t *testing.T) {
	body := []byte(`{"schemaVersion":2,"config":{},"layers":[` + strings.Repeat("{},", 100_000) + `{}]}`)
	got := testing.AllocsPerRun(1, func() {
		if _, err := Parse(MediaTypeImage, body); err == nil || !strings.Contains(err.Error(), "more than 4096") {
			t.Errorf("Parse = %v, want an error that names the limit", err)
		}
	})
	if got > 90_000 {
		t.Errorf("Parse makes %v allocations, want at most 90,000", got)
	}
}

// FuzzParse checks that what Parse accepts keeps its rules, and that Parse
// never panics.
func FuzzParse(f *testing.F) {
	f.Add(MediaTypeImage, []byte(`{"schemaVersion":2,"config":`+desc(config, digestA)+`,"layers":[`+desc(layer, digestB)+`]}`))
	f.Add(MediaTypeIndex, []byte(`{"schemaVersion":2,"manifests":[`+desc(MediaTypeImage, digestA)+`],"subject":`+desc("a", digestC)+`}`))
	f.Add("", []byte(`{"schemaVersion":1}`))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		m, err := Parse(contentType, body)
		if err != nil {
			if _, ok := errors.AsType[*InvalidError](err); !ok {
				t.Fatalf("Parse returned %v, want an InvalidError", err)
			}
			return
		}
		if !IsManifest(m.MediaType) || len(m.References) > MaxReferences {
			t.Errorf("Parse returned %+v", m)
		}
		seen := map[Reference]bool{}
		for _, r := range m.References {
			if r.Digest.Validate() != nil || seen[r] || isImage(m.MediaType) && r.Role == Child {
				t.Errorf("reference %+v of %+v", r, m)
			}
			seen[r] = true
		}
	})
}

// TestAnnotations checks that Annotations returns those of a manifest that Parse accepts,
// and that Parse refuses annotations of other types.
func TestAnnotations(t *testing.T) {
	for annotations, want := range map[string]map[string]string{
		`{"a":"b","c":"","d":null}`: {"a": "b", "c": "", "d": ""},
		`{}`:                        {},
		`null`:                      nil,
		`{"a":{}}`:                  nil,
		`{"a":["b"]}`:               nil,
		`{"a":true}`:                nil,
		`"a"`:                       nil,
		`[]`:                        nil,
	} {
		body := []byte(`{"schemaVersion":2,"manifests":[],"annotations":` + annotations + `}`)
		_, err := Parse(MediaTypeIndex, body)
		if isValid := want != nil || annotations == "null"; (err == nil) != isValid {
			t.Errorf("Parse(%s) = %v, want an error: %v", body, err, !isValid)
		}
		if err != nil {
			continue
		}
		if got, err := Annotations(body); err != nil || !maps.Equal(got, want) {
			t.Errorf("Annotations(%s) = %v, %v, want %v", body, got, err, want)
		}
	}
}
