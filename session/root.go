package session

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Unprivileged ids for owned workspaces of a root server: systemd's range for
// dynamic users, which no distribution hands out to accounts (systemd.exec(5),
// DynamicUser=). Running there instead of as root makes RLIMIT_NPROC hold, which
// the kernel does not enforce for uid 0 (setrlimit(2)).
const (
	dynamicUIDMin = 61184
	dynamicUIDMax = 65519
)

// systemDirs are never a workspace: writing there changes the machine, and
// the sandbox mounts its own over most of them.
var systemDirs = []string{
	"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/run",
	"/sbin", "/sys", "/tmp", "/usr", "/var", "/var/tmp", "/opt", "/srv", "/mnt", "/media",
	"/System", "/Library", "/Applications", "/private", "/private/tmp", "/private/etc", "/private/var", "/Volumes",
}

// CheckRoot resolves a caller-chosen workspace once and refuses those that would
// hand the model more than a project: "/", a system directory, a home directory or one
// that holds homes, and any directory above or below the server's own state.
// Codes: invalid_argument, not_found, not_a_directory, permission_denied.
func CheckRoot(path, stateDir string) (string, error) {
	if path == "" || strings.ContainsRune(path, 0) {
		return "", errorf("invalid_argument", nil, "the workspace path is empty or holds a NUL byte; name a directory with --root")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", errorf("invalid_argument", err, "the workspace path %q cannot be made absolute; name it in full", path)
	}
	// Resolved here once; the sandbox later refuses any link in the result, so a
	// component swapped for a link after this point is noticed, not followed.
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		if os.IsNotExist(err) && strings.HasPrefix(path, "~") {
			return "", errorf("not_found", err, "the workspace %q does not exist: ~ is expanded by a shell alone; write the directory in full", path)
		}
		if os.IsNotExist(err) && strings.Contains(path, "${") {
			return "", errorf("not_found", err, "the workspace %q does not exist: the client did not replace the variable; write the directory in full", path)
		}
		if os.IsNotExist(err) {
			return "", errorf("not_found", err, "the workspace %q does not exist; create it first", path)
		}
		return "", errorf("permission_denied", err, "the workspace %q cannot be reached; check its permissions", path)
	}
	fi, err := os.Stat(real)
	if err != nil {
		return "", errorf("permission_denied", err, "the workspace %q cannot be read; check its permissions", path)
	}
	if !fi.IsDir() {
		return "", errorf("not_a_directory", nil, "the workspace %q is not a directory; name a directory", path)
	}
	if real == "/" {
		return "", errorf("invalid_argument", nil, "the workspace may not be %q: that is the whole machine; name a project directory", "/")
	}
	for _, d := range systemDirs {
		if real == d {
			return "", errorf("invalid_argument", nil, "the workspace may not be %q: that is a system directory; name a directory below it", real)
		}
	}
	for _, home := range homeDirs() {
		if real == home {
			return "", errorf("invalid_argument", nil, "the workspace may not be %q: that is a home directory, with keys and shell start-up files in it; name a project directory below it", real)
		}
		if within(home, real) {
			return "", errorf("invalid_argument", nil, "the workspace may not be %q: it holds the home directory %q; name a project directory", real, home)
		}
	}
	if stateDir != "" {
		if st, err := filepath.EvalSymlinks(stateDir); err == nil {
			stateDir = st
		}
		if real == stateDir || within(stateDir, real) {
			return "", errorf("invalid_argument", nil, "the workspace may not be %q: the server's own state lies in it; name another directory or move the state with --state-dir", real)
		}
		if within(real, stateDir) {
			return "", errorf("invalid_argument", nil, "the workspace may not be %q: it lies in the server's own state; name another directory", real)
		}
	}
	return real, nil
}

// within reports whether path lies strictly below dir; both absolute and clean.
func within(path, dir string) bool {
	if dir == "/" {
		return path != "/"
	}
	return strings.HasPrefix(path, dir+"/")
}

// homeDirs lists the homes of root and of people (uid 1000 and up), and the
// caller's own, resolved.
func homeDirs() []string {
	var out []string
	add := func(p string) {
		if p == "" || !filepath.IsAbs(p) || p == "/" {
			return
		}
		if real, err := filepath.EvalSymlinks(p); err == nil {
			p = real
		}
		out = append(out, filepath.Clean(p))
	}
	if h, err := os.UserHomeDir(); err == nil {
		add(h)
	}
	f, err := os.Open("/etc/passwd")
	if err != nil {
		return out
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		fields := strings.Split(sc.Text(), ":")
		if len(fields) < 7 {
			continue
		}
		uid, err := strconv.Atoi(fields[2])
		if err != nil || (uid != 0 && uid != os.Getuid() && (uid < 1000 || uid >= dynamicUIDMin)) {
			continue
		}
		add(fields[5])
	}
	return out
}

// ownedRootPath chooses where an owned workspace will be: a name with a random
// part in the resolved temporary directory.
func ownedRootPath(tempDir, id string) (string, error) {
	if tempDir == "" {
		tempDir = os.TempDir()
	}
	tempDir, err := filepath.Abs(tempDir)
	if err != nil {
		return "", err
	}
	if tempDir, err = filepath.EvalSymlinks(tempDir); err != nil {
		return "", err
	}
	return filepath.Join(tempDir, "mcp-sandbox-"+id[:12]), nil
}

// upcomingID is the id of the workspace that is made next. It is drawn ahead, so that
// the session's init can be started ahead for it.
type upcomingID struct {
	mu sync.Mutex
	id int // 0 until it is asked for
}

var upcoming upcomingID

func (u *upcomingID) peek() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.id == 0 {
		u.id = drawID()
	}
	return u.id
}

// take gives an id to one workspace: two that are made at once get one each.
func (u *upcomingID) take() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	id := u.id
	if id == 0 {
		id = drawID()
	}
	u.id = 0
	return id
}

func drawID() int { return dynamicUIDMin + rand.IntN(dynamicUIDMax-dynamicUIDMin+1) }

// UpcomingID is the user and group that the next workspace of a root server's own
// belongs to, -1 where the server is not root and it is the server's.
func UpcomingID() int {
	if os.Geteuid() != 0 {
		return -1
	}
	return upcoming.peek()
}

// chownToSandbox hands a directory of a root server to an unprivileged id that no account
// has, so that its commands are not root. -1 is the server's own id.
func chownToSandbox(dir string) (uid, gid int, err error) {
	if os.Geteuid() != 0 {
		return -1, -1, nil
	}
	id := upcoming.take()
	if err := os.Chown(dir, id, id); err != nil {
		// A root without CAP_CHOWN (some containers): its files stay its own.
		return -1, -1, nil
	}
	return id, id, nil
}

// couldBeOwned says whether the owner is one that a workspace made here has: no
// other account can make a directory that passes.
func couldBeOwned(fi os.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	uid, own := int(st.Uid), os.Geteuid()
	return uid == own || own == 0 && uid >= dynamicUIDMin && uid <= dynamicUIDMax
}

func openRoot(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

func ownerOf(f *os.File) (uid, gid int, err error) {
	fi, err := f.Stat()
	if err != nil {
		return -1, -1, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return -1, -1, fmt.Errorf("no owner for %s", f.Name())
	}
	return int(st.Uid), int(st.Gid), nil
}

func identity(fi os.FileInfo) (dev, ino uint64) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0
	}
	return uint64(st.Dev), uint64(st.Ino) //nolint:unconvert // Dev is int32 on darwin
}

// removeOwned deletes a workspace we made. The path is only trusted when it
// still names the inode that was made: a directory swapped in under that name is
// somebody else's and stays.
func removeOwned(root string, made *os.File) error {
	if made == nil {
		return os.Remove(root)
	}
	want, err := made.Stat()
	if err != nil {
		return err
	}
	return removeIfSame(root, want)
}

func removeIfSame(root string, want os.FileInfo) error {
	wantDev, wantIno := identity(want)
	return removeIdentified(root, wantDev, wantIno)
}

func removeIdentified(root string, dev, ino uint64) error {
	now, err := os.Lstat(root)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if d, i := identity(now); d != dev || i != ino {
		return fmt.Errorf("workspace was replaced, left in place")
	}
	if err := os.RemoveAll(root); err == nil {
		return nil
	}
	// A command may have taken away the write bit of its own directories, which only
	// stops us when we are not root: give it back, below the root only, then
	// retry.
	openDirs(root)
	return os.RemoveAll(root)
}

func openDirs(root string) {
	if fi, err := os.Lstat(root); err != nil || !fi.IsDir() {
		return // a link's target is not ours to open
	}
	r, err := os.OpenRoot(root)
	if err != nil {
		_ = os.Chmod(root, 0o700)
		if r, err = os.OpenRoot(root); err != nil {
			return
		}
	}
	defer r.Close()
	_ = r.Chmod(".", 0o700)
	chmodDirs(r)
}

func chmodDirs(r *os.Root) {
	d, err := r.Open(".")
	if err != nil {
		return
	}
	entries, _ := d.ReadDir(-1)
	d.Close()
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		_ = r.Chmod(e.Name(), 0o700)
		if sub, err := r.OpenRoot(e.Name()); err == nil {
			chmodDirs(sub)
			sub.Close()
		}
	}
}
