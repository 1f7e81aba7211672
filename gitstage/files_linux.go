package gitstage

import (
	"errors"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A .git file that the session made is an empty file outside until what it leads to
// is published, and is gone with the session if that is never. It is written in
// place, since another file would take the one inside away.

// gitFile is one .git file of the stage.
type gitFile struct {
	rel  string // in the workspace
	made uint64 // inode number of the one outside
	text string // of the one inside
}

func (p *Publisher) gitFiles() (files []gitFile, err error) {
	names, err := p.inStage()
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		made, err := p.stage.read(n+"/made", 32)
		if err != nil || made == nil {
			continue
		}
		text, err := p.stage.read(n+"/file", 4096)
		if err != nil {
			text = nil
		}
		f := gitFile{rel: unescape(n), text: string(text)}
		if f.made, err = strconv.ParseUint(string(made), 10, 64); err == nil {
			files = append(files, f)
		}
	}
	return files, nil
}

// open opens the file outside if it is still the one that was made.
func (f *gitFile) open(root tree) (*os.File, error) {
	fd, err := root.open(f.rel, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || st.Ino != f.made {
		unix.Close(fd)
		return nil, unix.ESTALE
	}
	return os.NewFile(uintptr(fd), f.rel), nil
}

func (p *Publisher) publishFiles(out *Report) error {
	files, err := p.gitFiles()
	if err != nil {
		return err
	}
	var errs []error
	for _, g := range files {
		f, err := g.open(p.root)
		if err != nil {
			continue // its user has put another in its place
		}
		now, err := io.ReadAll(io.LimitReader(f, 4097))
		want := p.published(&g)
		switch {
		case err != nil:
			errs = append(errs, err)
		case want == "":
			errs = append(errs, f.Truncate(0))
			out.Kept = append(out.Kept, g.rel)
		case string(now) != want:
			if _, err = f.WriteAt([]byte(want), 0); err == nil {
				err = f.Truncate(int64(len(want)))
			}
			out.Published++
			errs = append(errs, err)
		}
		f.Close()
	}
	return errors.Join(errs...)
}

// published is the text of a .git file outside: one that leads to a worktree or module
// of a git directory that is staged, and which names the directory of the file in its
// turn. It is "" for any other.
func (p *Publisher) published(g *gitFile) string {
	target, ok := strings.CutPrefix(g.text, "gitdir: ")
	target = strings.TrimRight(target, "\n")
	if !ok || !plain(target) || path.Clean(target) != target {
		return "" // git goes through a link x in x/..
	}
	if !path.IsAbs(target) {
		target = path.Join(p.at(path.Dir(g.rel)), target)
	}
	for rel, r := range p.repos {
		if r.bare {
			continue
		}
		sub, ok := strings.CutPrefix(target, p.at(rel)+"/")
		if !ok || !p.leadsToData(g, rel, sub) {
			continue
		}
		// Any other directory can be moved, and a link that leads out of what is
		// staged be made in its place: what is named from the file through nothing
		// but directories above it cannot.
		if rel == ".git" || path.Base(rel) != ".git" || path.IsAbs(rel) {
			return g.text
		}
		if up, ok := strings.CutPrefix(path.Dir(g.rel), path.Dir(rel)+"/"); ok {
			return "gitdir: " + strings.Repeat("../", strings.Count(up, "/")+1) + ".git/" + sub + "\n"
		}
	}
	return ""
}

func (p *Publisher) leadsToData(g *gitFile, rel, sub string) bool {
	real, err := p.gitDir(rel)
	if err != nil {
		return false
	}
	defer real.close()
	if e, err := real.stat(sub + "/HEAD"); err != nil || e.kind != kindFile {
		return false
	}
	back := ""
	switch {
	case strings.HasPrefix(sub, "modules/"), strings.Contains(sub, "/modules/"):
		back, _ = (&repo{p: p, rel: rel}).moduleTree(sub, real)
	case strings.HasPrefix(sub, "worktrees/"):
		b, err := real.read(sub+"/gitdir", 4096)
		if err != nil {
			return false
		}
		back, _ = p.inWorkspace(p.at(rel+"/"+sub), string(b))
	}
	return back == g.rel
}

// dropFiles removes those that lead to nothing.
func (p *Publisher) dropFiles() error {
	files, err := p.gitFiles()
	if err != nil {
		return err
	}
	var errs []error
	for _, g := range files {
		f, err := g.open(p.root)
		if err != nil {
			continue
		}
		if fi, err := f.Stat(); err == nil && fi.Size() == 0 {
			errs = append(errs, p.root.remove(g.rel))
		}
		f.Close()
	}
	return errors.Join(errs...)
}
