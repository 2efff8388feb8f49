package system

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/opencontainers/go-digest"
)

const (
	mediaTypeIndex  = "application/vnd.oci.image.index.v1+json"
	mediaTypeImage  = "application/vnd.oci.image.manifest.v1+json"
	mediaTypeConfig = "application/vnd.oci.image.config.v1+json"
	mediaTypeLayer  = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// otherPlatform is the second platform of images, which is never the machine's.
const otherPlatform = "s390x"

// layout is a directory in the form of the OCI image layout. It has one image index,
// with the tag v1, of an image for this machine and one for another platform. Each
// image has two layers: the program hello, which prints the image's text and platform,
// and the file platform, which contains the name of its platform.
// https://github.com/opencontainers/image-spec/blob/main/image-layout.md
type layout struct {
	dir   string
	index digest.Digest
	image digest.Digest // the image for this machine
}

// descriptor names content of an image.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      digest.Digest     `json:"digest"`
	Size        int               `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
}

// writeLayout creates a layout. Images of different texts have no layer in common except
// the file platform.
func writeLayout(dir, text string) (l layout, err error) {
	l.dir = dir
	hello, err := helloProgram()
	if err != nil {
		return l, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return l, err
	}
	var images []descriptor
	for _, arch := range []string{runtime.GOARCH, otherPlatform} {
		image, err := l.addImage(text, arch, hello)
		if err != nil {
			return l, err
		}
		images = append(images, image)
	}
	l.image = images[0].Digest
	index, err := l.addJSON(mediaTypeIndex, map[string]any{
		"schemaVersion": 2, "mediaType": mediaTypeIndex, "manifests": images,
	})
	if err != nil {
		return l, err
	}
	l.index = index.Digest
	index.Annotations = map[string]string{"org.opencontainers.image.ref.name": "v1"}
	contents, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{index}})
	if err != nil {
		return l, err
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), contents, 0o644); err != nil {
		return l, err
	}
	return l, os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}

// addImage adds the image for a platform.
func (l layout) addImage(text, arch string, hello []byte) (descriptor, error) {
	var layers []descriptor
	var diffs []digest.Digest
	var history []map[string]string
	for _, f := range []struct {
		name string
		mode int64
		data []byte
	}{
		{"hello", 0o755, hello},
		{"text", 0o644, []byte(text)},
		{"platform", 0o644, []byte("linux/" + arch + "\n")},
	} {
		plain, packed, err := packLayer(f.name, f.mode, f.data)
		if err != nil {
			return descriptor{}, err
		}
		layer, err := l.add(mediaTypeLayer, packed)
		if err != nil {
			return descriptor{}, err
		}
		layers, diffs = append(layers, layer), append(diffs, digest.FromBytes(plain))
		history = append(history, map[string]string{"created_by": "COPY " + f.name})
	}
	p := platform{"linux", arch}
	config, err := l.addJSON(mediaTypeConfig, map[string]any{
		"os": p.OS, "architecture": p.Architecture, "created": "2026-01-01T00:00:00Z",
		"config":  map[string]any{"Entrypoint": []string{"/hello"}},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": diffs},
		"history": history,
	})
	if err != nil {
		return descriptor{}, err
	}
	image, err := l.addJSON(mediaTypeImage, map[string]any{
		"schemaVersion": 2, "mediaType": mediaTypeImage, "config": config, "layers": layers,
	})
	image.Platform = &p
	return image, err
}

func (l layout) addJSON(mediaType string, value any) (descriptor, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return descriptor{}, err
	}
	return l.add(mediaType, data)
}

// add adds a blob.
func (l layout) add(mediaType string, data []byte) (descriptor, error) {
	d := digest.FromBytes(data)
	return descriptor{MediaType: mediaType, Digest: d, Size: len(data)},
		os.WriteFile(filepath.Join(l.dir, "blobs", "sha256", d.Encoded()), data, 0o644)
}

// packLayer returns a layer that has one file, plain and compressed.
func packLayer(name string, mode int64, data []byte) (plain, packed []byte, err error) {
	var archive, compressed bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data))}); err != nil {
		return nil, nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, nil, err
	}
	if err := w.Close(); err != nil {
		return nil, nil, err
	}
	z := gzip.NewWriter(&compressed)
	if _, err := z.Write(archive.Bytes()); err != nil {
		return nil, nil, err
	}
	if err := z.Close(); err != nil {
		return nil, nil, err
	}
	return archive.Bytes(), compressed.Bytes(), nil
}

// helloProgram builds the program of the images, which is a static binary.
var helloProgram = sync.OnceValues(func() ([]byte, error) {
	name := filepath.Join(buildDir, "hello")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", name, filepath.Join("testdata", "hello", "main.go"))
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build of the program of images: %w\n%s", err, out)
	}
	return os.ReadFile(name)
})
