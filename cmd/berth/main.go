// Command berth serves blobs out of a bucket: the blob half of the OCI
// Distribution API. `berth serve` needs no configuration; `berth config` prints
// the configuration in force.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/berthhq/berth/cmd/berth/config"
)

// Exit codes of the process.
const (
	exitFailed = 1
	exitUsage  = 2 // the command line or the configuration is wrong
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs berth with these arguments and returns the exit code of the process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	began := false // the command line is valid
	root := &cobra.Command{
		Use:               "berth",
		Short:             "A content-addressed blob service out of one bucket",
		Long:              "berth serves the blobs of an OCI registry out of one bucket, and needs nothing else.",
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		PersistentPreRun:  func(*cobra.Command, []string) { began = true },
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(serveCommand(stdout, stderr), checkCommand(stdout), configCommand(stdout), redirectCommand(stdout), versionCommand(stdout))

	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	for line := range strings.SplitSeq(config.KeysIn(err.Error()), "\n") {
		if line != "" {
			fmt.Fprintln(stderr, "berth:", line)
		}
	}
	if _, bad := errors.AsType[*config.Error](err); bad {
		return exitUsage
	}
	if !began {
		fmt.Fprintln(stderr, "berth: see berth --help")
		return exitUsage
	}
	return exitFailed
}

// configured adds the flags of the configuration to a command and returns it. The
// command loads the configuration from its flags, the file and the environment,
// and calls do with it.
func configured(cmd *cobra.Command, do func(context.Context, *config.Config) error) *cobra.Command {
	var file string
	cmd.Flags().StringVar(&file, "config", "", "YAML file with the configuration")
	config.Flags(cmd.Flags())
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(file, cmd.Flags())
		if err != nil {
			return err
		}
		return do(cmd.Context(), cfg)
	}
	return cmd
}

func configCommand(stdout io.Writer) *cobra.Command {
	return configured(&cobra.Command{
		Use:   "config",
		Short: "Print the configuration in force, and where each value came from",
		Long: "Print the configuration in force as a file that --config takes. A comment at each value says where it came from:\n" +
			"a default, a line of the file, an environment variable or a flag. REDACTED stands for secrets.",
	}, func(_ context.Context, cfg *config.Config) error { return cfg.WriteYAML(stdout) })
}

func serveCommand(stdout, stderr io.Writer) *cobra.Command {
	return configured(&cobra.Command{
		Use:   "serve",
		Short: "Serve blobs",
		Long: "Serve blobs over HTTP until SIGTERM or SIGINT comes. Requests then have limits.shutdown to finish; what is left is\n" +
			"cut off, and uploads keep what they have sent. A second signal ends the process at once.",
	}, func(ctx context.Context, cfg *config.Config) error {
		return serve(ctx, cfg, stdout, newLogger(cfg.Telemetry, stderr))
	})
}
