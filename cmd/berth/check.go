package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthhq/berth/cmd/berth/check"
	"github.com/berthhq/berth/cmd/berth/config"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/inspect"
	"github.com/berthhq/berth/redirect"
)

var errCheckFailed = errors.New("at least one step failed or found the store busy; see the fix in its result")

func checkCommand(stdout io.Writer) *cobra.Command {
	var options checkOptions
	cmd := configured(&cobra.Command{
		Use:   "check",
		Short: "Check that the configured store does what berth needs",
		Long: "Check that the configured store does what berth needs, that its settings neither delete nor archive berth's objects, and\n" +
			"that CDNs serve blobs and nothing else. For each problem the output has the impact and the fix. The exit code is 1 if a\n" +
			"step failed or found the store busy. Warnings do not count. The command writes small objects under meta/check/ and data/,\n" +
			"deletes them at the end, and can run beside live traffic.",
	}, func(ctx context.Context, cfg *config.Config) error { return checkStore(ctx, cfg, options, stdout) })
	cmd.Flags().BoolVar(&options.asJSON, "json", false, "print the results as JSON")
	cmd.Flags().StringArrayVar(&options.alsoThrough, "also-through", nil,
		"another endpoint of the same bucket, such as that of another node or region, to use in races and listings; can be repeated")
	return cmd
}

// checkOptions are the flags of the command.
type checkOptions struct {
	asJSON      bool
	alsoThrough []string // URLs
}

// settingsTimeout limits how long reading the bucket's settings may take.
const settingsTimeout = time.Minute

func checkStore(ctx context.Context, cfg *config.Config, options checkOptions, stdout io.Writer) error {
	store, results, failed := runChecks(ctx, cfg, options.alsoThrough)
	for i := range results {
		results[i].Detail = config.KeysIn(results[i].Detail)
	}
	var err error
	if options.asJSON {
		err = json.NewEncoder(stdout).Encode(results)
	} else {
		err = printResults(stdout, store, results)
	}
	if err == nil && failed == nil && !check.Passed(results) {
		failed = errCheckFailed
	}
	return errors.Join(err, failed)
}

// runChecks runs all steps and returns their results. If a step makes the
// remaining steps impossible, runChecks returns its error too.
func runChecks(ctx context.Context, cfg *config.Config, alsoThrough []string) (store string, results []check.Result, err error) {
	policy, err := redirect.New(cfg.Redirect)
	if err != nil {
		return "", nil, err
	}
	bucket, name, err := openBucket(ctx, cfg.Storage, slog.New(slog.DiscardHandler))
	results = append(results, check.Opened(err))
	if err != nil {
		return cfg.Storage.Driver, results, err
	}
	defer bucket.Close()
	through, err := openThrough(ctx, cfg.Storage, alsoThrough)
	if err != nil {
		return name, append(results, check.Opened(err)), err
	}
	defer closeAll(through)
	results = append(results, check.Run(ctx, bucket, cfg.Storage.Driver, through...)...)
	settings, err := readSettings(ctx, cfg.Storage)
	switch {
	case err == nil:
		life := check.Lifetimes{Session: cfg.Blobs.Upload.SessionLifetime, Request: cfg.Blobs.RequestLimit}
		results = append(results, check.Settings(settings, life)...)
	case !errors.Is(err, errors.ErrUnsupported):
		return name, results, err
	}
	results = append(results, check.Presigned(ctx, bucket, cfg.Storage.Driver, policy)...)
	return name, append(results, check.Redirects(ctx, bucket, policy)...), nil
}

// openThrough opens the bucket through further endpoints. All other settings are
// those of cfg.
func openThrough(ctx context.Context, cfg config.Storage, endpoints []string) (opened []drivers.Bucket, err error) {
	defer func() {
		if err != nil {
			closeAll(opened)
		}
	}()
	for _, endpoint := range endpoints {
		u, err := url.Parse(endpoint)
		if err == nil && u.User != nil { // a password must not appear in output or in errors of requests
			return opened, fmt.Errorf("--also-through: %s: want a URL without user and password", u.Host)
		}
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return opened, fmt.Errorf("--also-through: %q: want a URL such as https://node2.example.com", endpoint)
		}
		switch cfg.Driver {
		case "s3":
			cfg.S3.Endpoint = endpoint
		case "gcs":
			cfg.GCS.Endpoint = endpoint
		case "azure":
			cfg.Azure.Endpoint = endpoint
		default:
			return opened, fmt.Errorf("--also-through: storage.driver is %s, which has no endpoints", cfg.Driver)
		}
		b, _, err := openBucket(ctx, cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			return opened, fmt.Errorf("--also-through %s: %w", endpoint, err)
		}
		opened = append(opened, b)
	}
	return opened, nil
}

func closeAll(buckets []drivers.Bucket) {
	for _, b := range buckets {
		b.Close()
	}
}

func readSettings(ctx context.Context, cfg config.Storage) (inspect.Settings, error) {
	ctx, cancel := context.WithTimeout(ctx, settingsTimeout)
	defer cancel()
	return inspectBucket(ctx, cfg)
}

// printResults prints a table of the results, and then the details of each
// problem.
func printResults(w io.Writer, store string, results []check.Result) error {
	fmt.Fprintln(w, store)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range results {
		detail := r.Detail
		if r.Impact != "" {
			detail = "see below"
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", r.Status, r.Step, detail)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		if r.Impact != "" {
			fmt.Fprintf(w, "\n%s: %s\n  Impact: %s\n  Fix:    %s\n", r.Step, r.Detail, r.Impact, r.Fix)
		}
	}
	return nil
}
