package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"mcp-sandbox/snapshot"
)

// snapshotVerb is what a verb of the command does with the snapshots of --root.
type snapshotVerb func(ctx context.Context, out io.Writer, r *snapshot.Repo, args []string) error

func newExport(with func(snapshotVerb) func(*cobra.Command, []string) error) *cobra.Command {
	return &cobra.Command{
		Use: "export FILE.tar[.zst] [ID]", Short: "Write a snapshot (default: latest) as an archive that any tar reads",
		Args: cobra.RangeArgs(1, 2), RunE: with(func(ctx context.Context, out io.Writer, r *snapshot.Repo, args []string) error {
			format := snapshot.Tar
			switch {
			case strings.HasSuffix(args[0], ".tar.zst"):
				format = snapshot.TarZst
			case !strings.HasSuffix(args[0], ".tar"):
				return badSetting("the archive %q ends neither in .tar nor in .tar.zst; name it so", args[0])
			}
			ref := snapshot.Latest
			if len(args) > 1 {
				ref = args[1]
			}
			id, err := r.Resolve(ctx, ref)
			if err != nil {
				return err
			}
			if err := writeWhole(args[0], func(w io.Writer) error { return r.Persist(ctx, id, w, format) }); err != nil {
				return err
			}
			fmt.Fprintf(out, "wrote %s to %s\n", id, args[0])
			return nil
		})}
}

// writeWhole writes a new file that is there wholly, and safe on disk, or not at
// all.
func writeWhole(path string, write func(io.Writer) error) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return badSetting("%q exists; choose another name or remove it", path)
	}
	dir := filepath.Dir(path)
	f, err := unnamedFile(dir)
	unnamed := err == nil
	if !unnamed {
		f, err = os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	}
	if err != nil {
		return fmt.Errorf("the archive could not be made: %w", plainCause(err))
	}
	defer func() {
		_ = f.Close()
		if !unnamed {
			_ = os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err = f.Sync(); err == nil && unnamed {
		err = linkUnnamed(f, path)
	} else if err == nil {
		// Not a rename: that would replace what came to be there meanwhile.
		err = os.Link(f.Name(), path)
	}
	if !unnamed && (errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission)) {
		err = os.Rename(f.Name(), path) // a file system without hard links
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("the archive could not be written: %w", plainCause(err))
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// plainCause is an error without the name of a temporary file.
func plainCause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}

func newImport(with func(snapshotVerb) func(*cobra.Command, []string) error) *cobra.Command {
	var foreign bool
	cmd := &cobra.Command{
		Use: "import FILE [LABEL]", Short: "Make a snapshot of a tar, plain or compressed with gzip, bzip2, xz or zstd; the directory is not touched",
		Args: cobra.RangeArgs(1, 2), RunE: with(func(ctx context.Context, out io.Writer, r *snapshot.Repo, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return badSetting("the archive %q cannot be read (%s); name another", args[0], plainCause(err))
			}
			defer f.Close()
			label := strings.TrimSuffix(filepath.Base(args[0]), ".zst")
			label = strings.TrimSuffix(label, ".tar")
			if len(args) > 1 {
				label = args[1]
			}
			in, err := r.Import(ctx, f, snapshot.ImportRequest{Label: label, Trusted: !foreign})
			if err != nil {
				return err
			}
			fmt.Fprintln(out, in.ID)
			return nil
		})}
	cmd.Flags().BoolVar(&foreign, "foreign", false, "the archive is somebody else's: links to absolute paths or out of the tree, and names with backslashes or drive letters, are refused too")
	return cmd
}
