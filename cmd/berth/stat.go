package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/cmd/berth/tools/name"
)

func statCommand(stdout, stderr io.Writer) *cobra.Command {
	var tags bool
	cmd := toolCommand(&cobra.Command{
		Use:   "stat REPOSITORY:TAG | REPOSITORY@DIGEST",
		Short: "Describe a tag, a manifest or a blob",
		Long:  "Print the kind, digest, size in bytes and media type of a manifest or a blob, and when the tag was moved.",
		Args:  cobra.ExactArgs(1),
		Example: "  berth stat team/app:v1\n" +
			"  berth stat team/app@sha256:… >/dev/null && echo it is there",
	}, stdout, stderr, toolNeeds{}, func(ctx context.Context, t *tool, args []string) error {
		ref, err := parseRef(args[0], wantTag|wantDigest)
		if err != nil {
			return err
		}
		s, err := t.stat(ctx, ref)
		if err != nil {
			return err
		}
		if tags && s.Kind == kindManifest {
			if s.Tags, err = t.repository(ref.Repository).Tags().Lookup(ctx, blobstore.Descriptor{Digest: s.Digest}); err != nil {
				return hint(err, ref)
			}
		}
		return t.printStat(s)
	})
	cmd.Flags().BoolVar(&tags, "tags", false, "also print all tags that name the manifest, which reads all tags of the repository")
	return cmd
}

const (
	kindManifest = "manifest"
	kindBlob     = "blob"
)

// status describes a manifest or a blob.
type status struct {
	Kind      string        `json:"kind"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"` // bytes
	MediaType string        `json:"mediaType"`
	Moved     *time.Time    `json:"moved,omitempty"` // the tag, if a tag was named
	Tags      []string      `json:"tags,omitempty"`
}

// stat describes what a name names. A digest that a manifest and a blob have is that of
// the manifest. It returns ErrManifestUnknown or ErrBlobUnknown.
func (t *tool) stat(ctx context.Context, ref name.Ref) (status, error) {
	repo := t.repository(ref.Repository)
	if ref.Tag != "" {
		entry, err := repo.Tags().Entry(ctx, ref.Tag)
		moved := entry.Moved.UTC()
		return status{Kind: kindManifest, Digest: entry.Digest, Size: entry.Size, MediaType: entry.MediaType, Moved: &moved}, hint(err, ref)
	}
	m, err := repo.Manifests().Get(ctx, ref.Digest)
	if !errors.Is(err, blobstore.ErrManifestUnknown) {
		return status{Kind: kindManifest, Digest: m.Digest, Size: m.Size, MediaType: m.MediaType}, hint(err, ref)
	}
	desc, err := repo.Stat(ctx, ref.Digest)
	if errors.Is(err, blobstore.ErrBlobUnknown) {
		return status{}, errNothing(ref)
	}
	return status{Kind: kindBlob, Digest: desc.Digest, Size: desc.Size, MediaType: desc.MediaType}, hint(err, ref)
}

// errNothing returns the error of a digest that neither a manifest nor a blob has.
func errNothing(ref name.Ref) error { return &nothingError{ref} }

type nothingError struct{ ref name.Ref }

// Error returns what is missing.
func (e *nothingError) Error() string {
	return e.ref.String() + ": the repository has neither a manifest nor a blob with this digest (berth ls " + e.ref.Repository.Name() + " lists its tags)"
}

// Unwrap returns ErrBlobUnknown.
func (e *nothingError) Unwrap() error { return blobstore.ErrBlobUnknown }

func (t *tool) printStat(s status) error {
	if t.asJSON {
		return t.print(s, "")
	}
	text := "kind:       " + s.Kind + "\ndigest:     " + string(s.Digest) + "\nsize:       %d\nmedia type: " + s.MediaType
	if s.Moved != nil {
		text += "\nmoved:      " + s.Moved.Format(time.RFC3339)
	}
	if s.Tags != nil {
		text += "\ntags:       " + strings.Join(s.Tags, " ")
	}
	return t.print(nil, text, s.Size)
}
