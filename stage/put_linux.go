package stage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"

	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

// errMoved: a running session is not stopped for a review.
var errMoved = errors.New("the session has changed it meanwhile; look again")

// put builds what the session has under another name, and exchanges the two. It gives
// what was made.
func (a *applier) put(c *Change, dir int, step journalEntry) (_ sig, err error) {
	name, tmp := step.Name, step.Temp
	if err := a.j.note(step); err != nil {
		return sig{}, err
	}
	var made unix.Stat_t
	defer func() {
		if err != nil {
			a.clear(dir, step, made.Ino)
		}
	}()
	upDir, err := treecopy.Open(int(a.s.upper.Fd()), path.Dir(c.Path))
	if err != nil {
		return sig{}, err
	}
	defer unix.Close(upDir)
	var up unix.Stat_t
	if err := unix.Fstatat(upDir, name, &up, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return sig{}, err
	}
	if a.text == nil && sigOf(&up) != c.now {
		return sig{}, errMoved
	}
	linked := a.text == nil && up.Mode&unix.S_IFMT == unix.S_IFREG && up.Nlink > 1
	first, again := a.links[up.Ino]
	switch again = again && linked; {
	case a.text != nil:
		err = a.putText(dir, name, tmp)
	case again:
		err = unix.Linkat(int(a.s.root.Fd()), first.path, dir, tmp, 0)
	case c.Type == "directory":
		err = a.putDirectory(c, upDir, dir, step)
	default:
		k := treecopy.Copier{Sync: true, NoSetID: true, Owner: a.owner(dir, name)}
		err = k.One(upDir, name, dir, tmp)
	}
	if err == nil {
		err = unix.Fstatat(dir, tmp, &made, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return sig{}, err
	}
	if again && made.Ino != first.ino {
		made.Ino = 0 // a second name of what is the person's may go
		return sig{}, conflictError(show(first.path) + ", another name of it, was changed in the project meanwhile")
	}
	if a.text == nil && !a.asListed(c, upDir, dir, tmp, &made) {
		return sig{}, errMoved
	}
	step.Step = stepSwap
	step.made(&made)
	if err := a.j.note(step); err != nil {
		return sig{}, err
	}
	if err := a.swap(c, dir, step); err != nil {
		return sig{}, err
	}
	if linked && !again {
		a.links[up.Ino] = link{c.Path, made.Ino}
	}
	return sigOf(&made), nil
}

// asListed says whether what was made is what was agreed to and gives nobody more, and
// the session's file still the one that was listed. A text is compared by its copy,
// which no session can write to.
func (a *applier) asListed(c *Change, upDir, dir int, tmp string, made *unix.Stat_t) bool {
	if typeOf(made.Mode) != c.Type || made.Mode&0o7777&^c.now.mode != 0 {
		return false
	}
	if c.Type == "file" {
		f, err := openFile(dir, tmp)
		if err != nil {
			return false
		}
		defer f.Close()
		if sum, err := contentSum(f); err != nil || sum != c.content {
			return false
		}
		if attrs, err := treecopy.Xattrs(int(f.Fd())); err != nil || !c.listedAttributes(attrs, upDir) {
			return false
		}
	}
	var up unix.Stat_t
	return unix.Fstatat(upDir, path.Base(c.Path), &up, unix.AT_SYMLINK_NOFOLLOW) == nil && sigOf(&up) == c.now
}

// listedAttributes says whether what was made has the attributes that were listed,
// which a change within one tick of the clock does not show by times. The project's
// file system may not take all of them.
func (c *Change) listedAttributes(made map[string][]byte, upDir int) bool {
	if attributesSum(made) == c.attributes {
		return true
	}
	listed := attributesAt(upDir, path.Base(c.Path))
	if attributesSum(listed) != c.attributes {
		return false
	}
	for name, value := range made {
		if now, ok := listed[name]; !ok || !bytes.Equal(now, value) {
			return false
		}
	}
	return true
}

// putDirectory builds an empty directory with the attributes that were listed: its
// times, which tell of names alone, do not say whether they are others by now.
func (a *applier) putDirectory(c *Change, upDir, dir int, step journalEntry) error {
	from, up, attrs, err := c.openListed(upDir)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	if err := unix.Mkdirat(dir, step.Temp, 0o700); err != nil {
		return err
	}
	to, err := treecopy.Open(dir, step.Temp)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	k := treecopy.Copier{Owner: a.owner(dir, step.Name)}
	return k.Set(to, up, attrs)
}

// openListed opens the session's directory of a change in the one it lies in, and
// fails unless it is as it was listed.
func (c *Change) openListed(upDir int) (fd int, up *unix.Stat_t, attrs map[string][]byte, err error) {
	if fd, err = treecopy.Open(upDir, path.Base(c.Path)); err != nil {
		return -1, nil, nil, err
	}
	up = new(unix.Stat_t)
	if err = unix.Fstat(fd, up); err == nil {
		attrs, err = treecopy.Xattrs(fd)
	}
	if err == nil && (sigOf(up) != c.now || attributesSum(attrs) != c.attributes) {
		err = errMoved
	}
	if err != nil {
		unix.Close(fd)
		return -1, nil, nil, err
	}
	return fd, up, attrs, nil
}

// swap gives what was made its name.
func (a *applier) swap(c *Change, dir int, step journalEntry) error {
	name, tmp := step.Name, step.Temp
	err := unix.Renameat2(dir, tmp, dir, name, unix.RENAME_NOREPLACE)
	if err == nil {
		if c.Kind == Added || c.Conflict != "" && a.text == nil {
			return step.has(dir, name)
		}
		// It went away at this moment.
		if err := unix.Renameat2(dir, name, dir, tmp, unix.RENAME_NOREPLACE); err != nil {
			return fmt.Errorf("it was removed in the project meanwhile, and the session's could not be taken back: %w", err)
		}
		return conflictError("removed in the project meanwhile")
	}
	if err != unix.EEXIST {
		return err
	}
	if c.Kind == Added && !a.choice.Conflicts {
		return conflictError("made in the project meanwhile")
	}
	if err := unix.Renameat2(dir, tmp, dir, name, unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	// What was exchanged is what was compared, or goes back.
	err = a.compare(c, dir, tmp)
	if err == nil {
		step.Step = stepGone
		err = a.j.note(step)
	}
	if err != nil {
		if rerr := unix.Renameat2(dir, tmp, dir, name, unix.RENAME_EXCHANGE); rerr != nil {
			err = fmt.Errorf("%w; what the project had could not be put back: %w", err, rerr)
		}
		return err
	}
	a.drop(dir, step)
	return step.has(dir, name)
}

// compare looks at what was taken away from its name in the project.
func (a *applier) compare(c *Change, dir int, tmp string) error {
	var old unix.Stat_t
	if err := unix.Fstatat(dir, tmp, &old, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if a.text != nil && !sameButCtime(sigOf(&old), a.read) {
		return conflictError("changed in the project meanwhile")
	}
	if a.choice.Conflicts {
		return nil
	}
	if base, ok := a.s.index.files[c.Path]; !ok || !sameButCtime(sigOf(&old), base) {
		return conflictError("changed in the project meanwhile")
	}
	if old.Mode&unix.S_IFMT == unix.S_IFDIR {
		if why := a.s.conflictIn(dir, tmp, c.Path); why != "" {
			return conflictError(why)
		}
	}
	return nil
}

// clear removes what was built, whose inode is ino, and nothing else: where a change
// could not be taken back, the temporary name has what is the person's.
func (a *applier) clear(dir int, step journalEntry, ino uint64) {
	var st unix.Stat_t
	if unix.Fstatat(dir, step.Temp, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return
	}
	if ino == 0 || st.Ino == ino {
		a.j.open = ignoreGone(treecopy.Remove(dir, step.Temp)) != nil || a.j.open
		return
	}
	a.giveBack(dir, step)
}

// giveBack gives what the project had its name again, or says where it is. Then the
// journal is kept, so that the next review tries again.
func (a *applier) giveBack(dir int, step journalEntry) {
	if unix.Renameat2(dir, step.Temp, dir, step.Name, unix.RENAME_NOREPLACE) == nil {
		return
	}
	a.j.open = true
	a.res.Left = append(a.res.Left, Left{path.Join(step.Dir, step.Temp), "this is what the project had as " + show(step.Name) + "; it could not be put back"})
}

// drop removes what is not needed any more.
func (a *applier) drop(dir int, step journalEntry) {
	if err := ignoreGone(treecopy.Remove(dir, step.Temp)); err != nil {
		a.j.open = true
		a.res.Left = append(a.res.Left, Left{path.Join(step.Dir, step.Temp), "this is the rest of what the project had as " + show(step.Name) + ": " + err.Error()})
	}
}

// putText builds a file of a.text that is otherwise as the one it takes the place of.
func (a *applier) putText(dir int, name, tmp string) error {
	f, err := openFile(dir, name)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	a.read = sigOf(&st)
	if b, err := io.ReadAll(io.LimitReader(f, maxText+1)); err != nil || string(b) != a.old {
		return conflictError("changed in the project meanwhile")
	}
	uid, gid := -1, -1
	if owner := a.owner(dir, name); owner != nil {
		uid, gid = owner(nil)
	}
	return build(dir, tmp, *a.text, int(f.Fd()), true, uid, gid)
}

// sameButCtime: a rename changes the ctime on some file systems.
func sameButCtime(a, b sig) bool {
	a.ctime = b.ctime
	return a == b
}

// owner is whom the copy belongs to: a root server keeps the owner of what is
// replaced, and gives the rest to the owner of the project.
func (a *applier) owner(dir int, name string) func(*unix.Stat_t) (int, int) {
	if a.s.uid < 0 {
		return nil
	}
	uid, gid := a.s.uid, a.s.gid
	var st unix.Stat_t
	if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		uid, gid = int(st.Uid), int(st.Gid)
	}
	return func(*unix.Stat_t) (int, int) { return uid, gid }
}

// remove takes a name away, and looks at what it was before it is gone for good.
func (a *applier) remove(c *Change, dir int, step journalEntry) error {
	name, tmp := step.Name, step.Temp
	step.Step = stepTake
	if err := a.j.note(step); err != nil {
		return err
	}
	if err := unix.Renameat2(dir, name, dir, tmp, unix.RENAME_NOREPLACE); err != nil {
		return ignoreGone(err)
	}
	err := a.compare(c, dir, tmp)
	if err == nil {
		step.Step = stepGone
		err = a.j.note(step)
	}
	if err != nil {
		a.giveBack(dir, step)
		return err
	}
	a.drop(dir, step)
	return nil
}
