package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/cmd/berth/tools/name"
	"github.com/berthhq/berth/cmd/berth/tools/transfer"
)

func getCommand(stdout, stderr io.Writer) *cobra.Command {
	var output string
	cmd := toolCommand(&cobra.Command{
		Use:   "get REPOSITORY:TAG | REPOSITORY@DIGEST",
		Short: "Write a blob or a manifest to a file or to the standard output",
		Long: "Write the bytes of a blob or a manifest, and verify that they have the digest. With --output the file appears once it is\n" +
			"complete and verified. Until then the bytes are in a file next to it that ends in .part. After an interrupt the same\n" +
			"command continues there. Without --output the exit code is 1 if the bytes, which were written already, turn out wrong.",
		Args:    cobra.ExactArgs(1),
		Example: "  berth get team/data@sha256:… -o backup.tar\n  berth get team/app:v1 | jq .layers",
	}, stdout, stderr, toolNeeds{progress: true}, func(ctx context.Context, t *tool, args []string) error {
		ref, err := parseRef(args[0], wantTag|wantDigest)
		if err != nil {
			return err
		}
		if output == "-" {
			output = ""
		}
		if t.asJSON && output == "" {
			return usageError("--json describes the file: it needs --output")
		}
		return t.get(ctx, ref, output)
	})
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write; if empty, the standard output")
	return cmd
}

// gotten is the result of a download to a file.
type gotten struct {
	status
	File string `json:"file"`
}

func (t *tool) get(ctx context.Context, ref name.Ref, output string) error {
	s, err := t.stat(ctx, ref)
	if err != nil {
		return err
	}
	if info, err := os.Stat(output); err == nil && info.IsDir() {
		return usageError(fmt.Sprintf("--output: %s is a directory: want a file", output))
	}
	if s.Kind == kindManifest {
		err = t.getManifest(ctx, ref, s, output)
	} else {
		err = t.getBlob(ctx, ref, s, output)
	}
	if err != nil || output == "" {
		return err
	}
	return t.print(gotten{s, output}, "%s  %s", s.Digest, output)
}

func (t *tool) getManifest(ctx context.Context, ref name.Ref, s status, output string) error {
	m, err := t.repository(ref.Repository).Manifests().Get(ctx, s.Digest)
	if err != nil {
		return hint(err, ref)
	}
	if output != "" {
		return transfer.WriteFile(output, m.Digest, m.Content)
	}
	_, err = t.stdout.Write(m.Content)
	return err
}

func (t *tool) getBlob(ctx context.Context, ref name.Ref, s status, output string) error {
	work := t.progress.Bytes(ref.Repository.Name(), s.Size)
	d := transfer.Download{
		Digest: ref.Digest,
		Size:   s.Size,
		Open: func(ctx context.Context) (blobstore.ReadSeekCloser, error) {
			return t.repository(ref.Repository).Open(ctx, ref.Digest)
		},
		Watch: work.Reader,
	}
	defer work.End("")
	if output == "" {
		return hint(d.Write(ctx, t.stdout), ref)
	}
	err := d.File(ctx, output)
	if err == nil || errors.Is(err, transfer.ErrDamaged) {
		return hint(err, ref)
	}
	if n, statErr := transfer.PartSize(output, ref.Digest); statErr == nil && n > 0 {
		return &resumableError{hint(err, ref), fmt.Sprintf("%d bytes are in %s; to continue, run the same command again", n, transfer.PartName(output, ref.Digest))}
	}
	return hint(err, ref)
}
