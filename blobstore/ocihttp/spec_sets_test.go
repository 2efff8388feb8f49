package ocihttp

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Media types of what the tests push.
const (
	typeImage       = "application/vnd.oci.image.manifest.v1+json"
	typeIndex       = mediaTypeIndex
	typeDockerImage = "application/vnd.docker.distribution.manifest.v2+json"
	typeDockerList  = "application/vnd.docker.distribution.manifest.list.v2+json"
	typeConfig      = "application/vnd.oci.image.config.v1+json"
	typeLayer       = "application/vnd.oci.image.layer.v1.tar+gzip"
	typeEmpty       = "application/vnd.oci.empty.v1+json"
)

// object is a JSON object.
type object map[string]any

// set is what a client pushes in one go: blobs, and manifests with their children
// first.
type set struct {
	alg       digest.Algorithm
	random    func(n int) []byte
	blobs     map[digest.Digest][]byte
	manifests []pushed
}

// pushed is a manifest of a set.
type pushed struct {
	mediaType    string
	body         []byte
	digest       digest.Digest
	tag          string // empty for none
	subject      digest.Digest
	artifactType string // in a list of referrers
	annotations  map[string]string
}

// descriptor returns the descriptor of some content. The fields are added to it.
func (s *set) descriptor(mediaType string, p []byte, fields object) object {
	d := object{"mediaType": mediaType, "digest": s.alg.FromBytes(p), "size": len(p)}
	maps.Copy(d, fields)
	return d
}

// blob adds a blob to the set and returns its descriptor.
func (s *set) blob(mediaType string, p []byte) object {
	s.blobs[s.alg.FromBytes(p)] = p
	return s.descriptor(mediaType, p, nil)
}

// layer adds a layer of random bytes.
func (s *set) layer() object { return s.blob(typeLayer, s.random(1000)) }

// empty adds the empty JSON.
func (s *set) empty() object { return s.blob(typeEmpty, []byte("{}")) }

// image adds an image manifest with a config and a layer, unless fields has others, and
// returns its descriptor.
func (s *set) image(tag string, fields object) object {
	m := object{"schemaVersion": 2, "mediaType": typeImage}
	maps.Copy(m, fields)
	if m["config"] == nil {
		m["config"] = s.blob(typeConfig, []byte(`{"architecture":"amd64","os":"linux","x":"`+base64.StdEncoding.EncodeToString(s.random(9))+`"}`))
	}
	if m["layers"] == nil {
		m["layers"] = []object{s.layer()}
	}
	return s.add(tag, m)
}

// index adds an index of these manifests, and returns its descriptor.
func (s *set) index(tag string, fields object, manifests ...object) object {
	m := object{"schemaVersion": 2, "mediaType": typeIndex, "manifests": manifests}
	if manifests == nil {
		m["manifests"] = []object{}
	}
	maps.Copy(m, fields)
	return s.add(tag, m)
}

// add adds a manifest. A manifest that is a subject of another has a descriptor.
func (s *set) add(tag string, m object) object {
	body, err := json.MarshalIndent(m, "", "\t") // clients send all kinds of white space
	if err != nil {
		panic(err)
	}
	p := pushed{mediaType: m["mediaType"].(string), body: body, digest: s.alg.FromBytes(body), tag: tag}
	if subject, ok := m["subject"].(object); ok {
		p.subject = subject["digest"].(digest.Digest)
	}
	p.artifactType, _ = m["artifactType"].(string)
	if config, ok := m["config"].(object); ok && p.artifactType == "" {
		p.artifactType = config["mediaType"].(string)
	}
	p.annotations, _ = m["annotations"].(map[string]string)
	s.manifests = append(s.manifests, p)
	return s.descriptor(p.mediaType, body, nil)
}

func platform(d object, arch string) object {
	d["platform"] = object{"architecture": arch, "os": "linux"}
	return d
}

// specSets are the sets that the conformance suite of the specification pushes, and
// some more of the same kind.
var specSets = map[string]func(s *set){
	"image":       func(s *set) { s.image("image", nil) },
	"no tag":      func(s *set) { s.image("", nil) },
	"docker":      func(s *set) { s.image("image", object{"mediaType": typeDockerImage}) },
	"no layers":   func(s *set) { s.image("no-layers", object{"layers": []object{}}) },
	"empty index": func(s *set) { s.index("empty-index", nil) },
	"uncompressed": func(s *set) {
		s.image("image", object{"layers": []object{s.blob("application/vnd.oci.image.layer.v1.tar", s.random(2048))}})
	},
	"large manifest": func(s *set) {
		annotations := map[string]string{}
		for i := range 390 {
			annotations["org.example."+strconv.Itoa(i)] = strings.Repeat(strconv.Itoa(i%10), 10_000)
		}
		s.image("large", object{"annotations": annotations})
	},
	"index": func(s *set) {
		s.index("index", nil, platform(s.image("", nil), "amd64"), platform(s.image("", nil), "arm64"))
	},
	"docker list": func(s *set) {
		image := s.image("", object{"mediaType": typeDockerImage})
		s.index("index", object{"mediaType": typeDockerList}, platform(image, "amd64"))
	},
	"nested index": func(s *set) {
		inner := func() object {
			return s.index("", nil, platform(s.image("", nil), "amd64"), platform(s.image("", nil), "arm64"))
		}
		s.index("nested", nil, inner(), inner())
	},
	"artifact": func(s *set) {
		s.image("artifact", object{
			"artifactType": "application/vnd.example.thing", "config": s.empty(),
			"layers": []object{s.blob("application/vnd.example.data", s.random(99))},
		})
	},
	"artifact index": func(s *set) {
		artifact := object{"artifactType": "application/vnd.example.thing", "config": s.empty()}
		s.index("index", object{"artifactType": "application/vnd.example.things"}, s.image("", artifact), s.image("", artifact))
	},
	"artifact without layers": func(s *set) {
		s.image("artifact", object{"artifactType": "application/vnd.example.thing", "config": s.empty(), "layers": []object{s.empty()}})
	},
	"artifacts with subject": func(s *set) {
		subject := s.image("image", nil)
		s.image("", object{"subject": subject})
		for _, kind := range []string{"sbom", "signature"} {
			s.image(kind, object{
				"subject": subject, "config": s.empty(), "artifactType": "application/vnd.example." + kind,
				"annotations": map[string]string{"kind": kind, "html": "<a&b>", "random": base64.StdEncoding.EncodeToString(s.random(20))},
			})
		}
	},
	"index with subject": func(s *set) {
		subject := s.index("index", nil, platform(s.image("", nil), "amd64"), platform(s.image("", nil), "arm64"))
		referring := object{"subject": subject, "config": s.empty(), "artifactType": "application/vnd.example.sbom"}
		s.index("referrer", object{"subject": subject}, s.image("", referring), s.image("", referring))
	},
	"missing subject": func(s *set) {
		s.image("image", object{"subject": s.descriptor(typeImage, s.random(100), nil)})
	},
	"data field": func(s *set) {
		config := []byte(`{"architecture":"amd64"}`)
		s.blob(typeConfig, config)
		s.image("image", object{"config": s.descriptor(typeConfig, config, object{"data": config})})
	},
	"non-distributable layers": func(s *set) {
		foreign := func(mediaType string) object {
			return s.descriptor(mediaType, s.random(10), object{"urls": []string{"https://store.example.com/layer"}})
		}
		s.image("image", object{"layers": []object{
			foreign("application/vnd.oci.image.layer.nondistributable.v1.tar"),
			foreign("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
			foreign("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
		}})
	},
	"custom fields": func(s *set) {
		config := s.blob(typeConfig, []byte(`{"architecture":"amd64","org.example":{"b":[1,2],"a":null}}`))
		custom := object{"config": config, "org.example": object{"b": []int{1, 2}, "a": nil}}
		s.index("index", object{"org.example": 1.50}, s.image("", custom), s.image("", nil))
	},
}
