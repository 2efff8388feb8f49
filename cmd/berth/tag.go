package main

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/cmd/berth/tools/name"
)

func tagCommand(stdout, stderr io.Writer) *cobra.Command {
	var expect string
	var create bool
	cmd := toolCommand(&cobra.Command{
		Use:   "tag REPOSITORY:TAG|REPOSITORY@DIGEST NEW-TAG...",
		Short: "Move tags to a manifest",
		Long: "Move tags to a manifest of the same repository, and print what they named before. A tag is moved only if it still names\n" +
			"what it did when the command read it. berth copy moves tags to manifests of other repositories.",
		Args:    cobra.MinimumNArgs(2),
		Example: "  berth tag team/app:v1.2.3 v1.2 v1 latest\n  berth tag team/app@sha256:… stable --expect sha256:…",
	}, stdout, stderr, toolNeeds{}, func(ctx context.Context, t *tool, args []string) error {
		ref, err := parseRef(args[0], wantTag|wantDigest)
		if err != nil {
			return err
		}
		cond := blobstore.TagCondition{Absent: create}
		if expect != "" {
			if cond.Digest, err = name.ParseDigest(expect); err != nil {
				return usageError("--expect: " + err.Error())
			}
		}
		for _, tag := range args[1:] {
			if _, err := parseRef(string(ref.Repository)+":"+tag, wantTag); err != nil {
				return err
			}
		}
		return t.tag(ctx, ref, args[1:], cond)
	})
	cmd.Flags().StringVar(&expect, "expect", "", "move the tags only if they name the manifest with this digest")
	cmd.Flags().BoolVar(&create, "create", false, "create the tags only if they do not exist")
	cmd.MarkFlagsMutuallyExclusive("expect", "create")
	return cmd
}

// tag moves tags to the manifest that ref names. If cond is zero, each tag must name what
// it does now.
func (t *tool) tag(ctx context.Context, ref name.Ref, tags []string, cond blobstore.TagCondition) error {
	desc, err := t.resolve(ctx, ref)
	if err != nil {
		return err
	}
	m, err := t.repository(ref.Repository).Manifests().Get(ctx, desc.Digest)
	if err != nil {
		return hint(err, ref)
	}
	for _, tag := range tags {
		if err := t.moveTag(ctx, name.Ref{Repository: ref.Repository, Tag: tag}, m, cond); err != nil {
			return err
		}
	}
	return nil
}

// movedTag is the result of moving a tag.
type movedTag struct {
	Tag    string        `json:"tag"`
	Before digest.Digest `json:"before,omitempty"`
	Digest digest.Digest `json:"digest"`
}

func (t *tool) moveTag(ctx context.Context, to name.Ref, m blobstore.Manifest, cond blobstore.TagCondition) error {
	repo := t.repository(to.Repository)
	before, err := repo.Tags().Get(ctx, to.Tag)
	if err != nil && !errors.Is(err, blobstore.ErrManifestUnknown) {
		return hint(err, to)
	}
	if cond == (blobstore.TagCondition{}) {
		if before.Digest == m.Digest {
			return t.print(movedTag{to.Tag, before.Digest, m.Digest}, "%s: names %s already", to, m.Digest)
		}
		cond = blobstore.TagCondition{Absent: before.Digest == "", Digest: before.Digest}
	}
	_, err = repo.Manifests().Put(ctx, blobstore.ManifestPut{
		MediaType: m.MediaType, Content: m.Content, Digest: m.Digest, Tags: []string{to.Tag}, Condition: cond,
	})
	if err != nil {
		return hint(err, to)
	}
	result := movedTag{to.Tag, before.Digest, m.Digest}
	if before.Digest == "" {
		return t.print(result, "%s: created at %s", to, m.Digest)
	}
	return t.print(result, "%s: moved from %s to %s", to, before.Digest, m.Digest)
}

func untagCommand(stdout, stderr io.Writer) *cobra.Command {
	return toolCommand(&cobra.Command{
		Use:     "untag REPOSITORY:TAG...",
		Short:   "Delete tags, and keep their manifests",
		Long:    "Delete tags. The manifests can be read by their digests until the collector removes them.",
		Args:    cobra.MinimumNArgs(1),
		Example: "  berth untag team/app:old",
	}, stdout, stderr, toolNeeds{}, func(ctx context.Context, t *tool, args []string) error {
		var refs []name.Ref
		for _, arg := range args {
			ref, err := parseRef(arg, wantTag)
			if err != nil {
				return err
			}
			refs = append(refs, ref)
		}
		for _, ref := range refs {
			if err := t.repository(ref.Repository).Tags().Untag(ctx, ref.Tag); err != nil {
				return hint(err, ref)
			}
			if err := t.print(map[string]string{"untagged": ref.String()}, "deleted the tag %s", ref); err != nil {
				return err
			}
		}
		return nil
	})
}
