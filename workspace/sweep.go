package workspace

import (
	"context"
	"strings"

	"golang.org/x/sys/unix"
)

// Sweep removes the temporary files that killed servers left in the workspace,
// and says how many. What a living server is about to give its name, in this
// process or another, stays. It looks at most at maxSwept names.
func (f *FS) Sweep(ctx context.Context) (removed int, err error) {
	leave, err := f.enter()
	if err != nil {
		return 0, err
	}
	defer leave()
	fd, err := openSubdir(int(f.RootFile().Fd()), ".")
	if err != nil {
		return 0, err
	}
	s := sweeper{ctx: ctx}
	err = s.dir(fd, 0)
	return s.removed, err
}

const maxSwept = 1 << 20

type sweeper struct {
	ctx           context.Context
	seen, removed int
}

// dir sweeps an open directory, which it closes, and those below it.
func (s *sweeper) dir(fd, depth int) error {
	defer unix.Close(fd)
	entries, _, err := readEntries(s.ctx, fd)
	if err != nil {
		return s.ctx.Err() // one that cannot be read is none that was written to
	}
	var left []string
	for _, e := range entries {
		if s.seen++; s.seen > maxSwept {
			return nil
		}
		if strings.HasPrefix(e.name, stagedPrefix) && strings.HasSuffix(e.name, ".tmp") {
			left = append(left, e.name)
		}
		if e.kind != KindDirectory && e.kind != KindUnknown || depth >= maxDepth {
			continue
		}
		sub, err := openSubdir(fd, e.name)
		if err != nil {
			continue
		}
		if err := s.dir(sub, depth+1); err != nil {
			return err
		}
	}
	if len(left) == 0 {
		return nil
	}
	// In its turn a server has the old content under such a name, unlocked.
	done, err := takeTurn(s.ctx, fd, "a directory")
	if err != nil {
		return nil
	}
	defer done()
	for _, name := range left {
		if abandoned(fd, name) && unix.Unlinkat(fd, name, 0) == nil {
			s.removed++
		}
	}
	return nil
}

// abandoned says that no server holds the temporary file.
func abandoned(dir int, name string) bool {
	file, err := openRegularAt(dir, name, name)
	if err != nil {
		return false
	}
	defer file.Close()
	return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}
