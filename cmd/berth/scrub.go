package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthhq/berth/blobstore/scrub"
	"github.com/berthhq/berth/cmd/berth/config"
)

var errScrubFound = errors.New("the bucket has problems; see above")

func scrubCommand(stdout, stderr io.Writer) *cobra.Command {
	var options scrubOptions
	cmd := configured(&cobra.Command{
		Use:   "scrub",
		Short: "Verify what the bucket stores",
		Long: "Read all blobs and manifests, and verify their digests, and that what manifests refer to is there. Blobs that are\n" +
			"damaged, missing or unreadable are listed with the repositories and tags that they break, and the exit code is 1.\n" +
			"Adopted blobs that are whole become verified, and links that name bytes that a push has replaced are repaired. The\n" +
			"command can run beside live traffic. If it is interrupted, the next run continues where it stopped.",
	}, func(ctx context.Context, cfg *config.Config) error {
		return scrubBucket(ctx, cfg, options, stdout, stderr)
	})
	flags := cmd.Flags()
	flags.BoolVar(&options.run.Cheap, "cheap", false, "compare the sizes of blobs, and do not read their bytes")
	flags.BoolVar(&options.run.Quarantine, "quarantine", false, "mark damaged and missing blobs, so that clients find them unknown and push them again")
	flags.BoolVar(&options.run.Restart, "restart", false, "start at the first blob, even if a run was interrupted")
	flags.Float64Var(&options.run.Rate, "rate", 0, "most requests to the store a second; 0 means no limit")
	flags.Float64Var(&options.bandwidth, "bandwidth", 0, "most MiB of blobs to read a second; 0 means no limit")
	flags.IntVar(&options.run.Concurrency, "concurrency", 8, "number of blobs or manifests to read at a time")
	flags.Float64Var(&options.run.Share, "share", 1, "share of all blobs to verify, such as 0.1; the next run continues there")
	flags.BoolVar(&options.asJSON, "json", false, "print the report as JSON")
	return cmd
}

// scrubOptions are the flags of the command.
type scrubOptions struct {
	run       scrub.Config
	bandwidth float64 // MiB a second
	asJSON    bool
}

func scrubBucket(ctx context.Context, cfg *config.Config, options scrubOptions, stdout, stderr io.Writer) error {
	bucket, name, err := openBucket(ctx, cfg.Storage, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer bucket.Close()
	p := newProgressLine(stderr)
	run := options.run
	run.Bandwidth = int64(options.bandwidth * (1 << 20))
	run.RequestLimit = cfg.Blobs.RequestLimit
	run.SparseIndexes = cfg.Blobs.Manifests.SparseIndexes
	run.Progress = scrubProgress(p)
	rep, err := scrub.Run(ctx, bucket, run)
	p.finish()
	if err != nil {
		return err
	}
	if options.asJSON {
		err = json.NewEncoder(stdout).Encode(rep)
	} else {
		printScrubbed(stdout, name, rep)
	}
	if err == nil && len(rep.Findings) > 0 {
		err = errScrubFound
	}
	return err
}

// scrubProgress returns a function that shows the progress of a run. The time that is left
// follows from the share of all digests, which are evenly distributed.
func scrubProgress(p *progressLine) func(scrub.Report) {
	start, from := time.Now(), -1.0
	return func(rep scrub.Report) {
		if from < 0 {
			from = rep.Done
		}
		took, left := time.Since(start), "?"
		if done := rep.Done - from; done > 0 {
			left = time.Duration(float64(took) / done * (1 - rep.Done)).Round(time.Second).String()
		}
		p.show(fmt.Sprintf("scrub: %.1f%% of the blobs, %d blobs, %s (%s/s), %d manifests, %d problems; %s left",
			100*rep.Done, rep.Blobs, sizeText(rep.Bytes), sizeText(int64(float64(rep.Bytes)/took.Seconds())), rep.Manifests, len(rep.Findings), left))
	}
}

func printScrubbed(w io.Writer, store string, rep *scrub.Report) {
	if rep.Complete {
		fmt.Fprintf(w, "Scrubbed %s:\n", store)
	} else {
		fmt.Fprintf(w, "Scrubbed %s up to %.1f%% of the blobs:\n", store, 100*rep.Done)
	}
	for _, line := range []count{
		{rep.Blobs, "blobs, " + sizeText(rep.Bytes) + " read", true},
		{rep.Manifests, "manifests", true},
		{rep.Verified, "adopted blobs are verified now", false},
		{rep.Restored, "blobs that were marked as damaged are whole", false},
		{rep.Links, "links were repaired or marked", false},
		{rep.Slow, "blobs took longer than limits.request to read, and were not changed", false},
	} {
		line.print(w)
	}
	n := int64(len(rep.Findings)) + rep.MoreFindings
	if n == 0 {
		fmt.Fprintln(w, "No problems.")
		return
	}
	fmt.Fprintf(w, "Problems: %d\n", n)
	for _, f := range rep.Findings {
		fmt.Fprintf(w, "  %s\n", f)
	}
	if rep.MoreFindings > 0 {
		fmt.Fprintf(w, "  and %d more\n", rep.MoreFindings)
	}
}
