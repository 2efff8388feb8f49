package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/berthhq/berth/cmd/berth/tools/tree"
)

func inspectCommand(stdout, stderr io.Writer) *cobra.Command {
	var referrers bool
	cmd := toolCommand(&cobra.Command{
		Use:   "inspect REPOSITORY:TAG | REPOSITORY@DIGEST",
		Short: "Print a manifest as a tree, with the sizes of its parts",
		Long: "Print a manifest with everything that it refers to. The size of a manifest is that of everything below it, each blob once.\n" +
			"berth get prints the manifest itself.",
		Args:    cobra.ExactArgs(1),
		Example: "  berth inspect team/app:v1\n  berth inspect team/app:v1 --json | jq .children[].platform",
	}, stdout, stderr, toolNeeds{}, func(ctx context.Context, t *tool, args []string) error {
		ref, err := parseRef(args[0], wantTag|wantDigest)
		if err != nil {
			return err
		}
		return t.printTree(ctx, ref, tree.Options{Blobs: true, Referrers: referrers})
	})
	cmd.Flags().BoolVar(&referrers, "referrers", false, "also print the manifests that refer to it, such as signatures")
	return cmd
}
