package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/cmd/berth/tools/name"
	"github.com/berthhq/berth/cmd/berth/tools/tree"
	"github.com/berthhq/berth/cmd/berth/tools/usage"
)

func duCommand(stdout, stderr io.Writer) *cobra.Command {
	var exact bool
	cmd := toolCommand(&cobra.Command{
		Use:   "du [REPOSITORY]...",
		Short: "Add up the bytes of each repository, shared and exclusive",
		Long: "Print what each repository has: the bytes that it has alone, which its deletion would free, and the bytes of blobs that\n" +
			"other repositories have too. In the total each blob counts once. Blobs that no repository has, uploads in progress and the\n" +
			"small objects that berth keeps are not counted.\n\n" +
			"The command reads one link of each blob, and each manifest, of the whole bucket, also if it prints some repositories only:\n" +
			"about one request to the store for each. Its memory grows with the number of repositories only. The numbers are exact\n" +
			"unless clients push or delete at the same time.",
		Example: "  berth du\n  berth du team/app --exact",
	}, stdout, stderr, toolNeeds{progress: true}, func(ctx context.Context, t *tool, args []string) error {
		for _, arg := range args {
			if _, err := parseRef(arg, wantRepository); err != nil {
				return err
			}
		}
		return t.diskUsage(ctx, args, exact)
	})
	cmd.Flags().BoolVar(&exact, "exact", false, "print bytes, not units")
	return cmd
}

// diskUsage prints the usage of these repositories, or of all.
func (t *tool) diskUsage(ctx context.Context, names []string, exact bool) error {
	work := t.progress.Count("read blobs and manifests:")
	bucket, err := usage.Read(ctx, t.store, func() { work.Add(1) })
	work.End("")
	if err != nil {
		return err
	}
	if len(names) > 0 {
		for _, n := range names {
			if !slices.ContainsFunc(bucket.Repositories, func(r usage.Repository) bool { return r.Name == n }) {
				return hint(blobstore.ErrNameUnknown, name.Ref{Repository: name.Repository(n)})
			}
		}
		bucket.Repositories = slices.DeleteFunc(bucket.Repositories, func(r usage.Repository) bool { return !slices.Contains(names, r.Name) })
	}
	if t.asJSON {
		return t.print(bucket, "")
	}
	size, total := tree.Size, tree.Size(bucket.Bytes)
	if exact {
		size = func(n int64) string { return fmt.Sprint(n) }
		total = fmt.Sprintf("%d bytes", bucket.Bytes)
	}
	w := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REPOSITORY\tEXCLUSIVE\tSHARED\tTOTAL\tBLOBS\tMANIFESTS")
	for _, r := range bucket.Repositories {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\n", r.Name, size(r.Exclusive), size(r.Shared), size(r.Total()), r.Blobs, r.Manifests)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.stdout, "\nThe bucket has %s in %d blobs and %d manifests, each once.\n", total, bucket.Blobs, bucket.Manifests)
	return err
}
