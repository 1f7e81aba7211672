package gitstage

import (
	"errors"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// LookLeft gives what the project has where something would go that stayed in a
// session.
func LookLeft(root *os.File, l *Left, o Options) (now LeftNow, err error) {
	err = l.in(root, o, func(dir tree) error {
		now, err = l.now(dir)
		return err
	})
	return now, err
}

// ApplyLeft gives the project what stayed in a session, behind git's own lock. agreed
// says whether it may take the place of what is there; it is asked under the lock, and
// what it was asked about is what is replaced.
func ApplyLeft(root *os.File, l *Left, agreed func(LeftNow) error, o Options) error {
	if l.Unfit != "" {
		return errors.New(l.Unfit)
	}
	return l.in(root, o, func(dir tree) error {
		dir.dropLocksIn(path.Dir(l.File())) // of a review that was killed
		return waitLocked(func() error {
			if l.Kind == LeftSetting {
				return l.applySetting(dir, agreed)
			}
			return l.applyFile(dir, agreed)
		})
	})
}

// in runs f in the git directory.
func (l *Left) in(root *os.File, o Options, f func(dir tree) error) error {
	p := &Publisher{root: tree{int(root.Fd())}, path: root.Name(), outside: map[string]tree{}}
	for at, d := range o.Outside {
		p.outside[at] = tree{int(d.Fd())}
	}
	return asOwner(o.UID, o.GID, func() error {
		dir, err := p.gitDir(l.Dir)
		if err == unix.ENOENT || err == unix.ENOTDIR || path.IsAbs(l.Dir) && err != nil {
			return ErrGone
		}
		if err != nil {
			return err
		}
		defer dir.close()
		if _, err := dir.stat("HEAD"); err != nil {
			return ErrGone
		}
		if dev, ino, err := dir.identity(); err != nil || dev != l.Dev || ino != l.Ino {
			return ErrReplaced
		}
		return f(dir)
	})
}

func (l *Left) now(dir tree) (now LeftNow, err error) {
	if l.Kind != LeftSetting {
		if now.Text, now.Mode, err = dir.readMode(l.Name); err == unix.ENOENT {
			err = nil
		}
		return now, err
	}
	f, _, err := dir.config("config")
	if err != nil {
		return now, err
	}
	now.Values = f.Values(l.Section, l.Subsection, l.Key)
	return now, nil
}

func (l *Left) applySetting(dir tree, agreed func(LeftNow) error) error {
	return dir.locked("config", 0o644, func() ([]byte, error) {
		f, size, err := dir.config("config")
		if err != nil {
			return nil, err
		}
		now := LeftNow{Values: f.Values(l.Section, l.Subsection, l.Key)}
		if err := agreed(now); err != nil {
			return nil, err
		}
		if l.Same(&now) {
			return nil, nil
		}
		if err := f.Set(l.Section, l.Subsection, l.Key, l.Values); err != nil {
			return nil, err
		}
		if l.Bare {
			// Another file would take it from the session that runs.
			return nil, (&repo{real: dir}).writeInPlace("config", f.Text(), size)
		}
		return []byte(f.Text()), nil
	})
}

func (l *Left) applyFile(dir tree, agreed func(LeftNow) error) error {
	return dir.locked(l.Name, 0o644, func() ([]byte, error) {
		now, err := l.now(dir)
		if err != nil {
			return nil, err
		}
		if err := agreed(now); err != nil {
			return nil, err
		}
		if l.Same(&now) {
			return nil, nil
		}
		return nil, dir.exchange(l.Name, &now, l.Text, l.Mode)
	})
}

// exchange gives a file a new content, nil for none, if it still has the old.
func (t tree) exchange(name string, old *LeftNow, text []byte, mode uint32) error {
	return t.in(name, func(dir tree, base string) error {
		tmp := tempName()
		if text == nil {
			if err := unix.Renameat2(dir.fd, base, dir.fd, tmp, unix.RENAME_NOREPLACE); err != nil {
				return err
			}
			return dir.taken(tmp, base, old, &LeftNow{}, unix.RENAME_NOREPLACE)
		}
		if err := dir.create(tmp, mode, false, func(w io.Writer) error { _, err := w.Write(text); return err }); err != nil {
			return err
		}
		flags := uint(unix.RENAME_EXCHANGE)
		if old.Text == nil {
			flags = unix.RENAME_NOREPLACE
		}
		err := unix.Renameat2(dir.fd, tmp, dir.fd, base, flags)
		switch {
		case err != nil:
			_ = dir.remove(tmp)
			if err == unix.EEXIST || err == unix.ENOENT {
				err = ErrMoved
			}
			return err
		case old.Text == nil:
			return nil
		}
		return dir.taken(tmp, base, old, &LeftNow{Text: text, Mode: mode}, unix.RENAME_EXCHANGE)
	})
}

// taken removes what was taken from a name, or puts it back if it is not what was there.
func (t tree) taken(tmp, name string, old, mine *LeftNow, flags uint) error {
	if b, mode, err := t.readMode(tmp); err == nil && sameFile(b, old.Text, mode, old.Mode) {
		return t.remove(tmp)
	}
	if err := unix.Renameat2(t.fd, tmp, t.fd, name, flags); err != nil {
		return err
	}
	if b, mode, err := t.readMode(tmp); err == nil && sameFile(b, mine.Text, mode, mine.Mode) {
		_ = t.remove(tmp) // and never what somebody has put there in between
	}
	return ErrMoved
}
