package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestGitBareRaces: names that are made at the same time, by commands or by a command
// and a file tool, complete no bare repository whose settings git outside would obey.
func TestGitBareRaces(t *testing.T) {
	if !staged() {
		t.Skip("git directories are not staged at this level")
	}
	needPrograms(t, "python3")
	rounds := 40
	if long() {
		rounds = 400
	}
	p := newGitProject(t)
	p.write("race.py", raceProgram)
	c := p.serve()
	c.exec(map[string]any{"cmd": fmt.Sprintf("python3 race.py commands %d", rounds), "yield_time_ms": 60000})

	// The command makes HEAD, and the tool the rest, or the other way round.
	_, running := c.sendCall("exec_command", map[string]any{"cmd": fmt.Sprintf("python3 race.py tools %d", rounds/4), "yield_time_ms": 60000})
	refused := 0
	for i := range rounds / 4 {
		waitFor(t, "the command's round", func() bool { _, err := os.Lstat(filepath.Join(p.dir, fmt.Sprintf("t%d/config", i))); return err == nil })
		name := "objects/x"
		if i%2 == 1 {
			name = "HEAD"
		}
		if c.call("write_file", map[string]any{"path": fmt.Sprintf("t%d/%s", i, name), "content": "ref: refs/heads/main\n"}).IsError {
			refused++
		}
		p.write(fmt.Sprintf("go%d", i), "")
	}
	c.result(c.await(running))
	c.stop()

	complete := 0
	dirs, _ := filepath.Glob(filepath.Join(p.dir, "[ct][0-9]*"))
	for _, dir := range dirs {
		whole := true
		for _, n := range []string{"HEAD", "objects", "refs"} {
			_, err := os.Lstat(filepath.Join(dir, n))
			whole = whole && err == nil
		}
		if !whole {
			continue
		}
		complete++
		if b, err := os.ReadFile(filepath.Join(dir, "config")); err != nil || strings.Contains(string(b), "fsmonitor") {
			t.Errorf("%s is a repository with %q, %v", filepath.Base(dir), b, err)
		}
	}
	t.Logf("%d of %d complete, %d calls refused", complete, len(dirs), refused)
}

// raceProgram makes the three names of a bare repository in threads that start
// together.
const raceProgram = `
import os, sys, threading, time
def make(path):
    try:
        if path.endswith("HEAD"):
            with open(path, "w") as f: f.write("ref: refs/heads/main\n")
        else:
            os.mkdir(path)
    except OSError:
        pass
def prepare(d):
    os.mkdir(d)
    with open(d + "/new", "w") as f: f.write("[core]\n\tfsmonitor = ./evil\n")
    os.rename(d + "/new", d + "/config")
for i in range(int(sys.argv[2])):
    if sys.argv[1] == "commands":
        d = "c%d" % i
        prepare(d)
        names = ["refs", "objects", "HEAD"]
    else:
        d = "t%d" % i
        names = ["refs"] + (["objects"] if i % 2 else ["HEAD"])
        prepare(d)
    start = threading.Barrier(len(names))
    threads = [threading.Thread(target=lambda n=n: (start.wait(), make(d + "/" + n))) for n in names]
    for t in threads: t.start()
    for t in threads: t.join()
    while sys.argv[1] == "tools" and not os.path.exists("go%d" % i): time.sleep(0.001)
`
