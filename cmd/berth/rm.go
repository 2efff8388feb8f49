package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/cmd/berth/tools/name"
)

func rmCommand(stdout, stderr io.Writer) *cobra.Command {
	var blob bool
	cmd := toolCommand(&cobra.Command{
		Use:   "rm REPOSITORY@DIGEST...",
		Short: "Delete manifests with their tags, or blobs",
		Long: "Delete a manifest from its repository, with all tags that name it, or a blob. The repository's other manifests that refer\n" +
			"to it become incomplete. Other repositories keep the blob; its bytes are freed by the collector once no repository has it.\n" +
			"A manifest that an immutable tag names is not deleted. Servers may answer from their caches for cache.ttl.",
		Args:    cobra.MinimumNArgs(1),
		Example: "  berth rm team/app@sha256:…\n  berth rm team/app@$(berth stat team/app:v1 --json | jq -r .digest)",
	}, stdout, stderr, toolNeeds{}, func(ctx context.Context, t *tool, args []string) error {
		var refs []name.Ref
		for _, arg := range args {
			ref, err := parseRef(arg, wantTag|wantDigest)
			if err == nil && ref.Tag != "" {
				err = usageError(fmt.Sprintf("%q: rm deletes by digest: berth untag %s deletes the tag only, and berth stat %s prints the digest", arg, arg, arg))
			}
			if err != nil {
				return err
			}
			refs = append(refs, ref)
		}
		for _, ref := range refs {
			if err := t.remove(ctx, ref, blob); err != nil {
				return err
			}
		}
		return nil
	})
	cmd.Flags().BoolVar(&blob, "blob", false, "delete the blob, even if a manifest has the same digest")
	return cmd
}

// remove deletes a manifest, or a blob if there is no such manifest or if the caller
// wants it.
func (t *tool) remove(ctx context.Context, ref name.Ref, onlyBlob bool) error {
	repo, kind := t.repository(ref.Repository), kindManifest
	err := fmt.Errorf("%w: not asked for", blobstore.ErrManifestUnknown)
	if !onlyBlob {
		err = repo.Manifests().Delete(ctx, ref.Digest)
	}
	if errors.Is(err, blobstore.ErrManifestUnknown) {
		kind, err = kindBlob, repo.Delete(ctx, ref.Digest)
	}
	if errors.Is(err, blobstore.ErrBlobUnknown) {
		return errNothing(ref)
	}
	if err != nil {
		return hint(err, ref)
	}
	return t.print(map[string]string{"deleted": ref.String(), "kind": kind}, "deleted the %s %s", kind, ref)
}
