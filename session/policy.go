package session

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"mcp-sandbox/deny"
	"mcp-sandbox/hostpath"
	"mcp-sandbox/sandbox"
)

// hidden are the patterns of what neither commands, file tools nor snapshots show, the
// server's own files among them. The state directory is apart: see denyList.
func (c *Config) hidden() []string {
	out := slices.Clone(c.DenyRead)
	if c.DenySecrets {
		out = append(out, deny.Secrets()...)
	}
	for _, p := range c.Private {
		if abs, err := filepath.Abs(p); err == nil {
			out = append(out, abs)
		}
	}
	if c.SnapshotStore != "" && c.OpenStore == nil {
		if abs, err := filepath.Abs(c.SnapshotStore); err == nil {
			out = append(out, abs)
		}
	}
	return out
}

// denyList is what the file tools, snapshots and manifests of a workspace leave
// alone. Codes: invalid_argument.
func (c *Config) denyList(root string, stateDirs []string) (*deny.List, error) {
	return denyList(sandbox.Policy{
		Workspace: root, Read: c.Read, Write: c.Write, DenyRead: c.hidden(), StateDirs: stateDirs,
	})
}

// denyList is what p hides, the server's own directories included.
func denyList(p sandbox.Policy) (*deny.List, error) {
	l, err := deny.Parse(slices.Concat(p.DenyRead, p.StateDirs), p.Workspace, slices.Concat(p.Read, p.Write))
	if err != nil {
		return nil, errorf("invalid_argument", nil, "--deny-read: %v", err)
	}
	return l, nil
}

// checkPolicy refuses lists that no session could be made with, naming the
// setting and the value. Codes: invalid_argument, not_found, permission_denied.
func (c *Config) checkPolicy() error {
	for _, p := range c.DenyRead {
		if err := deny.Check(p); err != nil {
			return errorf("invalid_argument", nil, "--deny-read: %v", err)
		}
		if abs, err := filepath.Abs(p); c.Root != "" && err == nil && filepath.IsAbs(p) && abs == c.Root {
			return errorf("invalid_argument", nil, "--deny-read %q is the workspace itself; name what is to be hidden in it", p)
		}
	}
	for _, p := range c.Protect {
		rest := strings.TrimPrefix(p, "**/")
		if !filepath.IsLocal(rest) || filepath.Clean(rest) == "." || strings.ContainsRune(p, 0) || strings.Contains(rest, "**") {
			return errorf("invalid_argument", nil, "--protect %q is not a path below the workspace; write one such as .github or **/.envrc", p)
		}
	}
	return c.checkGrants()
}

// checkGrants looks at read and write grants. No link is followed that lies in
// the workspace or in a write grant, where an earlier session may have put it.
func (c *Config) checkGrants() error {
	var writable []string
	if c.Root != "" {
		writable = append(writable, c.Root)
	}
	for _, w := range c.Write {
		// As far as the name goes: a write grant that is a planted link itself is
		// caught by the one it lies in.
		if real, err := filepath.EvalSymlinks(w); err == nil {
			writable = append(writable, real)
		}
	}
	for _, list := range []struct {
		flag  string
		paths []string
	}{{"--read", c.Read}, {"--write", c.Write}} {
		for _, p := range list.paths {
			if err := c.checkGrant(list.flag, p, writable); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Config) checkGrant(flag, p string, writable []string) error {
	if !filepath.IsAbs(p) || strings.ContainsRune(p, 0) {
		return errorf("invalid_argument", nil, "%s %q is not an absolute path; write it in full", flag, p)
	}
	real, err := hostpath.Resolve(p, writable)
	var planted *hostpath.PlantedError
	switch {
	case errors.As(err, &planted):
		return errorf("invalid_argument", nil, "%s %q is refused: %v; name the place it should lead to, or remove the link", flag, p, planted)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return errorf("not_found", nil, "%s %q does not exist; make it or leave it out", flag, p)
	case err != nil:
		return errorf("permission_denied", err, "%s %q cannot be reached; check its permissions", flag, p)
	case real == "/":
		return errorf("invalid_argument", nil, "%s %q is the whole file system; grant a directory in it", flag, p)
	case real == "/proc" || within(real, "/proc"):
		return errorf("invalid_argument", nil, "%s %q lies in /proc, which shows the session's own processes; leave it out", flag, p)
	}
	return nil
}

// checkReadOnly refuses what does not go with a workspace that is only read.
func (c *Config) checkReadOnly() error {
	why := ""
	switch {
	case !c.ReadOnlyRoot:
		return nil
	case c.Root == "":
		why = "it needs a workspace of yours; name one with --root"
	case c.Staged:
		why = "--staged is for changes that wait; leave one of the two out"
	case c.Home == "workspace":
		why = "--home workspace would be a home that nothing can be written to; leave it out"
	case c.from() != "":
		why = "--from would write into the workspace; leave it out, or use --read-only-tools"
	case c.Manifest != nil && len(c.Manifest.Entries) > 0:
		why = "the entries of the manifest would be written into the workspace; leave them out, or use --read-only-tools"
	default:
		open := slices.Clone(c.Write)
		if c.Manifest != nil {
			for _, g := range c.Manifest.Grants {
				if !g.ReadOnly {
					open = append(open, g.Path)
				}
			}
		}
		for _, w := range open {
			if real, err := filepath.EvalSymlinks(w); err == nil && (real == c.Root || within(c.Root, real)) {
				why = fmt.Sprintf("the workspace lies in %q, which may be written to; grant less", w)
			}
		}
		if why == "" {
			return nil
		}
	}
	return errorf("invalid_argument", nil, "--read-only does not work here: %s", why)
}

// maxPolicyNames bounds the names of one list in PolicyText.
const maxPolicyNames = 12

// PolicyText says in a few lines what of the host is granted, hidden and
// protected, for people and models; "" when nothing is.
func (m *Manager) PolicyText() string { return m.config.policyText(m.config.Root != "") }

// PolicyText is the policy of the session, its manifest's grants included.
func (s *Session) PolicyText() string { return s.config.policyText(!s.owned) }

func (c *Config) policyText(project bool) string {
	var parts []string
	list := func(what string, names []string) {
		if len(names) == 0 {
			return
		}
		more := ""
		if n := len(names) - maxPolicyNames; n > 0 {
			names, more = names[:maxPolicyNames], fmt.Sprintf(" and %d more", n)
		}
		shown := make([]string, len(names))
		for i, n := range names {
			shown[i] = sandbox.OneLine(n)
		}
		parts = append(parts, what+" "+strings.Join(shown, ", ")+more)
	}
	if c.ReadOnlyRoot {
		parts = append(parts, "The workspace is read-only for commands and tools: write to $TMPDIR or $HOME, which end with the session")
	}
	list("Readable besides the workspace:", c.Read)
	list("Writable besides the workspace:", c.Write)
	hidden := slices.Clone(c.DenyRead)
	if c.DenySecrets {
		hidden = append(hidden, "the usual secrets (.env*, private keys, credentials files)")
	}
	list("Hidden from commands and tools:", hidden)
	protected, byDefault := slices.Clone(c.Protect), "git hooks and configuration, settings of editors and agents, shell start-up files"
	if project && !c.Staged || len(c.Write) > 0 {
		where := ""
		if c.Staged {
			where = " in what is writable besides the workspace"
		}
		protected = append(protected, byDefault+where)
	}
	list("Protected from changes:", protected)
	if project && c.Staged {
		parts = append(parts, "The workspace is staged: changes wait, and only a person applies those to "+byDefault)
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, ". ") + "."
}
