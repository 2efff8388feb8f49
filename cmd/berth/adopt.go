package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthhq/berth/blobstore/adopt"
	"github.com/berthhq/berth/cmd/berth/config"
)

func adoptCommand(stdout, stderr io.Writer) *cobra.Command {
	var options adoptOptions
	cmd := configured(&cobra.Command{
		Use:   "adopt",
		Short: "Take over the bucket of a CNCF distribution registry",
		Long: "Take over the bucket of a CNCF distribution registry (registry:2 or registry:3), in place, without copying blobs.\n" +
			"storage.prefix must be the rootdirectory of the old registry. Blobs, manifests, tags and referrers of all repositories\n" +
			"are taken over, and what is not is listed with the reason. The command can run beside live traffic, can be interrupted,\n" +
			"and can be run again: a later run takes what the old registry has stored since. Switch the garbage collection of the\n" +
			"old registry off first, for good. Afterwards run berth scrub, which verifies the adopted blobs.",
	}, func(ctx context.Context, cfg *config.Config) error {
		return adoptRegistry(ctx, cfg, options, stdout, stderr)
	})
	cmd.Flags().BoolVar(&options.dryRun, "dry-run", false, "change nothing, and report what would be taken over")
	cmd.Flags().BoolVar(&options.asJSON, "json", false, "print the report as JSON")
	cmd.Flags().Float64Var(&options.rate, "rate", 0, "most requests to the store a second; 0 means no limit")
	cmd.Flags().IntVar(&options.concurrency, "concurrency", 32, "number of blobs, manifests or tags at a time")
	return cmd
}

// adoptOptions are the flags of the command.
type adoptOptions struct {
	dryRun, asJSON bool
	rate           float64
	concurrency    int
}

func adoptRegistry(ctx context.Context, cfg *config.Config, options adoptOptions, stdout, stderr io.Writer) error {
	immutable, err := cfg.Blobs.Manifests.Immutable()
	if err != nil {
		return err
	}
	bucket, name, err := openBucket(ctx, cfg.Storage, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer bucket.Close()
	p, start := newProgressLine(stderr), time.Now()
	rep, err := adopt.Run(ctx, bucket, adopt.Config{
		Concurrency:  options.concurrency,
		Rate:         options.rate,
		RequestLimit: cfg.Blobs.RequestLimit,
		MaxManifest:  cfg.Blobs.Manifests.MaxSize,
		Immutable:    immutable,
		DryRun:       options.dryRun,
		Progress: func(rep adopt.Report) {
			done := rep.Links + rep.Manifests + rep.Tags + rep.Older
			p.show(fmt.Sprintf("adopt: %d repositories, %d blobs, %d manifests, %d tags, %d skipped; %.0f a second",
				rep.Repositories, rep.Links, rep.Manifests, rep.Tags, rep.MoreSkipped, float64(done)/time.Since(start).Seconds()))
		},
	})
	p.finish()
	if err != nil {
		return err
	}
	if options.asJSON {
		return json.NewEncoder(stdout).Encode(rep)
	}
	printAdopted(stdout, name, rep)
	return nil
}

func printAdopted(w io.Writer, store string, rep *adopt.Report) {
	did := "Adopted"
	if rep.DryRun {
		did = "Would adopt"
	}
	fmt.Fprintf(w, "%s from %s:\n", did, store)
	for _, line := range []count{
		{rep.Repositories, "repositories", true},
		{rep.Links, "links to blobs", true},
		{rep.Blobs, "blobs that were not known here, of " + sizeText(rep.BlobBytes), true},
		{rep.Manifests, "manifests", true},
		{rep.Referrers, "of them refer to another manifest", false},
		{rep.Tags, "tags", true},
		{rep.Older, "links are older than the last run, and were left alone", false},
		{rep.Kept, "tags and manifests were kept as they are here", false},
	} {
		line.print(w)
	}
	if n := int64(len(rep.Skipped)) + rep.MoreSkipped; n > 0 {
		fmt.Fprintf(w, "Skipped %d:\n", n)
		for _, s := range rep.Skipped {
			fmt.Fprintf(w, "  %s\n", s)
		}
		if rep.MoreSkipped > 0 {
			fmt.Fprintf(w, "  and %d more\n", rep.MoreSkipped)
		}
	}
	fmt.Fprintln(w, "The garbage collection of the old registry must stay off: it would delete bytes that berth serves.")
	if !rep.DryRun && rep.Blobs > 0 {
		fmt.Fprintln(w, "Run berth scrub to verify the adopted blobs. Until then a push stores their bytes again.")
	}
}
