package session

import (
	"os"
	"slices"

	"mcp-sandbox/stage"
	"mcp-sandbox/workspace"
)

// OpenSavedFiles opens the workspace of a named session for its operator, whether
// a server uses it or not, under the policy that c gives a session of it. Writes
// take their turn with those of the session's tools. Codes: session_not_found,
// invalid_argument, not_found, permission_denied.
func OpenSavedFiles(c Config, name string) (*workspace.FS, error) {
	if err := c.checkPolicy(); err != nil {
		return nil, err
	}
	st, err := stateThere(c)
	if err != nil {
		return nil, err
	}
	if st == nil {
		return nil, errorf("session_not_found", nil, "there is no saved session %q; list them with: mcp-sandbox sessions list", name)
	}
	defer st.close()
	if err := checkName(name); err != nil {
		return nil, err
	}
	d, err := st.load(name)
	if os.IsNotExist(err) {
		return nil, errorf("session_not_found", nil, "there is no saved session %q; list them with: mcp-sandbox sessions list", name)
	}
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(stage.Dir(st.dir, d.Workspace, name)); err == nil {
		return nil, errorf("invalid_argument", nil, "the session %q is staged; see what it changed with mcp-sandbox review --session %s", name, name)
	}
	policy, err := c.savedPolicy(d, st)
	if err != nil {
		return nil, err
	}
	openAs := func(uid, gid int) (*workspace.FS, error) {
		o := policy
		o.OwnerUID, o.OwnerGID, o.ActAsOwner = uid, gid, uid > 0
		return workspace.Open(d.Workspace, o)
	}
	// New files belong to whom the workspace does.
	files, err := openAs(-1, -1)
	if err != nil {
		return nil, errorf("session_not_found", err, "the workspace of the session %q is gone; resume the session to restore it from its snapshot", name)
	}
	fi, err := files.RootFile().Stat()
	if err != nil || files.Root() != d.Workspace || d.Owned && !couldBeOwned(fi) {
		files.Close()
		return nil, errorf("session_not_found", err, "another directory is where the workspace of the session %q was; move it away and resume the session", name)
	}
	uid, gid, err := ownerOf(files.RootFile())
	if err != nil || uid <= 0 || gid <= 0 || os.Geteuid() != 0 {
		return files, nil
	}
	acting, err := openAs(uid, gid)
	files.Close()
	if err != nil {
		return nil, errorf("session_not_found", err, "the workspace of the session %q is gone; resume the session to restore it from its snapshot", name)
	}
	if now, err := acting.RootFile().Stat(); err != nil || !os.SameFile(fi, now) {
		acting.Close()
		return nil, errorf("session_not_found", err, "another directory is where the workspace of the session %q was; move it away and resume the session", name)
	}
	return acting, nil
}

// savedPolicy is what a session of the saved workspace d would hide and protect.
func (c *Config) savedPolicy(d savedState, st *state) (workspace.Options, error) {
	hidden, err := c.denyList(d.Workspace, st.dirs())
	if err != nil {
		return workspace.Options{}, err
	}
	protect := slices.Concat(c.Protect, nestedProtected())
	if !d.Owned {
		protect = slices.Concat(DefaultProtected(), protectedRepositories(d.Workspace), protect)
	}
	return workspace.Options{Protect: protect, Deny: hidden, MaxFile: c.Limits.WithDefaults().FileSize}, nil
}
