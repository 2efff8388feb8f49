package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/cmd/berth/config"
	"github.com/berthhq/berth/cmd/berth/tools/name"
	"github.com/berthhq/berth/cmd/berth/tools/progress"
	"github.com/berthhq/berth/redirect"
)

// toolHelp is the end of the help of each tool.
const toolHelp = "\n\nThe command works on the bucket directly, with the configuration of berth serve, and needs no server. It can run beside\n" +
	"live traffic. The exit code is 0, 1 after a failure, 2 if the command line or the configuration is wrong, 3 if there is no\n" +
	"such repository, tag, manifest or blob, 4 if a tag is immutable or was changed meanwhile, and 130 after an interrupt."

// addTools adds the commands that read and write the bucket.
func addTools(root *cobra.Command, stdout, stderr io.Writer) {
	root.AddGroup(&cobra.Group{ID: toolGroup, Title: "Commands on the bucket:"})
	for _, command := range []func(stdout, stderr io.Writer) *cobra.Command{
		lsCommand, duCommand, inspectCommand, statCommand, putCommand, getCommand, copyCommand, rmCommand, tagCommand, untagCommand,
	} {
		cmd := command(stdout, stderr)
		cmd.GroupID = toolGroup
		root.AddCommand(cmd)
	}
}

const toolGroup = "bucket"

// tool is what a command on the bucket works with.
type tool struct {
	store    *blobstore.Store
	stdin    io.Reader
	stdout   io.Writer
	asJSON   bool
	progress *progress.Reporter // nil if the command is quiet
}

// toolNeeds is what a tool needs besides the bucket.
type toolNeeds struct {
	creates  bool // the tool stores content, so that it may start in an empty directory
	progress bool // the tool takes long, and has the flag --quiet
}

// toolCommand adds the flags of tools to cmd and returns it. When cmd runs, it opens the
// bucket and calls do with the arguments.
func toolCommand(cmd *cobra.Command, stdout, stderr io.Writer, needs toolNeeds, do func(context.Context, *tool, []string) error) *cobra.Command {
	t := &tool{stdin: cmd.InOrStdin(), stdout: stdout}
	quiet := false
	cmd.Long += toolHelp
	cmd.Flags().BoolVar(&t.asJSON, "json", false, "print JSON, one object a line")
	if needs.progress {
		cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print no progress")
	}
	return configuredArgs(cmd, cmd.Args, func(ctx context.Context, cfg *config.Config, args []string) error {
		closeStore, err := t.open(ctx, cfg, needs.creates, stderr)
		if err != nil {
			return err
		}
		defer closeStore()
		if needs.progress && !quiet {
			t.progress = progress.New(stderr, isTerminal(stderr))
			defer t.progress.Close()
		}
		err = do(ctx, t, args)
		if err == nil || ctx.Err() == nil {
			return err
		}
		// Which call failed because of the interrupt is of no interest.
		if advice, ok := errors.AsType[*resumableError](err); ok {
			return fmt.Errorf("%w\n%s", errInterrupted, advice.resume)
		}
		return errInterrupted
	})
}

var errInterrupted = errors.New("interrupted")

// open opens the store of the tool.
func (t *tool) open(ctx context.Context, cfg *config.Config, creates bool, stderr io.Writer) (closeStore func(), err error) {
	switch cfg.Storage.Driver {
	case "memory":
		return nil, &config.Error{Problems: []string{"storage.driver: the memory of berth serve cannot be opened by another process: use its API, or another driver"}}
	case "filesystem":
		// A typing error must not create a bucket.
		if _, err := os.Stat(cfg.Storage.Filesystem.Root); !creates && errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("storage.filesystem.root: %s does not exist: name the directory that berth serve uses, with --root or --config", cfg.Storage.Filesystem.Root)
		}
	}
	log := newLogger(cfg.Telemetry, stderr)
	policy, err := redirect.New(redirect.Config{}) // a tool redirects nothing
	if err != nil {
		return nil, err
	}
	bucket, _, err := openBucket(ctx, cfg.Storage, log)
	if err != nil {
		return nil, err
	}
	if t.store, err = openStore(ctx, bucket, cfg, policy, log); err != nil {
		bucket.Close()
		return nil, err
	}
	return func() { bucket.Close() }, nil
}

// repository returns a repository of the bucket.
func (t *tool) repository(repo name.Repository) *blobstore.Repository {
	return t.store.Repository(repo)
}

// print prints a value as JSON if the flag is set, and otherwise as text.
func (t *tool) print(value any, format string, args ...any) error {
	if t.asJSON {
		return json.NewEncoder(t.stdout).Encode(value)
	}
	_, err := fmt.Fprintf(t.stdout, format+"\n", args...)
	return err
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// parseRef parses a name of the command line. It returns an error unless the name has
// what the command needs.
func parseRef(s string, want refKind) (name.Ref, error) {
	ref, err := name.Parse(s)
	if err != nil {
		return ref, usageError(err.Error())
	}
	kind := wantRepository
	switch {
	case ref.Tag != "":
		kind = wantTag
	case ref.Digest != "":
		kind = wantDigest
	}
	if kind&want == 0 {
		return ref, usageError(fmt.Sprintf("%q: want %s", s, want))
	}
	return ref, nil
}

// refKind is a set of forms of names.
type refKind int

const (
	wantRepository refKind = 1 << iota
	wantTag
	wantDigest
)

// String returns the forms as usage lines write them.
func (k refKind) String() string {
	forms, sep := "", ""
	for _, form := range []struct {
		kind refKind
		text string
	}{{wantRepository, "REPOSITORY"}, {wantTag, "REPOSITORY:TAG"}, {wantDigest, "REPOSITORY@DIGEST"}} {
		if k&form.kind != 0 {
			forms += sep + form.text
			sep = " or "
		}
	}
	return forms
}

// usageError returns the error of a wrong command line.
func usageError(problem string) error { return &config.Error{Problems: []string{problem}} }

// resolve returns the descriptor of the manifest that a tag or a digest names.
func (t *tool) resolve(ctx context.Context, ref name.Ref) (blobstore.Descriptor, error) {
	repo := t.repository(ref.Repository)
	if ref.Tag != "" {
		desc, err := repo.Tags().Get(ctx, ref.Tag)
		return desc, hint(err, ref)
	}
	m, err := repo.Manifests().Get(ctx, ref.Digest)
	return m.Descriptor, hint(err, ref)
}

// hint adds to an error about a name what to do next.
func hint(err error, ref name.Ref) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, blobstore.ErrNameUnknown):
		return fmt.Errorf("%s: %w (berth ls lists the repositories)", ref.Repository, err)
	case errors.Is(err, blobstore.ErrManifestUnknown):
		return fmt.Errorf("%s: %w (berth ls %s lists the tags)", ref, err, ref.Repository)
	case errors.Is(err, blobstore.ErrTagImmutable):
		return fmt.Errorf("%s: %w (see manifests.immutable_tags)", ref, err)
	case errors.Is(err, blobstore.ErrTagChanged):
		return fmt.Errorf("%s: %w (another client may have moved it: berth stat %s shows what it names)", ref, err, ref)
	}
	return fmt.Errorf("%s: %w", ref, err)
}
