package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// docsCommand writes the files that packages of berth contain. It is hidden, because
// packages are its only users.
func docsCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "docs DIR",
		Short:  "Write man pages and shell completions into a directory",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(cmd *cobra.Command, args []string) error { return writeDocs(cmd.Root(), args[0]) },
	}
}

// writeDocs writes dir/man/berth*.1 and dir/completions/{berth.bash,_berth,berth.fish}.
// It replaces existing files. SOURCE_DATE_EPOCH sets the date of the man pages.
func writeDocs(root *cobra.Command, dir string) error {
	man, completions := filepath.Join(dir, "man"), filepath.Join(dir, "completions")
	for _, d := range []string{man, completions} {
		if err := os.MkdirAll(d, 0o755); err != nil { //nolint:gosec // for all users
			return err
		}
	}
	root.DisableAutoGenTag = true // it has today's date
	if err := doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "berth", Manual: "berth"}, man); err != nil {
		return err
	}
	if err := root.GenBashCompletionFileV2(filepath.Join(completions, "berth.bash"), true); err != nil {
		return err
	}
	if err := root.GenZshCompletionFile(filepath.Join(completions, "_berth")); err != nil {
		return err
	}
	return root.GenFishCompletionFile(filepath.Join(completions, "berth.fish"), true)
}
