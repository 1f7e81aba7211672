package main

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// node is what a name is in the model of a tree: a directory, a link, or a file of
// that content and mode.
type node struct {
	dir     bool
	link    string
	content string
	mode    fs.FileMode
}

// actor changes names that begin with its letter, in directories that both share and in
// its own, and the files that both write. It knows what comes of it.
type actor struct {
	rnd    *rand.Rand
	letter string
	tree   map[string]node
	shared map[string]string // what it wrote to shared files
	gone   []string          // names that were free again at some time
	serial int
}

const sharedDirs, sharedFiles = 5, 12

func newActor(seed uint64, letter string) *actor {
	return &actor{rnd: rand.New(rand.NewPCG(seed, uint64(letter[0]))), letter: letter, tree: map[string]node{}, shared: map[string]string{}}
}

func (a *actor) own(want func(node) bool) (string, bool) {
	names := slices.Sorted(maps.Keys(a.tree))
	names = slices.DeleteFunc(names, func(p string) bool { return !want(a.tree[p]) })
	if len(names) == 0 {
		return "", false
	}
	return names[a.rnd.IntN(len(names))], true
}

func isFile(n node) bool { return !n.dir && n.link == "" }
func isDir(n node) bool  { return n.dir }

// place is a free name in a shared or own directory, often one that was in use before.
func (a *actor) place() string {
	a.serial++
	if len(a.gone) > 0 && a.rnd.IntN(3) == 0 {
		p := a.gone[a.rnd.IntN(len(a.gone))]
		_, used := a.tree[p]
		if dir := path.Dir(p); !used && (!strings.Contains(dir, "/") || a.tree[dir].dir) {
			return p
		}
	}
	dir := fmt.Sprintf("d%d", a.rnd.IntN(sharedDirs))
	if own, ok := a.own(isDir); ok && a.rnd.IntN(2) == 0 && strings.Count(own, "/") < 4 {
		dir = own
	}
	return fmt.Sprintf("%s/%s%d", dir, a.letter, a.serial)
}

func (a *actor) move(from, to string) {
	for p, n := range maps.Clone(a.tree) {
		if p == from || strings.HasPrefix(p, from+"/") {
			delete(a.tree, p)
			a.gone = append(a.gone, p)
			a.tree[to+p[len(from):]] = n
		}
	}
}

func (a *actor) drop(p string) {
	for q := range maps.Clone(a.tree) {
		if q == p || strings.HasPrefix(q, p+"/") {
			delete(a.tree, q)
			a.gone = append(a.gone, q)
		}
	}
	slices.Sort(a.gone) // a seed makes one order
	a.gone = slices.Compact(a.gone)
}

// next makes one operation: a line of shell, and what Go does for the same.
func (a *actor) next() (line string, do func(root string) error) {
	a.serial++
	text := fmt.Sprintf("%s-%d-%d", a.letter, a.serial, a.rnd.IntN(1000))
	file, hasFile := a.own(isFile)
	dir, hasDir := a.own(isDir)
	at := func(root, p string) string { return filepath.Join(root, p) }
	switch k := a.rnd.IntN(12); {
	case k == 0 || k == 1:
		p := a.place()
		a.tree[p] = node{content: text, mode: 0o644}
		return fmt.Sprintf("printf %s > %s", text, p), func(r string) error { return os.WriteFile(at(r, p), []byte(text), 0o644) }
	case k == 2 && hasFile:
		n := a.tree[file]
		n.content += text
		a.tree[file] = n
		return fmt.Sprintf("printf %s >> %s", text, file), func(r string) error { return os.WriteFile(at(r, file), []byte(n.content), n.mode) }
	case k == 3 && hasFile:
		a.drop(file)
		return "rm " + file, func(r string) error { return os.Remove(at(r, file)) }
	case k == 4 && hasFile:
		n := a.tree[file]
		n.mode = []fs.FileMode{0o600, 0o644, 0o640}[a.rnd.IntN(3)]
		a.tree[file] = n
		return fmt.Sprintf("chmod %o %s", n.mode, file), func(r string) error { return os.Chmod(at(r, file), n.mode) }
	case k == 5:
		p := a.place()
		a.tree[p] = node{link: text}
		return fmt.Sprintf("ln -s %s %s", text, p), func(r string) error { return os.Symlink(text, at(r, p)) }
	case k == 6:
		p := a.place()
		a.tree[p] = node{dir: true}
		return "mkdir " + p, func(r string) error { return os.Mkdir(at(r, p), 0o755) }
	case k == 7 && hasDir:
		p := a.place()
		if p == dir || strings.HasPrefix(p, dir+"/") {
			break
		}
		a.move(dir, p)
		// Not mv, which copies by itself where a directory cannot be renamed.
		return fmt.Sprintf("ren %s %s", dir, p), func(r string) error { return os.Rename(at(r, dir), at(r, p)) }
	case k == 8 && hasDir && a.rnd.IntN(3) == 0:
		a.drop(dir)
		return "rm -rf " + dir, func(r string) error { return os.RemoveAll(at(r, dir)) }
	case k == 9 && hasFile:
		p := a.place()
		a.move(file, p)
		return fmt.Sprintf("mv %s %s", file, p), func(r string) error { return os.Rename(at(r, file), at(r, p)) }
	case k == 10:
		p := fmt.Sprintf("d%d/c%d", a.rnd.IntN(sharedDirs), a.rnd.IntN(sharedFiles))
		a.shared[p] = text
		return fmt.Sprintf("printf %s > %s", text, p), func(r string) error { return os.WriteFile(at(r, p), []byte(text), 0o644) }
	}
	return a.next()
}

// TestStagedRandom: session and user change one tree at the same time, in every way;
// after an apply the project has what both made, and the user's side of what both
// changed.
func TestStagedRandom(t *testing.T) {
	operations := 600
	if long() {
		operations = 10_000
	}
	seed := uint64(killRand(t).Int64())
	p := newStagedProject(t)
	s, u := newActor(seed, "s"), newActor(seed, "u")
	for i := range sharedDirs {
		if err := os.Mkdir(fmt.Sprintf("%s/d%d", p.dir, i), 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range sharedFiles {
			put(t, fmt.Sprintf("%s/d%d/c%d", p.dir, i, j), "base")
		}
	}
	// Some of what each has to work with is there before.
	for _, a := range []*actor{s, u} {
		for range 80 {
			if _, do := a.next(); do(p.dir) != nil {
				t.Fatal("the project could not be made")
			}
		}
		for name := range a.shared {
			put(t, p.dir+"/"+name, "base")
		}
		a.shared = map[string]string{}
	}
	p.settled()
	c := p.serve()
	c.sh("true") // what the user does from here on is meanwhile
	const batch = 50
	for range operations / batch / 2 {
		var script strings.Builder
		script.WriteString("set -e\nren() { perl -e 'rename($ARGV[0], $ARGV[1]) or die \"$ARGV[0]: $!\"' \"$1\" \"$2\"; }\n")
		for range batch {
			line, _ := s.next()
			script.WriteString(line + "\n")
		}
		done := make(chan error, 1)
		go func() {
			for range batch {
				line, do := u.next()
				if err := do(p.dir); err != nil {
					done <- fmt.Errorf("%s: %w", line, err)
					return
				}
			}
			done <- nil
		}()
		out := c.exec(map[string]any{"cmd": script.String(), "yield_time_ms": 40_000})
		if err := <-done; err != nil {
			t.Fatalf("the user: %v", err)
		}
		if out.ExitCode == nil || *out.ExitCode != 0 {
			t.Fatalf("the session: %+v", out)
		}
	}
	c.stop()
	want := map[string]node{}
	for _, a := range []*actor{s, u} {
		maps.Copy(want, a.tree)
	}
	conflicts := 0
	for i := range sharedDirs {
		want[fmt.Sprintf("d%d", i)] = node{dir: true}
		for j := range sharedFiles {
			name, text := fmt.Sprintf("d%d/c%d", i, j), "base"
			mine, changed := s.shared[name]
			theirs, meanwhile := u.shared[name]
			switch {
			case meanwhile:
				text = theirs
			case changed:
				text = mine
			}
			if changed && meanwhile {
				conflicts++
			}
			want[name] = node{content: text, mode: 0o644}
		}
	}
	r := p.review("--apply", ".", "--protected", "--executable", "--access")
	if len(r.Applied.Left) != conflicts {
		t.Errorf("%d were left, %d conflicts are expected: %+v", len(r.Applied.Left), conflicts, r.Applied.Left)
	}
	got := nodesOf(t, p.dir)
	for name := range got {
		if top, _, _ := strings.Cut(name, "/"); !strings.HasPrefix(top, "d") || top == "dir" {
			delete(got, name)
		}
	}
	for name, w := range want {
		if g, ok := got[name]; !ok || g != w {
			t.Errorf("%s is %+v (%v), want %+v", name, g, ok, w)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s should not be there", name)
		}
	}
	t.Logf("%d operations, %d paths, %d applied, %d conflicts", operations, len(want), len(r.Applied.Done), conflicts)
}

func nodesOf(t *testing.T, root string) map[string]node {
	t.Helper()
	out := map[string]node{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		rel, _ := filepath.Rel(root, name)
		fi, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			out[path.Clean(rel)] = node{dir: true}
		case fi.Mode()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(name)
			out[rel] = node{link: to}
		default:
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			out[rel] = node{content: string(b), mode: fi.Mode().Perm()}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
