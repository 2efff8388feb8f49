package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/berthhq/berth/cmd/berth/check"
	"github.com/berthhq/berth/cmd/berth/config"
)

var errCheckFailed = errors.New("the store does not do what berth needs")

func checkCommand(stdout io.Writer) *cobra.Command {
	var asJSON bool
	cmd := configured(&cobra.Command{
		Use:   "check",
		Short: "Prove that the configured store does what berth needs",
		Long: "Prove, step by step, that the configured store does what berth needs, and say what breaks and what mends it where it\n" +
			"does not. It writes small objects under meta/check/ and deletes them again, and can run beside live traffic.",
	}, func(ctx context.Context, cfg *config.Config) error { return checkStore(ctx, cfg, asJSON, stdout) })
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the results as JSON")
	return cmd
}

func checkStore(ctx context.Context, cfg *config.Config, asJSON bool, stdout io.Writer) error {
	bucket, name, err := openBucket(ctx, cfg.Storage)
	if err != nil {
		return err
	}
	defer bucket.Close()
	results := check.Run(ctx, bucket, cfg.Storage.Driver)
	if asJSON {
		err = json.NewEncoder(stdout).Encode(results)
	} else {
		err = printResults(stdout, name, results)
	}
	if err == nil && !check.Passed(results) {
		err = errCheckFailed
	}
	return err
}

// printResults is for people: a table, and then what is wrong, step by step.
func printResults(w io.Writer, store string, results []check.Result) error {
	fmt.Fprintln(w, store)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range results {
		fmt.Fprintf(t, "  %s\t%s\t%s\n", r.Status, r.Step, r.Detail)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		if r.Breaks != "" {
			fmt.Fprintf(w, "\n%s: %s\n  What breaks: %s\n  What to do:  %s\n", r.Step, r.Detail, r.Breaks, r.Mend)
		}
	}
	return nil
}
