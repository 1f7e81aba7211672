package session

import (
	"os"

	"mcp-sandbox/workspace"
)

// OpenSavedFiles opens the workspace of a named session for its operator, whether
// a server uses it or not. Writes take their turn with those of the session's
// tools. Codes: session_not_found, invalid_argument.
func OpenSavedFiles(c Config, name string) (*workspace.FS, error) {
	st, err := stateOf(c)
	if err != nil {
		return nil, err
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
	// New files belong to whom the workspace does.
	files, err := openAs(d.Workspace, -1, -1)
	if err != nil {
		return nil, errorf("session_not_found", err, "the workspace of the session %q is gone; resume the session to have it back from its snapshot", name)
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
	acting, err := openAs(d.Workspace, uid, gid)
	files.Close()
	if err != nil {
		return nil, errorf("session_not_found", err, "the workspace of the session %q is gone; resume the session to have it back from its snapshot", name)
	}
	if now, err := acting.RootFile().Stat(); err != nil || !os.SameFile(fi, now) {
		acting.Close()
		return nil, errorf("session_not_found", err, "another directory is where the workspace of the session %q was; move it away and resume the session", name)
	}
	return acting, nil
}

func openAs(root string, uid, gid int) (*workspace.FS, error) {
	return workspace.Open(root, workspace.Options{OwnerUID: uid, OwnerGID: gid, ActAsOwner: uid > 0})
}
