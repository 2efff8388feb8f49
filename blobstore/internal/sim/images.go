package sim

import (
	"encoding/json"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/manifest"
)

// Image is a manifest for tests. The fields that are left empty are left out.
type Image struct {
	Name      string           // makes its bytes differ from those of others
	Blobs     []digest.Digest  // of an image: its config and its layers
	Children  []digest.Digest  // of an index
	Subject   digest.Digest    // of either
	Algorithm digest.Algorithm // by which it is named; empty for the canonical one
}

type descriptor struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
}

// Bytes returns the manifest. It is an image if it has blobs, and an index otherwise.
func (i Image) Bytes() []byte {
	doc := map[string]any{
		"schemaVersion": 2,
		"mediaType":     manifest.MediaTypeIndex,
		"annotations":   map[string]string{"name": i.Name},
	}
	if i.Subject != "" {
		doc["subject"] = descriptor{manifest.MediaTypeImage, i.Subject, 1}
	}
	if len(i.Blobs) == 0 {
		doc["manifests"] = descriptors(manifest.MediaTypeImage, i.Children)
	} else {
		doc["mediaType"] = manifest.MediaTypeImage
		doc["config"] = descriptor{"application/vnd.oci.image.config.v1+json", i.Blobs[0], 1}
		doc["layers"] = descriptors("application/vnd.oci.image.layer.v1.tar", i.Blobs[1:])
	}
	p, _ := json.Marshal(doc) // strings and numbers cannot fail
	return p
}

func descriptors(mediaType string, of []digest.Digest) []descriptor {
	all := []descriptor{}
	for _, d := range of {
		all = append(all, descriptor{mediaType, d, 1})
	}
	return all
}

// Digest returns the digest by which the manifest is named.
func (i Image) Digest() digest.Digest {
	if i.Algorithm != "" {
		return i.Algorithm.FromBytes(i.Bytes())
	}
	return digest.FromBytes(i.Bytes())
}
