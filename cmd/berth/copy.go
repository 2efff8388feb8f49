package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/berthhq/berth/cmd/berth/tools/name"
	"github.com/berthhq/berth/cmd/berth/tools/origin"
	"github.com/berthhq/berth/cmd/berth/tools/transfer"
	"github.com/berthhq/berth/cmd/berth/tools/tree"
)

func copyCommand(stdout, stderr io.Writer) *cobra.Command {
	var o copyOptions
	cmd := toolCommand(&cobra.Command{
		Use:   "copy SOURCE REPOSITORY[:TAG]",
		Short: "Copy an image into a repository, from another one or from another registry",
		Long: "Copy a manifest with everything that it refers to: an index with the images of all platforms. The source is\n" +
			"REPOSITORY:TAG or REPOSITORY@DIGEST in the bucket, or docker://HOST/REPOSITORY:TAG at another registry, with the\n" +
			"credentials of docker login. Without a tag, the copy has the tag of the source, or none if the source is a digest.\n\n" +
			"Within the bucket no byte is copied. From another registry only the blobs are fetched that no repository of the bucket has.\n" +
			"Layers that clients fetch from elsewhere are not copied. A connection that breaks is continued. After an interrupt, the same\n" +
			"command continues with the blobs that are not there yet.",
		Args: cobra.ExactArgs(2),
		Example: "  berth copy team/app:v1 prod/app\n  berth copy docker://docker.io/library/alpine:3 mirror/alpine\n" +
			"  berth copy --referrers docker://ghcr.io/team/app@sha256:… team/app:v1",
	}, stdout, stderr, toolNeeds{creates: true, progress: true}, func(ctx context.Context, t *tool, args []string) error {
		to, err := parseRef(args[1], wantRepository|wantTag)
		if err != nil {
			return err
		}
		return t.copy(ctx, args[0], to, o)
	})
	cmd.Flags().BoolVar(&o.referrers, "referrers", false, "also copy the manifests that refer to those that are copied, such as signatures")
	cmd.Flags().BoolVar(&o.plainHTTP, "src-plain-http", false, "use HTTP without TLS; a registry on this host is always reached so, unless --src-tls is set")
	cmd.Flags().BoolVar(&o.tls, "src-tls", false, "use TLS for a registry on this host too")
	cmd.Flags().IntVar(&o.parallel, "parallel", 4, "number of blobs to copy at a time")
	cmd.MarkFlagsMutuallyExclusive("src-plain-http", "src-tls")
	return cmd
}

// copyOptions are the flags of the command.
type copyOptions struct {
	referrers, plainHTTP, tls bool
	parallel                  int
}

func (t *tool) copy(ctx context.Context, from string, to name.Ref, o copyOptions) error {
	if o.parallel < 1 || o.parallel > 64 {
		return badFlag("parallel", fmt.Sprint(o.parallel), "1 to 64")
	}
	c := &transfer.Copier{To: t.repository(to.Repository), Referrers: o.referrers, Parallel: o.parallel, Progress: t.progress}
	var root string
	if remote, ok := strings.CutPrefix(from, "docker://"); ok {
		registry, ref, err := origin.OpenRegistry(remote, origin.RegistryConfig{PlainHTTP: o.plainHTTP, TLS: o.tls, UserAgent: "berth/" + version()})
		if err != nil {
			return usageError(err.Error())
		}
		if ref == "" {
			return usageError(fmt.Sprintf("%q: name a tag or a digest", from))
		}
		c.From, root = registry, ref
	} else {
		source, err := parseRef(from, wantTag|wantDigest)
		if err != nil {
			return usageError(err.Error() + ", or docker://HOST/REPOSITORY:TAG")
		}
		c.From = transfer.Bucket{Name: source.Repository, Repository: t.repository(source.Repository)}
		if root = source.Tag; root == "" {
			root = string(source.Digest)
		}
	}
	if _, err := digest.Parse(root); err != nil && to.Tag == "" {
		to.Tag = root
	}
	return t.copyImage(ctx, c, from, root, to)
}

// copied is the result of a copy.
type copied struct {
	Name   string        `json:"name"`
	Digest digest.Digest `json:"digest"`
	transfer.Result
}

// copyImage copies the manifest root of a source, and moves the tag to it.
func (t *tool) copyImage(ctx context.Context, c *transfer.Copier, from, root string, to name.Ref) error {
	m, err := c.Copy(ctx, root, tagsOf(to))
	r := c.Result()
	if err != nil {
		err = fmt.Errorf("copy %s to %s: %w", from, to, err)
		if r.Copied+r.Mounted > 0 {
			return &resumableError{err, fmt.Sprintf("%d blobs have arrived; to continue with the others, run the same command again", r.Copied+r.Mounted)}
		}
		return err
	}
	return t.print(copied{to.String(), m.Digest, r}, "%s  %s  (%d manifests; %d blobs copied, %s; %d mounted; %d present)",
		to, m.Digest, r.Manifests, r.Copied, tree.Size(r.Bytes), r.Mounted, r.Present)
}
