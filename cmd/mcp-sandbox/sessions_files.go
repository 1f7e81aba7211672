package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"mcp-sandbox/session"
	"mcp-sandbox/workspace"
)

// maxPut bounds what sessions put holds in memory, in bytes.
const maxPut = 1 << 30

func newSessionsGet() *cobra.Command {
	return savedFiles("get NAME PATH [FILE]", "Copy a file of a named session to FILE, or to standard output",
		func(ctx context.Context, cmd *cobra.Command, files *workspace.FS, path, local string) error {
			from, err := files.OpenFile(path)
			if err != nil {
				return err
			}
			defer from.Close()
			copyTo := func(w io.Writer) error {
				if _, err := io.Copy(w, from); err != nil {
					return errors.Join(errors.New("the file could not be copied"), plainCause(err))
				}
				return nil
			}
			if local == "" || local == "-" {
				return copyTo(cmd.OutOrStdout())
			}
			return writeWhole(local, copyTo)
		})
}

func newSessionsPut() *cobra.Command {
	return savedFiles("put NAME PATH [FILE]", "Write FILE, or standard input, to a file of a named session",
		func(ctx context.Context, cmd *cobra.Command, files *workspace.FS, path, local string) error {
			in := cmd.InOrStdin()
			if local != "" && local != "-" {
				f, err := os.Open(local)
				if err != nil {
					return badSetting("%q cannot be read (%s); name another file", local, plainCause(err))
				}
				defer f.Close()
				in = f
			}
			b, err := io.ReadAll(io.LimitReader(in, maxPut+1))
			if err != nil {
				return badSetting("the input cannot be read (%s); name a file", plainCause(err))
			}
			if len(b) > maxPut {
				return badSetting("the input is over 1 GiB; split it")
			}
			_, err = files.WriteFile(ctx, workspace.WriteRequest{Path: path, Content: b, Binary: true})
			return err
		})
}

// savedFiles is a command about one file of a named session.
func savedFiles(use, short string, do func(ctx context.Context, cmd *cobra.Command, files *workspace.FS, path, local string) error) *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.load(cmd.Flags()); err != nil {
				return err
			}
			files, err := session.OpenSavedFiles(s.session, args[0])
			if err != nil {
				return err
			}
			defer files.Close()
			local := ""
			if len(args) > 2 {
				local = args[2]
			}
			return do(cmd.Context(), cmd, files, args[1], local)
		},
	}
	s.register(cmd.Flags())
	showThese(cmd.Flags(), "state-dir", "config", "deny-read", "deny-secrets", "protect", "limit-file-size", "key-file")
	return cmd
}
