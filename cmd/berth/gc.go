package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/collect"
	"github.com/berthhq/berth/cmd/berth/config"
	"github.com/berthhq/berth/redirect"
)

// gcOptions are the flags of the command.
type gcOptions struct {
	dryRun bool
	asJSON bool
}

func gcCommand(stdout, stderr io.Writer) *cobra.Command {
	var options gcOptions
	cmd := configured(&cobra.Command{
		Use:   "gc",
		Short: "Remove what nothing names any more",
		Long: "Remove what nothing names any more: uploads that are over, deleted manifests, tags that lead nowhere, and blobs. The\n" +
			"command can run beside live traffic, more than once at a time, and can be killed: another run does the rest. It first\n" +
			"condemns an object, and removes it in a later run, at least gc.grace afterwards. The exit code is 1 if something was left\n" +
			"alone because it could not be read or removed, and 2 if the configuration is wrong.",
	}, func(ctx context.Context, cfg *config.Config) error {
		return collectGarbage(ctx, cfg, options, stdout, newLogger(cfg.Telemetry, stderr))
	})
	cmd.Flags().BoolVar(&options.dryRun, "dry-run", false, "report what a run would do; stores one small object, and deletes it again")
	cmd.Flags().BoolVar(&options.asJSON, "json", false, "print the report as JSON")
	return cmd
}

func collectGarbage(ctx context.Context, cfg *config.Config, options gcOptions, stdout io.Writer, log *slog.Logger) error {
	policy, err := redirect.New(cfg.Redirect)
	if err != nil {
		return err
	}
	bucket, _, err := openBucket(ctx, cfg.Storage, log)
	if err != nil {
		return err
	}
	defer bucket.Close()
	settings := cfg.Collect
	settings.Bucket, settings.Log, settings.DryRun = bucket, log, options.dryRun
	settings.Limits = catalog.Limits{
		Request: cfg.Blobs.RequestLimit,
		Cache:   max(cfg.Blobs.Cache.TTL, 0),
		Session: cfg.Blobs.Upload.SessionLifetime,
		URL:     policy.MaxLife(),
	}
	collector, err := collect.New(settings)
	if err != nil {
		return err
	}
	report, err := collector.Run(ctx)
	if short, ok := errors.AsType[*collect.GraceError](err); ok {
		return &config.Error{Problems: []string{config.KeysIn(short.Error())}}
	}
	if options.asJSON {
		return errors.Join(err, json.NewEncoder(stdout).Encode(report))
	}
	return errors.Join(err, printReport(stdout, report))
}

// printReport prints what a run has done, and then what each repository loses.
func printReport(w io.Writer, r collect.Report) error {
	verb := ""
	if r.DryRun {
		verb = "a run would do this:\n"
	}
	fmt.Fprintf(w, "%s%d repositories read, %d requests to the store, %d objects left alone\n", verb, r.Repositories, r.Requests.Total(), r.LeftAlone)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tcondemned\trestored\tremoved\tbytes")
	for _, row := range []struct {
		name string
		collect.Counts
	}{
		{"manifests", r.Manifests}, {"tags", r.Tags}, {"referrers", r.Entries}, {"links", r.Links}, {"repositories", r.Markers},
		{"blobs", r.Records}, {"aliases", r.Aliases}, {"sessions", r.Sessions}, {"uploads", r.Uploads}, {"data", r.Data},
	} {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\n", row.name, row.Condemned, row.Restored, row.Removed, row.Bytes)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	lost := slices.SortedFunc(maps.Keys(r.ByRepository), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.ByRepository[b].Frees, r.ByRepository[a].Frees), cmp.Compare(a, b))
	})
	for _, name := range lost {
		l := r.ByRepository[name]
		fmt.Fprintf(w, "%s: %d manifests, %d tags and %d links removed, %d manifests and %d links condemned; frees %d bytes\n",
			name, l.Manifests.Removed, l.Tags.Removed, l.Links.Removed, l.Manifests.Condemned, l.Links.Condemned, l.Frees)
	}
	return nil
}
