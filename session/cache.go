package session

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A cache is a directory in the state directory that the sessions of one
// principal in one caller's directory share: what package managers fetch and
// compilers build is there for the next session. Commands write it, so it is
// untrusted like them: no other root, principal or program reads it.
//
// Three names belong to one: KEY, KEY.lock, which every session that uses it
// holds shared and whoever removes it exclusively, and KEY.size, its size when a
// session ended last.

// defaultCacheLimit bounds all caches of a state directory together, in bytes.
const defaultCacheLimit = 10 << 30

// cacheUse is a cache in use.
type cacheUse struct {
	dir  string
	lock *os.File
}

func (s *state) cachesDir() string { return filepath.Join(s.dir, "caches") }

// cacheKey names the cache of a principal in a root, without giving either away.
func cacheKey(principal, root string) string {
	sum := sha256.Sum256([]byte(principal + "\x00" + root))
	return hex.EncodeToString(sum[:16])
}

// openCache makes or takes the cache of a principal in a root, for commands of
// uid and gid; -1 is the server's own.
func (s *state) openCache(principal, root string, uid, gid int) (_ *cacheUse, err error) {
	if err := os.Mkdir(s.cachesDir(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	dir := filepath.Join(s.cachesDir(), cacheKey(principal, root))
	for {
		lock, err := os.OpenFile(dir+".lock", os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err = unix.Flock(int(lock.Fd()), unix.LOCK_SH); err == nil && isStill(lock, dir+".lock") {
			if err = s.makeCache(dir, uid, gid); err == nil {
				now := time.Now()
				err = os.Chtimes(dir+".lock", now, now)
			}
			if err != nil {
				lock.Close()
				return nil, err
			}
			return &cacheUse{dir, lock}, nil
		}
		lock.Close()
		if err != nil {
			return nil, err
		}
	}
}

// makeCache makes the directory, or refuses one that is another user's.
func (s *state) makeCache(dir string, uid, gid int) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := openRoot(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if uid < 0 {
		return nil
	}
	owner, _, err := ownerOf(f)
	if err == nil && owner != uid {
		if entries, rerr := f.Readdirnames(1); rerr == nil && len(entries) > 0 {
			return errors.New("it has files of another user")
		}
		err = f.Chown(uid, gid)
	}
	return err
}

// close gives the cache back, notes its size, and removes the caches used longest
// ago until all are within limit. A cache that is too large by itself goes whole.
func (c *cacheUse) close(limit int64) error {
	size := diskUsage(c.dir)
	// On a full disk it counts as empty until the next session has ended.
	_ = os.WriteFile(c.dir+".size", []byte(strconv.FormatInt(size, 10)), 0o600)
	err := c.lock.Close()
	_, _, terr := trimCaches(filepath.Dir(c.dir), cmp.Or(limit, defaultCacheLimit))
	return errors.Join(err, terr)
}

// diskUsage is what a tree takes on disk, in bytes.
func diskUsage(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone or closed meanwhile
		}
		if fi, err := d.Info(); err == nil {
			n += onDisk(fi)
		}
		return nil
	})
	return n
}

// trimCaches removes caches, those used longest ago first, until the rest takes
// at most limit bytes. Those in use stay. Of each the size counts that it had
// when its last session ended.
func trimCaches(dir string, limit int64) (removed, inUse int, err error) {
	type cache struct {
		path string
		size int64
		used time.Time
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	var all []cache
	var total int64
	var errs []error
	for _, e := range entries {
		path, ok := strings.CutSuffix(filepath.Join(dir, e.Name()), ".lock")
		if strings.Contains(e.Name(), ".removed-") {
			errs = append(errs, removeCacheTree(filepath.Join(dir, e.Name()))) // of a killed server
			continue
		}
		if !ok {
			continue
		}
		c := cache{path: path}
		if fi, err := e.Info(); err == nil {
			c.used = fi.ModTime()
		}
		if b, err := os.ReadFile(path + ".size"); err == nil {
			c.size, _ = strconv.ParseInt(string(b), 10, 64)
		}
		total += c.size
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b cache) int { return a.used.Compare(b.used) })
	for _, c := range all {
		if total <= limit && limit > 0 {
			break
		}
		gone, err := removeCache(c.path)
		errs = append(errs, err)
		if gone {
			removed++
			total -= c.size
		} else {
			inUse++
		}
	}
	return removed, inUse, errors.Join(append(errs, err)...)
}

// removeCache removes a cache unless a session uses it.
func removeCache(dir string) (removed bool, err error) {
	lock, err := os.OpenFile(dir+".lock", os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil || !isStill(lock, dir+".lock") {
		return false, nil
	}
	// Renamed first, so that an interrupted removal leaves no partial cache.
	away := dir + ".removed-" + newID()
	if err := os.Rename(dir, away); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, errors.Join(removeCacheTree(away), ignoreMissing(os.Remove(dir+".size")), os.Remove(dir+".lock"))
}

// removeCacheTree removes a tree in which directories may be read-only, as Go
// makes them in its module cache. Nothing writes there any more.
func removeCacheTree(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// CleanCaches removes the caches of the configuration's state directory that no
// session uses, and reports how many it removed and how many are in use.
func CleanCaches(c Config) (removed, inUse int, err error) {
	dir := cmp.Or(c.StateDir, DefaultStateDir())
	if dir == "" {
		return 0, 0, errorf("not_found", nil, "there is no state directory; name one with --state-dir")
	}
	removed, inUse, err = trimCaches(filepath.Join(dir, "caches"), 0)
	if err != nil {
		err = errorf("internal", err, "a cache could not be removed; check the rights of the state directory")
	}
	return removed, inUse, err
}

// takeCache finds the session's cache, where one is wanted: commands in a
// caller's directory with a private home. A session starts without it rather than
// not at all.
func (s *Session) takeCache() string {
	if s.config.NoCache || s.owned || s.homeInWorkspace() {
		return ""
	}
	if s.cache == nil {
		uid, gid := s.fileOwner()
		c, err := s.state.openCache(s.config.principal, s.root, uid, gid)
		if err != nil {
			s.log.Warn("the session has no cache that stays", "error", err)
			return ""
		}
		s.cache = c
	}
	return s.cache.dir
}
