// Command berth serves a container registry from one bucket. `berth serve` works without any configuration. `berth config`
// prints the configuration that is in effect.
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

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/cmd/berth/config"
)

// Exit codes of the process.
const (
	exitFailed = 1
	exitUsage  = 2 // the command line or the configuration is wrong

	// Of the tools that read and write the bucket:
	exitNotFound    = 3
	exitRefused     = 4   // a tag is immutable, or was changed meanwhile
	exitInterrupted = 130 // as shells report SIGINT
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process immediately
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the command line and returns the exit code of the process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	valid := false // the command line
	root := &cobra.Command{
		Use:               "berth",
		Short:             "A container registry on one bucket",
		Long:              "berth is an OCI registry. It stores everything in one bucket and needs nothing else.",
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		PersistentPreRun:  func(*cobra.Command, []string) { valid = true },
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(serveCommand(stdout, stderr), gcCommand(stdout, stderr), adoptCommand(stdout, stderr), scrubCommand(stdout, stderr), checkCommand(stdout), configCommand(stdout), policyCommand(stdout), redirectCommand(stdout), versionCommand(stdout),
		healthCommand(), docsCommand())
	addTools(root, stdout, stderr)

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
	if !valid {
		fmt.Fprintln(stderr, "berth: see berth --help")
		return exitUsage
	}
	return exitStatus(err)
}

// exitStatus returns the exit code for an error of a command.
func exitStatus(err error) int {
	switch {
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.Is(err, blobstore.ErrNameUnknown), errors.Is(err, blobstore.ErrManifestUnknown), errors.Is(err, blobstore.ErrBlobUnknown):
		return exitNotFound
	case errors.Is(err, blobstore.ErrTagImmutable), errors.Is(err, blobstore.ErrTagChanged):
		return exitRefused
	}
	return exitFailed
}

// configured adds the flags of the configuration to cmd and returns it. When cmd
// runs, it loads the configuration and calls do with it.
func configured(cmd *cobra.Command, do func(context.Context, *config.Config) error) *cobra.Command {
	return configuredArgs(cmd, cobra.NoArgs, func(ctx context.Context, cfg *config.Config, _ []string) error { return do(ctx, cfg) })
}

// configuredArgs is configured for a command with arguments.
func configuredArgs(cmd *cobra.Command, positional cobra.PositionalArgs, do func(context.Context, *config.Config, []string) error) *cobra.Command {
	var file string
	cmd.Flags().StringVar(&file, "config", "", "YAML file with the configuration")
	config.Flags(cmd.Flags())
	cmd.Args = positional
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := config.Load(file, cmd.Flags())
		if err != nil {
			return err
		}
		return do(cmd.Context(), cfg, args)
	}
	return cmd
}

func configCommand(stdout io.Writer) *cobra.Command {
	return configured(&cobra.Command{
		Use:   "config",
		Short: "Print the configuration that is in effect, and the source of each value",
		Long: "Print the configuration that is in effect, in the form of a file for --config. A comment at each value names its source:\n" +
			"the default, a line of the file, an environment variable or a flag. Secrets are replaced with REDACTED.",
	}, func(_ context.Context, cfg *config.Config) error { return cfg.WriteYAML(stdout) })
}

func serveCommand(stdout, stderr io.Writer) *cobra.Command {
	return configured(&cobra.Command{
		Use:   "serve",
		Short: "Serve blobs",
		Long: "Serve blobs over HTTP until SIGTERM or SIGINT arrives. Running requests then have limits.shutdown to finish. After that\n" +
			"they are cut off, and uploads keep the bytes that they have received. A second signal ends the process immediately.",
	}, func(ctx context.Context, cfg *config.Config) error {
		return serve(ctx, cfg, stdout, newLogger(cfg.Telemetry, stderr))
	})
}
