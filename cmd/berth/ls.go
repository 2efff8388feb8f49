package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/cmd/berth/tools/name"
	"github.com/berthhq/berth/cmd/berth/tools/tree"
)

func lsCommand(stdout, stderr io.Writer) *cobra.Command {
	var trees, names bool
	cmd := toolCommand(&cobra.Command{
		Use:   "ls [REPOSITORY | REPOSITORY:TAG | REPOSITORY@DIGEST]",
		Short: "List repositories, tags, or the tree of an index with its referrers",
		Long: "Without an argument, list the repositories that have or had manifests. With a repository, list its tags: the bytes of\n" +
			"everything that the tag names, each blob once; how long ago it was moved; and its digest. A \"+\" after the size means that\n" +
			"the repository does not have all manifests of the index. With a tag or a digest, print the tree of manifests below it,\n" +
			"and the manifests that refer to them, such as signatures.",
		Args:    cobra.MaximumNArgs(1),
		Example: "  berth ls\n  berth ls team/app\n  berth ls team/app:v1\n  berth ls team/app --names | tail -n 1",
	}, stdout, stderr, toolNeeds{}, func(ctx context.Context, t *tool, args []string) error {
		if len(args) == 0 {
			return t.listRepositories(ctx)
		}
		ref, err := parseRef(args[0], wantRepository|wantTag|wantDigest)
		switch {
		case err != nil:
			return err
		case ref.Tag != "" || ref.Digest != "":
			return t.printTree(ctx, ref, tree.Options{Referrers: true})
		case trees:
			return t.listTrees(ctx, ref.Repository)
		case names:
			return t.listNames(ctx, ref.Repository)
		}
		return t.listTags(ctx, ref.Repository)
	})
	cmd.Flags().BoolVar(&trees, "tree", false, "print the tree of each tag")
	cmd.Flags().BoolVar(&names, "names", false, "print the names of tags only, which reads no manifest")
	cmd.MarkFlagsMutuallyExclusive("tree", "names")
	return cmd
}

func (t *tool) listRepositories(ctx context.Context) error {
	for named, err := range t.store.Repositories(ctx, "", 0) {
		if err != nil {
			return err
		}
		if err := t.print(map[string]string{"repository": named.Name()}, "%s", named.Name()); err != nil {
			return err
		}
	}
	return nil
}

// pageTags is the number of tags that listNames and listTags hold in memory.
const pageTags = 1000

func (t *tool) listNames(ctx context.Context, repo name.Repository) error {
	last, more := "", true
	for more {
		var err error
		more, err = t.repository(repo).Tags().List(ctx, last, pageTags, func(tag string) error {
			last = tag
			return t.print(map[string]string{"tag": tag}, "%s", tag)
		})
		if err != nil {
			return hint(err, name.Ref{Repository: repo})
		}
	}
	return nil
}

// listedTag is a line of the list of tags.
type listedTag struct {
	Tag       string        `json:"tag"`
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"mediaType"`
	Size      int64         `json:"size"` // bytes, of everything below
	Complete  bool          `json:"complete"`
	Moved     time.Time     `json:"moved"`
}

func (t *tool) listTags(ctx context.Context, repo name.Repository) error {
	w := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	if !t.asJSON {
		fmt.Fprintln(w, "TAG\tSIZE\tMOVED\tDIGEST")
	}
	page := make([]listedTag, 0, pageTags)
	flush := func() error {
		if err := t.measure(ctx, repo, page); err != nil {
			return err
		}
		for _, tag := range page {
			if t.asJSON {
				if err := t.print(tag, ""); err != nil {
					return err
				}
				continue
			}
			size := tree.Size(tag.Size)
			if !tag.Complete {
				size += "+"
			}
			fmt.Fprintf(w, "%s\t%s\t%s ago\t%s\n", tag.Tag, size, units.HumanDuration(max(time.Since(tag.Moved), 0)), tag.Digest)
		}
		page = page[:0]
		return w.Flush()
	}
	for entry, err := range t.repository(repo).Tags().Entries(ctx) {
		if err != nil {
			return hint(err, name.Ref{Repository: repo})
		}
		page = append(page, listedTag{Tag: entry.Tag, Digest: entry.Digest, MediaType: entry.MediaType, Moved: entry.Moved.UTC()})
		if len(page) == pageTags {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// measured is the number of trees that measure reads at a time.
const measured = 16

// measure sets the sizes of tags. Tags that name the same manifest are measured once.
func (t *tool) measure(ctx context.Context, repo name.Repository, tags []listedTag) error {
	byDigest := map[digest.Digest]*listedTag{}
	for i := range tags {
		byDigest[tags[i].Digest] = &tags[i]
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(measured)
	for d, tag := range byDigest {
		group.Go(func() error {
			node, err := tree.Read(ctx, t.repository(repo), d, tree.Options{})
			if err == nil {
				tag.Size, tag.Complete = node.Total, node.Complete()
			}
			return missingIsEmpty(err)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i, tag := range tags {
		tags[i].Size, tags[i].Complete = byDigest[tag.Digest].Size, byDigest[tag.Digest].Complete
	}
	return nil
}

// missingIsEmpty returns nil for the error of a manifest that was deleted after its tag
// was read.
func missingIsEmpty(err error) error {
	if exitStatus(err) == exitNotFound {
		return nil
	}
	return err
}

func (t *tool) listTrees(ctx context.Context, repo name.Repository) error {
	for entry, err := range t.repository(repo).Tags().Entries(ctx) {
		if err != nil {
			return hint(err, name.Ref{Repository: repo})
		}
		if err := t.printNode(ctx, name.Ref{Repository: repo, Tag: entry.Tag}, entry.Descriptor, tree.Options{Referrers: true}); err != nil {
			return err
		}
	}
	return nil
}

// printTree prints the tree of what a tag or a digest names.
func (t *tool) printTree(ctx context.Context, ref name.Ref, options tree.Options) error {
	desc, err := t.resolve(ctx, ref)
	if err != nil {
		return err
	}
	return t.printNode(ctx, ref, desc, options)
}

// namedNode is a tree as JSON.
type namedNode struct {
	Name string `json:"name"`
	*tree.Node
}

func (t *tool) printNode(ctx context.Context, ref name.Ref, desc blobstore.Descriptor, options tree.Options) error {
	root, err := tree.Read(ctx, t.repository(ref.Repository), desc.Digest, options)
	if err != nil {
		return hint(err, ref)
	}
	if t.asJSON {
		return t.print(namedNode{ref.String(), root}, "")
	}
	label := ref.String()
	if ref.Digest != "" {
		label = ref.Repository.Name() // the digest follows
	}
	return tree.Print(t.stdout, label, root)
}
