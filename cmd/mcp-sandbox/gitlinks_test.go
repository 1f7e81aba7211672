package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestGitLinked: what a git directory leads to through links, such as hooks that are
// kept with the files of the project, is run by git outside and lies in no stage.
func TestGitLinked(t *testing.T) {
	if !staged() {
		t.Skip("commands can change protected paths at this level")
	}
	for _, c := range []struct{ name, setup, file string }{
		{"directory of hooks", "mkdir githooks; rm -rf .git/hooks; ln -s ../githooks .git/hooks", "githooks/pre-commit"},
		{"directory of hooks by its whole path", "mkdir githooks; rm -rf .git/hooks; ln -s $PWD/githooks .git/hooks", "githooks/pre-commit"},
		{"through a second link", "mkdir githooks; ln -s githooks hop; rm -rf .git/hooks; ln -s ../hop .git/hooks", "githooks/pre-commit"},
		{"directory that is not there", "rm -rf .git/hooks; ln -s ../githooks .git/hooks", "githooks/pre-commit"},
		{"one hook", "mkdir tools; echo true > tools/check; mkdir -p .git/hooks; ln -s ../../tools/check .git/hooks/pre-commit", "tools/check"},
		{"configuration", "mkdir conf; mv .git/config conf/git; ln -s ../conf/git .git/config", "conf/git"},
		{"attributes", "echo '* text' > attr; mkdir -p .git/info; ln -s ../../attr .git/info/attributes", "attr"},
		{"nested repository", "git init -q sub; mkdir sub/tools; echo true > sub/tools/check; mkdir -p sub/.git/hooks; ln -s ../../tools/check sub/.git/hooks/pre-commit", "sub/tools/check"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newGitProject(t).repository()
			if out, err := p.shell(c.setup); err != nil {
				t.Fatal(out)
			}
			openPath(t, p.dir)
			file := filepath.Join(p.dir, c.file)
			was, wasErr := os.ReadFile(file)
			s := p.serve()
			s.exec(map[string]any{"cmd": "f=" + c.file + "; mkdir -p ${f%/*}; echo evil >> $f; echo evil > x; mv -f x $f; [ ! -L hop ] || ln -sfn . hop; [ $f = ${f%/*} ] || mv ${f%/*} moved; git status"})
			s.bad("path_protected", "write_file", map[string]any{"path": c.file, "content": "evil"})
			s.stop()
			if now, err := os.ReadFile(file); string(now) != string(was) || (err == nil) != (wasErr == nil) {
				t.Errorf("%s holds %q, %v; it was %q, %v", c.file, now, err, was, wasErr)
			}
			if to, err := os.Readlink(filepath.Join(p.dir, "hop")); err == nil && to != "githooks" {
				t.Errorf("a link on the way leads to %q", to)
			}
		})
	}
}
