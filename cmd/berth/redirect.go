package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/cmd/berth/config"
	"github.com/berthhq/berth/redirect"
)

func redirectCommand(stdout io.Writer) *cobra.Command {
	group := &cobra.Command{
		Use:   "redirect",
		Short: "Explain where reads are redirected",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() }, // without it, cobra treats any word as "help"
	}
	group.AddCommand(explainCommand(stdout))
	return group
}

func explainCommand(stdout io.Writer) *cobra.Command {
	var from, size, key string
	var req redirect.Request
	cmd := configured(&cobra.Command{
		Use:   "explain",
		Short: "Explain which rule applies to a read, and print the URL",
		Long: "Print for each rule whether it applies to the read, and why. Then print the URL that a client would be redirected to,\n" +
			"with its signature. The blob need not exist.",
	}, func(ctx context.Context, cfg *config.Config) error {
		var err error
		if from != "" {
			if req.Client, err = netip.ParseAddr(from); err != nil {
				return badFlag("from", from, "an IP address")
			}
		}
		var ok bool
		if req.Size, ok = config.ParseSize(size); !ok {
			return badFlag("size", size, "a size such as 16MiB")
		}
		if key != "" {
			req.Key = key
		} else if req.Size > cfg.Blobs.InlineMax {
			req.Key = catalog.ExampleDataKey
		} // otherwise the record holds the bytes, and they have no key
		return explain(ctx, cfg, req, stdout)
	})
	cmd.Flags().StringVar(&req.Repository, "repo", "", "repository of the read")
	cmd.Flags().StringVar(&size, "size", "64MiB", "size of the blob")
	cmd.Flags().StringVar(&from, "from", "", "address of the client")
	cmd.Flags().StringVar(&req.UserAgent, "user-agent", "", "User-Agent of the client")
	cmd.Flags().StringVar(&key, "key", "", "key of the blob's bytes in the bucket; if empty, a blob of up to storage.inline_max is in its record, and a larger one is under data/")
	return cmd
}

// badFlag returns the error of a flag with an invalid value.
func badFlag(name, value, want string) error {
	return &config.Error{Problems: []string{fmt.Sprintf("--%s: %.40q: want %s", name, value, want)}}
}

// explain prints the decision about a read.
func explain(ctx context.Context, cfg *config.Config, req redirect.Request, stdout io.Writer) error {
	policy, err := redirect.New(cfg.Redirect)
	if err != nil {
		return err
	}
	bucket, _, err := openBucket(ctx, cfg.Storage, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer bucket.Close()

	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, s := range policy.Explain(req) {
		mark := "no"
		if s.Matches {
			mark = "yes"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", mark, config.KeysIn(s.Rule), s.Target, config.KeysIn(s.Why))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if err := policy.Check(ctx, bucket); err != nil { // berth serve would not start
		return err
	}
	d, err := policy.Decide(ctx, bucket, req)
	if err != nil {
		return err
	}
	if d.Direct() {
		_, err = fmt.Fprintln(stdout, "berth serves the bytes itself.")
		return err
	}
	_, err = fmt.Fprintf(stdout, "307 to %s\nuntil %s\n", d.URL, d.Expires.UTC().Format(time.RFC3339))
	return err
}
