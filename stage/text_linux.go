package stage

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

// Sum identifies a change and its two texts, whose hunks a person has seen.
func Sum(c *Change, old, now string) string {
	h := sha256.New()
	h.Write([]byte(c.Seen))
	h.Write([]byte(old))
	h.Write([]byte{0})
	h.Write([]byte(now))
	return hex.EncodeToString(h.Sum(nil))
}

// ErrOther says that the texts are others than those that were seen.
var ErrOther = errors.New("the file has changed since it was shown")

// textOf finds the change of a text that was shown.
func (s *Stage) textOf(p, sum string) (c Change, old, now string, err error) {
	all, err := s.changes()
	if err != nil {
		return c, "", "", err
	}
	i := slices.IndexFunc(all, func(c Change) bool { return c.Path == p })
	if i < 0 || all[i].Kind != Modified {
		return c, "", "", ErrOther
	}
	old, now, ok := s.Texts(&all[i])
	if !ok || Sum(&all[i], old, now) != sum {
		return c, "", "", ErrOther
	}
	return all[i], old, now, nil
}

// ApplyHunks applies some of the hunks of a text that was shown.
func (s *Stage) ApplyHunks(p string, hunks []int, sum string, choice Choice) (Result, error) {
	res := Result{Done: []string{}}
	leave, err := s.use()
	if err != nil {
		return res, err
	}
	defer leave()
	c, old, now, err := s.textOf(p, sum)
	if err != nil {
		return res, err
	}
	text := Patch(old, Hunks(old, now), func(i int) bool { return slices.Contains(hunks, i) })
	err = s.applyText(&c, old, text, choice, &res)
	return res, err
}

// applyText gives the project's side of a change, which had old, another text than the
// session's.
func (s *Stage) applyText(c *Change, old, text string, choice Choice, res *Result) error {
	j, err := s.beginJournal()
	if err != nil {
		return err
	}
	a := newApplier(s, j, choice, res)
	a.text, a.old, a.all[c.Path] = &text, old, c
	a.take(c)
	return errors.Join(s.saveIndex(), j.end())
}

// build makes a file of text with the attributes of another, in dir.
func build(dir int, tmp, text string, like int, fresh bool, uid, gid int) error {
	fd, err := unix.Openat(dir, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for b := []byte(text); len(b) > 0; {
		n, err := unix.Write(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	k := treecopy.Copier{NoSetID: true}
	if uid >= 0 {
		k.Owner = func(*unix.Stat_t) (int, int) { return uid, gid }
	}
	if err := k.Attributes(like, fd); err != nil {
		return err
	}
	if fresh {
		if err := unix.Futimes(fd, nil); err != nil {
			return err
		}
	}
	return unix.Fsync(fd)
}

// DiscardHunks has the session lose some of the hunks of a text that was shown.
func (s *Stage) DiscardHunks(p string, hunks []int, sum string) (Result, error) {
	res := Result{Done: []string{}}
	leave, err := s.use()
	if err != nil {
		return res, err
	}
	defer leave()
	_, old, now, err := s.textOf(p, sum)
	if err != nil {
		return res, err
	}
	text := Patch(old, Hunks(old, now), func(i int) bool { return !slices.Contains(hunks, i) })
	err = s.write(p, text, now, func() error {
		if theirs, ok := readText(int(s.root.Fd()), p, false); !ok || theirs != old {
			return ErrOther
		}
		return nil
	})
	if err != nil {
		return res, err
	}
	res.Done = append(res.Done, p)
	return res, nil
}

// ApplyMerged gives a file that was changed on both sides the text that a person has
// agreed to, in the project and in the session; that it is in conflict is agreed to.
func (s *Stage) ApplyMerged(p, text, sum string, choice Choice) (Result, error) {
	res := Result{Done: []string{}}
	leave, err := s.use()
	if err != nil {
		return res, err
	}
	defer leave()
	c, old, now, err := s.textOf(p, sum)
	if err != nil {
		return res, err
	}
	choice.Conflicts = true
	if err := s.applyText(&c, old, text, choice, &res); err != nil || len(res.Done) == 0 {
		return res, err
	}
	if err := s.write(p, text, now, nil); err == errMoved {
		res.Left = append(res.Left, Left{p, "the project has the merged text, but the session has changed it meanwhile and keeps its own; look again"})
	} else if err != nil {
		return res, err
	}
	return res, nil
}

// write gives a file of the session, which has the text now, another one; errMoved if
// it has another by then. Both are one step with agreed, if there is one: the names
// are exchanged, and go back where what was taken is not what was meant.
func (s *Stage) write(p, text, now string, agreed func() error) error {
	if s.Merged == nil && s.lock == nil {
		return ErrInUse
	}
	top, as := int(s.upper.Fd()), func(f func() error) error { return f() }
	if s.Merged != nil {
		top, as = int(s.Merged.Fd()), s.as
	}
	dir, err := treecopy.Open(top, path.Dir(p))
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	like, err := openFile(dir, path.Base(p))
	if err != nil {
		return err
	}
	defer like.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(like.Fd()), &st); err != nil {
		return err
	}
	uid, gid := -1, -1
	if s.Merged == nil && s.uid >= 0 {
		uid, gid = int(st.Uid), int(st.Gid)
	}
	return as(func() error {
		tmp := treecopy.TempName()
		err := build(dir, tmp, text, int(like.Fd()), true, uid, gid)
		if err != nil {
			treecopy.Remove(dir, tmp)
			return err
		}
		return exchangeIf(dir, tmp, path.Base(p), func() error {
			taken, err := openFile(dir, tmp)
			if err != nil {
				return err
			}
			defer taken.Close()
			var is unix.Stat_t
			if err := unix.Fstat(int(taken.Fd()), &is); err != nil {
				return err
			}
			if b, err := io.ReadAll(io.LimitReader(taken, maxText+1)); err != nil || string(b) != now || !sameButCtime(sigOf(&is), sigOf(&st)) {
				return errMoved
			}
			if agreed != nil {
				return agreed()
			}
			return nil
		})
	})
}

// exchangeIf gives what is at tmp the name, and removes what had it if check takes
// that, which is at tmp then; otherwise the two change back and tmp is removed. All of
// it is in the tree of a session, which may put something else at either name at any
// moment: what it saves under the name after the exchange stays, and is told of. What
// it puts at tmp is removed in the place of what was there, and nothing else, as
// removing follows no link.
func exchangeIf(dir int, tmp, name string, check func() error) error {
	made, err := unix.Openat(dir, tmp, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(made)
		err = unix.Renameat2(dir, tmp, dir, name, unix.RENAME_EXCHANGE)
	}
	if err == nil {
		if err = check(); err == nil {
			if err = treecopy.Remove(dir, tmp); err == nil && !isAt(made, dir, name) {
				err = errMoved
			}
			return err
		}
		if rerr := unix.Renameat2(dir, tmp, dir, name, unix.RENAME_EXCHANGE); rerr != nil {
			return fmt.Errorf("%w; what the session had is %s and could not be put back: %w", err, show(visible(dir, tmp, name)), rerr)
		}
		if !isAt(made, dir, tmp) { // it was saved over what was built
			if rerr := unix.Renameat(dir, tmp, dir, name); rerr != nil {
				return errors.Join(err, rerr)
			}
			return err
		}
	}
	treecopy.Remove(dir, tmp)
	if err == unix.ENOENT {
		return errMoved
	}
	return err
}

// isAt says whether an open file has a name.
func isAt(fd, dir int, name string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(fd, &a) == nil && unix.Fstatat(dir, name, &b, unix.AT_SYMLINK_NOFOLLOW) == nil && a.Ino == b.Ino && a.Dev == b.Dev
}

// visible gives what is at tmp a name that is listed, and that no Prune removes.
func visible(dir int, tmp, name string) string {
	for i := range 100 {
		kept := fmt.Sprintf("%s.kept-%d", name, i+1)
		if unix.Renameat2(dir, tmp, dir, kept, unix.RENAME_NOREPLACE) == nil {
			return kept
		}
	}
	return tmp
}

// Base tells the file that the project had at a path when the stage last agreed with
// it, by its size and mtime in nanoseconds.
func (s *Stage) Base(p string) (size, mtime int64, ok bool) {
	leave, err := s.use()
	if err != nil {
		return 0, 0, false
	}
	defer leave()
	g, ok := s.index.files[p]
	return g.size, g.mtime, ok && g.mode&unix.S_IFMT == unix.S_IFREG
}
