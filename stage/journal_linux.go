package stage

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

// journal announces what happens to a temporary name in the project, before it does.
// A killed Apply is ended by what it says: a name that was taken before it could be
// looked at is given back, so the next review decides about it again.
type journal struct {
	f    *os.File
	open bool // a path of it is not ended
}

// The steps of a path.
const (
	stepBuild = "build" // Temp is being made
	stepSwap  = "swap"  // Temp, which is what was made, takes Name, and what has it is compared
	stepTake  = "take"  // Name is moved to Temp, and compared
	stepGone  = "gone"  // what is at Temp now is not needed any more
)

type journalEntry struct {
	Step string `json:"step"`
	Dir  string `json:"dir"`
	Temp string `json:"temp"`
	Name string `json:"name,omitempty"`
	// What was made. An inode alone is soon another file's.
	Ino   uint64 `json:"ino,omitempty"`
	Mode  uint32 `json:"mode,omitempty"`
	Size  int64  `json:"size,omitempty"`
	Mtime int64  `json:"mtime,omitempty"`
	// Why it could not be ended, of one that is set aside. Lost: its directory is gone,
	// so there is nothing to try again once a person has been told.
	Why  string `json:"why,omitempty"`
	Lost bool   `json:"lost,omitempty"`
}

func (s *Stage) journalPath() string { return filepath.Join(s.dir, "journal") }

var errApplies = errors.New("another review applies changes of this stage")

// journalEmpty says whether no Apply is under way, and none has left anything.
func (s *Stage) journalEmpty() bool {
	if fi, err := os.Stat(s.asidePath()); err == nil && fi.Size() > 0 || err != nil && !os.IsNotExist(err) {
		return false
	}
	f, err := os.Open(s.journalPath())
	if err != nil {
		return os.IsNotExist(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	return err == nil && fi.Size() == 0 && unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}

// beginJournal first ends what a killed Apply left. One Apply at a time has it.
func (s *Stage) beginJournal() (*journal, error) {
	f, err := os.OpenFile(s.journalPath(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, errApplies
	}
	if err := s.replay(f); err != nil {
		f.Close()
		return nil, err
	}
	return &journal{f: f}, nil
}

// replay ends the last path of a journal; those before it are whole. What cannot be
// ended is set aside, so that it is in the way of no other path, and tried again by
// the next replay.
func (s *Stage) replay(f *os.File) error {
	last := map[string]journalEntry{}
	for _, e := range s.aside() {
		last[e.Temp] = e
	}
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if e, ok := parseEntry(sc.Bytes()); ok {
			last[e.Temp] = e
		}
	}
	if err := sc.Err(); err != nil {
		return err
	}
	var left []journalEntry
	for _, t := range slices.Sorted(maps.Keys(last)) {
		e := last[t]
		e.Lost = false
		if e.Why = s.finish(&e); e.Why != "" {
			left = append(left, e)
		}
	}
	if err := s.setAside(left); err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.Seek(0, 0)
	return err
}

// line is what parseEntry reads, with its line end.
func (e journalEntry) line() ([]byte, error) {
	e.Dir, e.Name = EncodePath(e.Dir), EncodePath(e.Name)
	b, err := json.Marshal(e)
	return append(b, '\n'), err
}

// parseEntry reads a line; one that a kill cut off announces nothing that was done.
func parseEntry(b []byte) (e journalEntry, ok bool) {
	err := json.Unmarshal(b, &e)
	e.Dir, e.Name = DecodePath(e.Dir), DecodePath(e.Name)
	return e, err == nil && strings.HasPrefix(e.Temp, treecopy.TempPrefix) && !strings.Contains(e.Temp+e.Name, "/")
}

func (s *Stage) asidePath() string { return filepath.Join(s.dir, "journal.aside") }

// maxAside bounds the list of what could not be ended, in bytes.
const maxAside = 16 << 20

// aside are the paths of killed Applies that could not be ended.
func (s *Stage) aside() (out []journalEntry) {
	f, err := os.Open(s.asidePath())
	if err != nil {
		return nil
	}
	defer f.Close()
	sc := bufio.NewScanner(io.LimitReader(f, maxAside))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if e, ok := parseEntry(sc.Bytes()); ok {
			out = append(out, e)
		}
	}
	return out
}

func (s *Stage) setAside(left []journalEntry) error {
	if len(left) == 0 {
		if err := os.Remove(s.asidePath()); err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	}
	var b []byte
	for _, e := range left {
		line, err := e.line()
		if err != nil {
			return err
		}
		b = append(b, line...)
	}
	return writeOver(s.asidePath(), b)
}

// Unfinished names what an apply that was interrupted left in the project and no later
// one could end, and why. Each apply tries it again.
func (s *Stage) Unfinished() (out []Left) {
	for _, e := range s.aside() {
		out = append(out, Left{path.Join(e.Dir, e.Temp), e.Why})
	}
	return out
}

// tellUnfinished is Unfinished for the result of an apply.
func (s *Stage) tellUnfinished() ([]Left, error) {
	told, all := s.Unfinished(), s.aside()
	kept := slices.DeleteFunc(slices.Clone(all), func(e journalEntry) bool { return e.Lost })
	if len(kept) == len(all) {
		return told, nil
	}
	return told, s.setAside(kept)
}

// finish ends one path, or says why that is impossible for now. What the project had
// is removed by no step of it.
func (s *Stage) finish(e *journalEntry) string {
	ours := e.Step != stepTake && e.Step != stepSwap // nothing of the project's is at Temp
	dir, err := treecopy.Open(int(s.root.Fd()), e.Dir)
	if err != nil {
		if ours {
			return ""
		}
		if e.Lost = err == unix.ENOENT || err == unix.ENOTDIR; e.Lost {
			return e.kept("its directory is gone, look for it where that was moved to")
		}
		return e.kept("its directory cannot be opened: " + err.Error())
	}
	defer unix.Close(dir)
	var st unix.Stat_t
	switch err := unix.Fstatat(dir, e.Temp, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == unix.ENOENT && (ours || s.sameDevice(dir)):
		return "" // it has its name, or was taken care of
	case err == unix.ENOENT:
		return e.kept("another file system is mounted over its directory")
	case err != nil:
		return e.kept(err.Error())
	}
	switch {
	case e.Step == stepTake:
		return s.giveName(e, dir)
	case e.Step == stepSwap && !e.is(&st):
		var now unix.Stat_t
		switch err := unix.Fstatat(dir, e.Name, &now, unix.AT_SYMLINK_NOFOLLOW); {
		case err == unix.ENOENT:
			return s.giveName(e, dir)
		case err != nil:
			return e.kept(err.Error())
		case !e.is(&now):
			return e.kept("another one has its name")
		}
		if err := unix.Renameat2(dir, e.Temp, dir, e.Name, unix.RENAME_EXCHANGE); err != nil {
			return e.kept("what the session has could not be taken back: " + err.Error())
		}
		s.restored(e, dir)
		if unix.Fstatat(dir, e.Temp, &now, unix.AT_SYMLINK_NOFOLLOW) != nil || !e.is(&now) {
			return e.kept("it was made while " + show(e.Name) + " got its name again")
		}
	}
	if err := ignoreGone(treecopy.Remove(dir, e.Temp)); err != nil {
		return "this is a copy that is not needed any more; it could not be removed: " + err.Error()
	}
	return ""
}

func (e *journalEntry) made(st *unix.Stat_t) {
	e.Ino, e.Mode, e.Size, e.Mtime = st.Ino, st.Mode, st.Size, st.Mtim.Nano()
}

// is says whether something is what was made, and nobody has written to it.
func (e *journalEntry) is(st *unix.Stat_t) bool {
	var x journalEntry
	x.made(st)
	return e.Ino == x.Ino && e.Mode == x.Mode && e.Size == x.Size && e.Mtime == x.Mtime
}

// has fails unless what was made has a name: what somebody saved there after the
// exchange is neither undone nor treated as applied.
func (e *journalEntry) has(dir int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if !e.is(&st) {
		return conflictError("another program changed it while it was applied")
	}
	return nil
}

// kept is the word for what the project had and cannot get its name again.
func (e *journalEntry) kept(why string) string {
	return "this is what the project had as " + show(e.Name) + " when an apply was interrupted; it could not be put back: " + why
}

// giveName gives what was taken its name again. Where somebody has made another one,
// both stay.
func (s *Stage) giveName(e *journalEntry, dir int) string {
	switch err := unix.Renameat2(dir, e.Temp, dir, e.Name, unix.RENAME_NOREPLACE); err {
	case nil:
		s.restored(e, dir)
		return ""
	case unix.EEXIST:
		return e.kept("another one has its name")
	default:
		return e.kept(err.Error())
	}
}

// sameDevice says whether a directory is of the file system of the project.
func (s *Stage) sameDevice(dir int) bool {
	var st, root unix.Stat_t
	return unix.Fstat(dir, &st) == nil && unix.Fstat(int(s.root.Fd()), &root) == nil && st.Dev == root.Dev
}

// restored has the index know the ctime that a name has from being moved away and
// back: the user has changed nothing.
func (s *Stage) restored(e *journalEntry, dir int) {
	if s.index == nil {
		s.index = s.readIndex()
	}
	p := path.Join(e.Dir, e.Name)
	var st unix.Stat_t
	if unix.Fstatat(dir, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return
	}
	if base, ok := s.index.files[p]; ok && sameButCtime(sigOf(&st), base) {
		s.index.files[p] = sigOf(&st)
		_ = s.saveIndex()
	}
}

// recover ends what a killed Apply left.
func (s *Stage) recover() error {
	fi, err := os.Stat(s.journalPath())
	if (err != nil || fi.Size() == 0) && len(s.aside()) == 0 {
		return nil
	}
	j, err := s.beginJournal()
	if err == errApplies {
		return nil
	}
	if err != nil {
		return err
	}
	return j.f.Close()
}

func (j *journal) note(e journalEntry) error {
	b, err := e.line()
	if err != nil {
		return err
	}
	at, err := j.f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err = j.f.Write(b); err != nil {
		// Half a line would make nothing of the next one.
		_, serr := j.f.Seek(at, io.SeekStart)
		err = errors.Join(err, j.f.Truncate(at), serr)
	}
	return err
}

func (j *journal) end() error {
	if j.open {
		return j.f.Close()
	}
	return errors.Join(j.f.Truncate(0), j.f.Close())
}
