// Command snapshot measures package snapshot against tar, git and restic on a
// copy of a source tree: first snapshot, second of an unchanged tree, second
// with 1 % of the files changed, difference, restore, and the undo of an
// rm -rf of 10,000 files. Every step of every program is a process of its own
// that starts with nothing in memory; the best of several runs counts, with
// its peak memory.
//
//	go run -C bench ./snapshot -tree "$(go env GOROOT)/src"
//
// With -undo 10000,100000 it measures the baseline and the undo of an rm -rf of
// so many small files, and nothing else.
package main

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mcp-sandbox/snapshot"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "step" {
		if err := step(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	tree := flag.String("tree", "", "source tree to copy")
	runs := flag.Int("runs", 3, "runs of each step; the best counts")
	undos := flag.String("undo", "", "numbers of files, with commas: measure only baselines and undos")
	flag.Parse()
	if *undos != "" {
		if err := benchUndo(*undos); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if *tree == "" {
		fmt.Fprintln(os.Stderr, "give a source tree with -tree")
		os.Exit(2)
	}
	if err := bench(*tree, *runs); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// step is one operation of package snapshot: create, diff or restore.
func step(args []string) error {
	ctx := context.Background()
	// As the command mcp-sandbox snapshots has it.
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(80 << 20)
	store, err := snapshot.NewLocalStore(args[1])
	if err != nil {
		return err
	}
	r, err := snapshot.New(store, snapshot.Options{Root: args[2]})
	if err != nil {
		return err
	}
	defer r.Close()
	switch args[0] {
	case "create":
		info, err := r.Create(ctx, snapshot.CreateRequest{})
		if err != nil {
			return err
		}
		fmt.Println(info.ID)
		return nil
	case "diff":
		_, err := r.Diff(ctx, args[3], "", "")
		return err
	case "restore":
		_, err := r.Restore(ctx, snapshot.RestoreRequest{ID: args[3]})
		return err
	}
	return fmt.Errorf("no step %q", args[0])
}

type result struct {
	time time.Duration
	rss  int64 // KiB
}

// run starts a command and returns its wall time, peak memory and output.
func run(dir string, argv ...string) (time.Duration, int64, string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD=bench", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null")
	start := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(start)
	if err != nil {
		return took, 0, "", fmt.Errorf("%v: %w: %s", argv[0], err, out)
	}
	return took, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss, string(out), nil
}

// tool is one program under test. The names in braces are made by prepare.
type tool struct {
	name    string
	prepare [][]string
	first   []string
	again   []string // of an unchanged or slightly changed tree
	diff    []string
	restore []string
}

func bench(tree string, runs int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	base, err := os.MkdirTemp("", "bench-snapshot-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(base)
	ws := filepath.Join(base, "ws")
	store := filepath.Join(base, "store")
	gitDir := filepath.Join(base, "git")
	repo := filepath.Join(base, "restic")
	sh := func(s string) []string { return []string{"sh", "-c", s} }
	git := "git --git-dir=" + gitDir + " --work-tree=" + ws + " "
	tools := []tool{
		{"ours", nil, []string{self, "step", "create", store, ws}, []string{self, "step", "create", store, ws},
			[]string{self, "step", "diff", store, ws, "ID"}, []string{self, "step", "restore", store, ws, "ID"}},
		{"tar", nil, sh("tar cf " + base + "/a.tar -C " + ws + " ."), sh("tar cf " + base + "/b.tar -C " + ws + " ."),
			sh("tar df " + base + "/a.tar -C " + ws + " >/dev/null 2>&1; true"), sh("find " + ws + " -mindepth 1 -delete; tar xf " + base + "/a.tar -C " + ws)},
		{"git", [][]string{{"git", "init", "-q", "--bare", gitDir}}, sh(git + "add -A && " + git + "write-tree"), sh(git + "add -A && " + git + "write-tree"),
			sh(git + "diff-files --name-only"), sh(git + "read-tree -u --reset ID && " + git + "clean -qfdx")},
		{"restic", [][]string{{"restic", "-q", "-r", repo, "--no-cache", "init"}}, sh("cd " + ws + " && restic -q -r " + repo + " backup ."), sh("cd " + ws + " && restic -q -r " + repo + " backup ."),
			nil, sh("find " + ws + " -mindepth 1 -delete; restic -q -r " + repo + " restore latest --target " + ws)},
	}
	fmt.Printf("%-8s %-12s %10s %9s\n", "program", "step", "time", "peak MiB")
	show := func(tool, step string, list []result) {
		sort.Slice(list, func(i, j int) bool { return list[i].time < list[j].time })
		fmt.Printf("%-8s %-12s %10s %9.1f\n", tool, step, list[0].time.Round(100*time.Microsecond), float64(list[0].rss)/1024)
	}
	for _, t := range tools {
		if _, err := exec.LookPath(t.name); err != nil && t.name != "ours" {
			fmt.Printf("%-8s is not installed\n", t.name)
			continue
		}
		if err := fresh(tree, ws); err != nil {
			return err
		}
		for _, p := range t.prepare {
			if _, _, _, err := run(base, p...); err != nil {
				return err
			}
		}
		id := ""
		measure := func(step string, n int, before func() error, argv []string) error {
			if argv == nil {
				return nil
			}
			argv = append([]string(nil), argv...)
			for i := range argv {
				if argv[i] == "ID" {
					argv[i] = id
				} else if len(argv) == 3 && i == 2 {
					argv[i] = replaceID(argv[i], id)
				}
			}
			var list []result
			for range n {
				if before != nil {
					if err := before(); err != nil {
						return err
					}
				}
				took, rss, out, err := run(base, argv...)
				if err != nil {
					return err
				}
				if step == "first" {
					id = firstLine(out)
				}
				list = append(list, result{time: took, rss: rss})
			}
			show(t.name, step, list)
			return nil
		}
		// One settled tree: what is younger than a clock tick is read again.
		wait := func() error { time.Sleep(200 * time.Millisecond); return nil }
		round := 0
		change := func() error { round++; err := touchOne(ws, round); wait(); return err }
		for _, s := range []struct {
			name   string
			n      int
			before func() error
			argv   []string
		}{
			{"first", 1, wait, t.first}, {"unchanged", runs, wait, t.again}, {"1% changed", runs, change, t.again},
			{"diff", runs, nil, t.diff}, {"restore 1%", 1, nil, t.restore},
		} {
			if err := measure(s.name, s.n, s.before, s.argv); err != nil {
				return err
			}
		}
	}
	return undo(base, self, 10_000, show)
}

func benchUndo(counts string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	base, err := os.MkdirTemp("", "bench-undo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(base)
	for _, c := range strings.Split(counts, ",") {
		n, err := strconv.Atoi(c)
		if err != nil || n < 100 {
			return fmt.Errorf("-undo has %q; give numbers of at least 100", c)
		}
		show := func(tool, step string, list []result) {
			fmt.Printf("%-8s %-40s %8.2f s %6d MiB\n", tool, step, list[0].time.Seconds(), list[0].rss>>10)
		}
		if err := undo(base, self, n, show); err != nil {
			return err
		}
	}
	return nil
}

// undo is the baseline of many small files and the undo of an rm -rf of them,
// next to git and restic.
func undo(base, self string, files int, show func(string, string, []result)) error {
	ws, store := filepath.Join(base, fmt.Sprint("many", files)), filepath.Join(base, fmt.Sprint("manystore", files))
	for i := range files {
		dir := filepath.Join(ws, fmt.Sprintf("d%03d", i%(files/100)))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), fmt.Appendf(nil, "file %d\n%0800d\n", i, i), 0o644); err != nil {
			return err
		}
	}
	sh := func(script string) []string { return []string{"sh", "-c", "cd " + ws + " && " + script} }
	git := "git --git-dir=" + store + ".git --work-tree=" + ws + " "
	restic := "restic -q --no-cache -r " + store + ".restic "
	for _, t := range []struct {
		name                  string
		prepare, take, giveUp []string
	}{
		{"ours", nil, []string{self, "step", "create", store, ws}, []string{self, "step", "restore", store, ws, "ID"}},
		{"git", []string{"git", "init", "-q", "--bare", store + ".git"}, sh(git + "add -A && " + git + "-c user.name=b -c user.email=b commit -qm b"), sh(git + "checkout -q -f HEAD -- .")},
		{"restic", []string{"sh", "-c", restic + "init"}, sh(restic + "backup ."), sh(restic + "restore latest --target " + ws)},
	} {
		if _, err := exec.LookPath(t.take[0]); err != nil || t.name == "restic" && !has("restic") {
			continue
		}
		if t.prepare != nil {
			if _, _, _, err := run(base, t.prepare...); err != nil {
				return err
			}
		}
		took, rss, out, err := run(base, t.take...)
		if err != nil {
			return err
		}
		show(t.name, fmt.Sprintf("baseline of %d files", files), []result{{time: took, rss: rss}})
		if _, _, _, err := run(base, "find", ws, "-mindepth", "1", "-delete"); err != nil {
			return err
		}
		for i := range t.giveUp {
			if t.giveUp[i] == "ID" {
				t.giveUp[i] = firstLine(out)
			}
		}
		if took, rss, _, err = run(base, t.giveUp...); err != nil {
			return err
		}
		n := 0
		_ = filepath.WalkDir(ws, func(_ string, d fs.DirEntry, _ error) error {
			if d != nil && d.Type().IsRegular() {
				n++
			}
			return nil
		})
		if n != files {
			return fmt.Errorf("the undo of %s brought back %d files of %d", t.name, n, files)
		}
		show(t.name, fmt.Sprintf("undo of an rm -rf of %d files", files), []result{{time: took, rss: rss}})
	}
	return nil
}

func has(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

func fresh(tree, ws string) error {
	if err := os.RemoveAll(ws); err != nil {
		return err
	}
	_, _, _, err := run("/", "cp", "-a", tree, ws)
	return err
}

// touchOne changes every hundredth file, another content each round.
func touchOne(ws string, round int) error {
	n := 0
	return filepath.WalkDir(ws, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if n++; n%100 != 0 {
			return nil
		}
		f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = fmt.Fprintf(f, "// changed %d\n", round)
		return err
	})
}

func firstLine(s string) string {
	for i := range len(s) {
		if s[i] == '\n' {
			return s[:i]
		}
	}
	return s
}

func replaceID(s, id string) string {
	const mark = " ID "
	for i := 0; i+len(mark) <= len(s); i++ {
		if s[i:i+len(mark)] == mark {
			return s[:i] + " " + id + " " + s[i+len(mark):]
		}
	}
	return s
}
