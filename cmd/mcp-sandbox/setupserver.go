package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
)

// ownProgram is this program for a client's settings, which outlive caches.
func ownProgram() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "mcp-sandbox", nil
	}
	for part := range strings.SplitSeq(exe, string(filepath.Separator)) {
		if strings.HasPrefix(part, "go-build") || part == "_npx" {
			return "", badSetting("this program is in a cache that will be cleaned (%s); install it first (make install, or npm install -g) and run setup of that one", filepath.Dir(exe))
		}
	}
	return exe, nil
}

// pathFlags are the flags of serve that name files by paths. A client starts the
// server in a directory of its own choice.
var pathFlags = []string{"config", "manifest", "state-dir", "read", "write", "snapshot-store", "audit-log"}

// parseServerFlags reads flags of serve that setup adds to its own.
func parseServerFlags(s *settings, f *pflag.FlagSet, flags []string) error {
	s.register(f)
	if err := f.Parse(flags); err != nil {
		return badSetting("after -- come flags of serve: %v; see mcp-sandbox serve --help", err)
	}
	for name, instead := range map[string]string{
		"root":      "name the workspace with --root before --",
		"transport": "a client starts the server on stdio, and one that runs already is named with --http",
	} {
		if f.Changed(name) {
			return badSetting("--%s does not go after --; %s", name, instead)
		}
	}
	if f.NArg() > 0 {
		return badSetting("after -- come flags of serve, and %q is not one; see mcp-sandbox serve --help", f.Arg(0))
	}
	for _, name := range pathFlags {
		values := []string{f.Lookup(name).Value.String()}
		if list, ok := f.Lookup(name).Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, v := range values {
			if v != "" && v != "stderr" && !filepath.IsAbs(v) && !strings.Contains(v, "://") && !strings.Contains(v, "${") {
				return badSetting("--%s %q is relative, and the client starts the server elsewhere; write the whole path", name, v)
			}
		}
	}
	return nil
}

// checkServerFlags refuses flags that serve would refuse at its start in root, where a
// person reads it.
func checkServerFlags(flags []string, root string) error {
	s := settings{serving: true}
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	if err := parseServerFlags(&s, f, flags); err != nil {
		return err
	}
	if !strings.Contains(root, "${") {
		s.session.Root = root
	}
	if err := s.load(f); err != nil {
		return err
	}
	_, err := s.session.Resolve()
	return err
}

// inContainer starts the server as the one command of a container, whose workspace
// /work is root. It runs as an ordinary user without a privilege, at the level landlock.
func (o *setupOptions) inContainer(root string) (clientEntry, error) {
	if root == "" {
		return clientEntry{}, badSetting("--docker gives the container a directory; name it with --root")
	}
	if os.Getuid() == 0 {
		return clientEntry{}, badSetting("--docker runs the container as the user that owns the project, and root without privileges owns nothing; run setup as that user")
	}
	if err := parseServerFlags(&settings{}, pflag.NewFlagSet("serve", pflag.ContinueOnError), o.flags); err != nil {
		return clientEntry{}, err
	}
	return clientEntry{command: "docker", args: append([]string{"run", "--rm", "-i",
		"--user", fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid()), "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
		"-v", root + ":/work", o.docker, "serve", "--root", "/work"}, o.flags...)}, nil
}
