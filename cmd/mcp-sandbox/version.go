package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"mcp-sandbox/confine"
)

// release is set by the linker for released builds.
var release = ""

func version() string {
	if release != "" {
		return release
	}
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" && bi.Main.Version != "(devel)" {
		return bi.Main.Version
	}
	return "devel"
}

func commit() string {
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	rev, dirty := "unknown", ""
	for _, s := range bi.Settings {
		switch {
		case s.Key == "vcs.revision":
			rev = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+changes"
		}
	}
	return rev + dirty
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit, Go, kernel and Landlock ABI",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "mcp-sandbox %s\ncommit %s\ngo %s %s/%s\nkernel %s\n", version(), commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH, kernelRelease())
			if abi := confine.Probe(cmd.Context()).LandlockABI; abi > 0 {
				fmt.Fprintf(out, "landlock ABI %d\n", abi)
			} else {
				fmt.Fprintln(out, "landlock not available")
			}
			return nil
		},
	}
}
