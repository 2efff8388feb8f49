// Package manifest reads image manifests and indexes.
//
// Parse turns the bytes of a manifest into what a registry needs to know of it:
// its media type, the blobs and manifests that it refers to, its subject, and
// what a list of referrers shows. The bytes themselves are stored as they came;
// fields that this package does not know are kept and ignored.
//
// Parsing is strict where two readers could disagree about what a manifest
// means. A manifest that is an image to one client and an index to another
// (CVE-2021-41190), or that names a field twice, is refused: the collector
// keeps what Parse finds, so there must be one answer.
package manifest

import (
	"bytes"
	_ "crypto/sha256" // digests are checked by both algorithms
	_ "crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
)

// MaxReferences is the most descriptors that a manifest may have, its subject
// not among them.
const MaxReferences = 4096

// Manifest is what berth knows of a manifest.
type Manifest struct {
	MediaType string

	// ArtifactType is what a list of referrers shows: the manifest's own, or for
	// an image without one the media type of its config. It is empty for an
	// index without one.
	// https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers
	ArtifactType string

	// Subject is the digest of the manifest that this one describes. It is empty
	// if there is none.
	Subject digest.Digest

	// References are the descriptors of the manifest in their order, each digest
	// and role once.
	References []Reference
}

// Role is how a manifest uses what it refers to.
type Role int

const (
	// Blob is a blob that must be in the repository.
	Blob Role = iota + 1

	// Child is a manifest that must be in the repository.
	Child

	// Foreign is a non-distributable layer. It need not be in the repository,
	// and is kept if it is.
	Foreign
)

// Reference is one thing that a manifest refers to.
type Reference struct {
	Digest digest.Digest
	Role   Role
}

// InvalidError reports why a manifest is refused. Its text is for the client.
type InvalidError struct{ Reason string }

// Error returns the reason.
func (e *InvalidError) Error() string { return "manifest invalid: " + e.Reason }

func invalid(format string, args ...any) error {
	return &InvalidError{fmt.Sprintf(format, args...)}
}

type descriptor struct {
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
	Size      *int64        `json:"size"`
}

// document is the union of the fields of all types that berth reads.
type document struct {
	SchemaVersion int         `json:"schemaVersion"`
	MediaType     string      `json:"mediaType"`
	ArtifactType  string      `json:"artifactType"`
	Annotations   annotations `json:"annotations"`
	Config        *descriptor `json:"config"`
	Layers        descriptors `json:"layers"`
	Blobs         descriptors `json:"blobs"`
	Manifests     descriptors `json:"manifests"`
	Subject       *descriptor `json:"subject"`
}

// Parse reads the bytes of a manifest that was sent with this Content-Type,
// which may be empty. The mediaType field of the body, if there is one, must
// equal the type in the header. It returns an *InvalidError if berth does not
// store such a manifest.
func Parse(contentType string, body []byte) (Manifest, error) {
	declared, err := declaredType(contentType)
	if err != nil {
		return Manifest{}, err
	}
	if isSchema1(declared) {
		return Manifest{}, errSchema1()
	}
	if !utf8.Valid(body) {
		return Manifest{}, invalid("it is not UTF-8, which JSON has to be")
	}
	if !json.Valid(body) {
		return Manifest{}, invalid("%s", describeJSON(json.Unmarshal(body, new(document))))
	}
	fields, err := scanFields(body, documentFields)
	if err != nil {
		return Manifest{}, err
	}
	var doc document
	if err := json.Unmarshal(body, &doc); err != nil {
		if _, ok := errors.AsType[*InvalidError](err); ok {
			return Manifest{}, err
		}
		return Manifest{}, invalid("%s", describeJSON(err))
	}
	mediaType, err := decideType(declared, doc, fields)
	if err != nil {
		return Manifest{}, err
	}
	if err := checkShape(mediaType, doc, fields); err != nil {
		return Manifest{}, err
	}
	m := Manifest{MediaType: mediaType, ArtifactType: doc.ArtifactType}
	if m.ArtifactType == "" && isImage(mediaType) {
		m.ArtifactType = doc.Config.MediaType
	}
	if doc.Subject != nil {
		if err := doc.Subject.check("subject"); err != nil {
			return Manifest{}, err
		}
		m.Subject = doc.Subject.Digest
	}
	m.References, err = references(doc)
	return m, err
}

// Annotations returns the annotations of a manifest that Parse has accepted, and costs
// much less than Parse.
func Annotations(body []byte) (map[string]string, error) {
	var doc struct {
		Annotations map[string]string `json:"annotations"`
	}
	err := json.Unmarshal(body, &doc)
	return doc.Annotations, err
}

func errSchema1() error {
	return invalid("Docker schema 1 is not supported: push the image again with a current client, which sends schema 2 or OCI")
}

// decideType returns the media type that the header and the body agree on.
func decideType(declared string, doc document, fields map[string]bool) (string, error) {
	if doc.SchemaVersion == 1 || fields["fsLayers"] {
		return "", errSchema1()
	}
	if declared != "" && doc.MediaType != "" && declared != doc.MediaType {
		return "", invalid("Content-Type is %s, but the field mediaType is %.100q", declared, doc.MediaType)
	}
	mediaType := declared
	if mediaType == "" {
		mediaType = doc.MediaType
	}
	switch {
	case mediaType == "":
		return "", invalid("the media type is missing: set the Content-Type header or the field mediaType")
	case isSchema1(mediaType):
		return "", errSchema1()
	case !IsManifest(mediaType):
		return "", invalid("media type %.100q is not supported: want %s, %s, %s or %s",
			mediaType, MediaTypeImage, MediaTypeIndex, MediaTypeDockerImage, MediaTypeDockerList)
	case doc.SchemaVersion != 2:
		return "", invalid("schemaVersion is %d, want 2", doc.SchemaVersion)
	}
	return mediaType, nil
}

// checkShape returns an error unless the fields are those of an image, or those
// of an index, and not of both.
func checkShape(mediaType string, doc document, fields map[string]bool) error {
	if isImage(mediaType) {
		switch {
		case fields["manifests"]:
			return invalid("an image manifest must not have the field manifests")
		case doc.Config == nil:
			return invalid("an image manifest needs the field config")
		}
		return nil
	}
	for _, name := range []string{"layers", "config", "blobs"} {
		if fields[name] {
			return invalid("an index must not have the field %s", name)
		}
	}
	if !fields["manifests"] {
		return invalid("an index needs the field manifests")
	}
	return nil
}

// references returns what the document refers to, each digest and role once.
func references(doc document) ([]Reference, error) {
	n := len(doc.Layers) + len(doc.Blobs) + len(doc.Manifests)
	if doc.Config != nil {
		n++
	}
	if n > MaxReferences {
		return nil, errTooMany()
	}
	var out []Reference
	seen := map[Reference]bool{}
	add := func(d descriptor, role Role, field string) error {
		if err := d.check(field); err != nil {
			return err
		}
		if ref := (Reference{d.Digest, role}); !seen[ref] {
			seen[ref] = true
			out = append(out, ref)
		}
		return nil
	}
	if doc.Config != nil {
		if err := add(*doc.Config, Blob, "config"); err != nil {
			return nil, err
		}
	}
	for i, d := range slices.Concat(doc.Layers, doc.Blobs) {
		role := Blob
		if isNonDistributable(d.MediaType) {
			role = Foreign
		}
		field := fmt.Sprintf("layers[%d]", i)
		if i >= len(doc.Layers) {
			field = fmt.Sprintf("blobs[%d]", i-len(doc.Layers))
		}
		if err := add(d, role, field); err != nil {
			return nil, err
		}
	}
	for i, d := range doc.Manifests {
		role := Blob
		if IsManifest(d.MediaType) || isSchema1(d.MediaType) {
			role = Child
		}
		if err := add(d, role, fmt.Sprintf("manifests[%d]", i)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// check returns an error unless the descriptor names something that can be
// stored here.
func (d descriptor) check(field string) error {
	switch {
	case d.Digest == "":
		return invalid("%s has no digest", field)
	case d.Digest.Validate() != nil || d.Digest.Algorithm() != digest.SHA256 && d.Digest.Algorithm() != digest.SHA512:
		return invalid("%s has the digest %.150q: want sha256:<64 hexadecimal digits> or sha512:<128>", field, string(d.Digest))
	case d.Size == nil:
		return invalid("%s has no size", field)
	case *d.Size < 0:
		return invalid("%s has the size %d", field, *d.Size)
	case d.MediaType == "":
		return invalid("%s has no mediaType", field)
	}
	return nil
}

// The fields that decide what a manifest means, and those of a descriptor.
var (
	documentFields = []string{
		"schemaVersion", "mediaType", "artifactType", "annotations", "config", "layers", "blobs", "manifests", "subject", "fsLayers",
	}
	descriptorFields = []string{"mediaType", "digest", "size"}
)

// UnmarshalJSON decodes a descriptor, and refuses fields that two readers could
// understand differently.
func (d *descriptor) UnmarshalJSON(p []byte) error {
	if string(p) == "null" {
		return nil
	}
	if _, err := scanFields(p, descriptorFields); err != nil {
		return err
	}
	type plain descriptor
	return json.Unmarshal(p, (*plain)(d))
}

// descriptors is a list of descriptors. A short text can have very many of them, and each
// takes much more memory than its text.
type descriptors []descriptor

// UnmarshalJSON decodes a list. It stops at a list that is too long.
func (all *descriptors) UnmarshalJSON(p []byte) error {
	if p[0] != '[' {
		return json.Unmarshal(p, (*[]descriptor)(all)) // null, or an error
	}
	dec := json.NewDecoder(bytes.NewReader(p))
	_, err := dec.Token() // the bracket
	for err == nil && dec.More() {
		if len(*all) == MaxReferences {
			return errTooMany()
		}
		var d descriptor
		err = dec.Decode(&d)
		*all = append(*all, d)
	}
	return err
}

func errTooMany() error {
	return invalid("it refers to more than %d blobs and manifests", MaxReferences)
}

func describeJSON(err error) string {
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Sprintf("the field %s must not be a JSON %s", t.Field, t.Value)
	}
	if err.Error() == "unexpected end of JSON input" { // encoding/json has no sentinel for it
		return "the JSON ends too early"
	}
	return "it is not JSON: " + err.Error()
}
