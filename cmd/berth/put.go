package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/cmd/berth/tools/name"
	"github.com/berthhq/berth/cmd/berth/tools/origin"
	"github.com/berthhq/berth/cmd/berth/tools/transfer"
)

func putCommand(stdout, stderr io.Writer) *cobra.Command {
	var o putOptions
	cmd := toolCommand(&cobra.Command{
		Use:   "put REPOSITORY | REPOSITORY:TAG | REPOSITORY@DIGEST  FILE | DIRECTORY | -",
		Short: "Store a file as a blob, a manifest, or the image in an OCI layout",
		Long: "Without a tag, store a file or the standard input (-) as a blob. With a digest, store it only if the bytes have it.\n" +
			"With a tag, store a manifest, or an image with everything that it refers to, and move the tag to it. The image is in an OCI\n" +
			"layout: a directory, or a tar archive, as docker save writes since version 25.\n\n" +
			"If a blob is interrupted, what has arrived is kept for limits.session. The error has the option with which the same command\n" +
			"continues. An image continues if the command is repeated.",
		Args: cobra.ExactArgs(2),
		Example: "  berth put team/data backup.tar\n  pg_dump db | berth put team/data -\n  berth put team/app:v1 manifest.json\n" +
			"  docker save app > app.tar && berth put team/app:v1 app.tar",
	}, stdout, stderr, toolNeeds{creates: true, progress: true}, func(ctx context.Context, t *tool, args []string) error {
		ref, err := parseRef(args[0], wantRepository|wantTag|wantDigest)
		if err != nil {
			return err
		}
		return t.put(ctx, ref, args[1], o)
	})
	cmd.Flags().BoolVar(&o.manifest, "manifest", false, "store the file as a manifest without a tag")
	cmd.Flags().StringVar(&o.mediaType, "media-type", "", "media type of the manifest, if it has no field mediaType")
	cmd.Flags().StringVar(&o.ref, "ref", "", "name or digest of the image in a layout that has several")
	cmd.Flags().StringVar(&o.resume, "resume", "", "continue the interrupted upload with this ID")
	cmd.Flags().BoolVar(&o.referrers, "referrers", false, "also store the manifests in the layout that refer to the image")
	return cmd
}

// putOptions are the flags of the command.
type putOptions struct {
	manifest, referrers    bool
	mediaType, ref, resume string
}

func (t *tool) put(ctx context.Context, ref name.Ref, file string, o putOptions) error {
	asManifest := ref.Tag != "" || o.manifest
	if o.resume != "" && asManifest {
		return usageError("--resume continues the upload of a blob: leave out the tag and --manifest")
	}
	input, err := t.openInput(ctx, file)
	if err != nil {
		return err
	}
	if input == nil { // a directory
		return t.putLayout(ctx, ref, file, o)
	}
	defer input.Close()
	if !asManifest {
		return t.putBlob(ctx, ref, file, input, o.resume)
	}
	r := bufio.NewReader(input)
	if first, err := r.Peek(1); err == nil && first[0] != '{' && file != "-" {
		return t.putLayout(ctx, ref, file, o)
	}
	return t.putManifest(ctx, ref, r, o.mediaType)
}

// input is a file or the standard input.
type input struct {
	io.Reader
	io.Closer
	size int64 // negative if it is unknown
}

// openInput opens a file, or the standard input for "-". It returns nil for a directory.
func (t *tool) openInput(ctx context.Context, file string) (*input, error) {
	if file == "-" {
		return &input{transfer.Interruptible(ctx, t.stdin), io.NopCloser(nil), -1}, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, errors.Join(err, f.Close())
	case info.IsDir():
		return nil, f.Close()
	case !info.Mode().IsRegular():
		return &input{transfer.Interruptible(ctx, f), f, -1}, nil
	}
	return &input{f, f, info.Size()}, nil
}

func (t *tool) putBlob(ctx context.Context, ref name.Ref, file string, in *input, resume string) error {
	work := t.progress.Bytes(file, in.size)
	desc, err := transfer.Put(ctx, t.repository(ref.Repository), transfer.Upload{Digest: ref.Digest, Resume: resume}, work.Reader(in))
	work.End("")
	if stopped, ok := errors.AsType[*transfer.InterruptedError](err); ok {
		return &resumableError{err, fmt.Sprintf("%d bytes are kept; to continue: berth put --resume %s %s %s", stopped.Size, stopped.ID, ref, file)}
	}
	if errors.Is(err, blobstore.ErrBlobUploadUnknown) && resume != "" {
		return fmt.Errorf("--resume %s: %w: it was committed, or is older than limits.session (start again without --resume)", resume, err)
	}
	if err != nil {
		return hint(err, ref)
	}
	return t.print(desc, "%s", desc.Digest)
}

// resumableError is an error after which the command can be continued.
type resumableError struct {
	error
	resume string // what to do
}

// Unwrap returns the error without the advice.
func (e *resumableError) Unwrap() error { return e.error }

// Error returns the error and the advice.
func (e *resumableError) Error() string { return e.error.Error() + "\n" + e.resume }

// maxManifest is the size in bytes of the largest manifest that a configuration allows.
const maxManifest = 64 << 20

func (t *tool) putManifest(ctx context.Context, ref name.Ref, r io.Reader, mediaType string) error {
	content, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return err
	}
	if mediaType == "" {
		if mediaType, err = origin.MediaTypeOf(content); err != nil {
			return hint(blobstore.ErrManifestInvalid{Reason: err.Error()}, ref)
		}
	}
	desc, err := t.repository(ref.Repository).Manifests().Put(ctx, blobstore.ManifestPut{
		MediaType: mediaType, Content: content, Digest: ref.Digest, Tags: tagsOf(ref),
	})
	if _, incomplete := errors.AsType[blobstore.ErrManifestBlobUnknown](err); incomplete {
		return fmt.Errorf("%w (put them first, as blobs or with --manifest)", hint(err, ref))
	}
	if err != nil {
		return hint(err, ref)
	}
	return t.print(desc.Descriptor, "%s", desc.Digest)
}

func tagsOf(ref name.Ref) []string {
	if ref.Tag == "" {
		return nil
	}
	return []string{ref.Tag}
}

func (t *tool) putLayout(ctx context.Context, ref name.Ref, file string, o putOptions) error {
	if ref.Digest != "" {
		return usageError(fmt.Sprintf("%q: an image is stored by tag: want REPOSITORY:TAG, and --ref for the digest of the image in the layout", ref))
	}
	layout, err := origin.OpenLayout(ctx, file)
	if err != nil {
		return err
	}
	root, err := layout.Root(o.ref, ref.Tag)
	if err != nil {
		return err
	}
	c := &transfer.Copier{From: layout, To: t.repository(ref.Repository), Referrers: o.referrers, Parallel: 4, Progress: t.progress}
	return t.copyImage(ctx, c, file, root, ref)
}
