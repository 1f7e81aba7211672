package session

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"mcp-sandbox/fsuser"
)

// maxPutBack bounds what is kept of one session's changes, in files.
const maxPutBack = 1000

// keep copies what is at p to the state directory.
func (g *gitSeen) keep(l *gitLook, p string) {
	f := readGitFile(l.root, p)
	if g.count++; f == nil || g.count > maxPutBack {
		return
	}
	if f.mode&fs.ModeSymlink != 0 {
		f.text = "a link to " + f.text + "\n"
	}
	name := strings.NewReplacer("%", "%25", "/", "%2F").Replace(p)
	if os.MkdirAll(g.kept, 0o700) == nil {
		_ = os.WriteFile(filepath.Join(g.kept, fmt.Sprintf("%04d-%s", g.count, name[max(0, len(name)-200):])), []byte(f.text), 0o600)
	}
}

// replaceGit makes p what f says, nothing for nil.
func (s *Session) replaceGit(l *gitLook, p string, f *gitFile) error {
	return s.asOwner(func() error {
		if fi, err := l.root.Lstat(p); err == nil && fi.IsDir() {
			return nil // git obeys no directory of that name
		}
		if err := l.root.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if f == nil {
			return nil
		}
		if err := l.root.MkdirAll(path.Dir(p), 0o755); err != nil {
			return err
		}
		if f.mode&fs.ModeSymlink != 0 {
			return l.root.Symlink(f.text, p)
		}
		out, err := l.root.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.mode.Perm())
		if err != nil {
			return err
		}
		_, err = out.WriteString(f.text)
		return errors.Join(err, out.Chmod(f.mode.Perm()), out.Close())
	})
}

// asOwner acts with the file rights of the workspace's owner.
func (s *Session) asOwner(f func() error) error {
	uid, gid := s.fileOwner()
	if uid <= 0 {
		return f()
	}
	user, err := fsuser.New(uid, gid)
	if err != nil {
		return err
	}
	leave, err := user.Enter()
	if err != nil {
		return err
	}
	defer leave()
	return f()
}
