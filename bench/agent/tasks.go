package main

import (
	"fmt"
	"net"
)

// task is work that people give to agents. Its checks look for what the work
// must have brought about, with calls that do not count.
type task struct {
	name, what string
	needs      []string // programs on PATH
	prepare    string   // a shell command in the workspace, not counted
	work       func(*agent)
}

// tasks are short: what is compared is how often and how long a server lets its
// caller wait, not the work.
func tasks() []task {
	return []task{
		{"build", "15 s, a line every 0.3 s", nil, "", func(a *agent) {
			a.expect(a.run("for i in $(seq 50); do echo compiling $i; sleep 0.3; done; echo BUILD OK"), "BUILD OK")
		}},
		{"test", "a suite of 2 s of which one test fails", nil, calc, func(a *agent) {
			a.expect(a.run("sh test.sh"), "FAIL: add 2 3 gave 6")
		}},
		{"fix", "read the source, correct it, run the tests again", nil, calc, func(a *agent) {
			a.expect(a.readFile("calc.sh"), "$1 * $2")
			a.editFile("calc.sh", "$1 * $2", "$1 + $2")
			a.expect(a.run("sh test.sh"), "all passed")
		}},
		{"REPL", "a Python prompt, 20 lines, its end", []string{"python3"}, "", func(a *agent) {
			p := a.repl("python3 -q -i")
			p.shows(">>>")
			for i := range 20 {
				p.enter(fmt.Sprintf("%d * 1000 + 7", i+1), fmt.Sprint((i+1)*1000+7))
			}
			p.enter("exit()")
			p.finish()
		}},
		{"npm init", "all its questions answered", []string{"npm"}, "", func(a *agent) {
			p := a.repl("npm init")
			p.shows(questions[0])
			// Which questions there are depends on the version of npm.
			for at, answer := 0, "sample"; at < len(questions)-1; answer = "" {
				p.enter(answer)
				at += 1 + p.shows(questions[at+1:]...)
			}
			p.enter("yes")
			p.finish()
			a.quietly(func() { a.expect(a.run("cat package.json"), `"name": "sample"`) })
		}},
		{"dev server", "one that listens after 2 s, and a request to it", []string{"node", "curl"}, devServer, func(a *agent) {
			// Not every server has its commands in a network of their own.
			port, err := freePort()
			a.check(err)
			a.open("node server.js "+port, startOptions{waitFor: "port:" + port})
			a.ask("curl -s --retry 20 --retry-connrefused --retry-delay 1 localhost:"+port, "it works")
			a.quietly(func() { a.run(`kill "$(cat pid)"`) })
		}},
		{"gdb", "a breakpoint, a variable, the end of the program", []string{"gdb", "gcc"}, debugged, func(a *agent) {
			p := a.repl("gdb -q -nx ./sum")
			p.shows("(gdb)")
			p.enter("break 5", "Breakpoint 1 at")
			p.enter("run", "return total")
			p.enter("print total", "= 45")
			p.enter("continue", "exited")
			p.enter("quit")
			p.finish()
		}},
		{"git rebase -i", "two commits made one, in vim", []string{"git", "vim"}, commits, func(a *agent) {
			p := a.open("git -c core.editor='vim -u NONE -N' rebase -i HEAD~2", startOptions{tty: true})
			p.shows("# Rebase")
			p.press("j0cwfixup\x1b", "fixup")
			p.press(":wq\r")
			p.finish()
			a.quietly(func() { a.expect(a.run("git rev-list --count HEAD"), "2") })
		}},
		{"less", "a file of 1000 lines: go to a line, search, quit", []string{"less"}, "seq 1000 | sed 's/^/line /' > long.txt", func(a *agent) {
			p := a.open("less long.txt", startOptions{tty: true})
			p.shows("line 29")
			p.press("500g", "line 500")
			p.press("/line 77[0-9]\r", "line 770")
			p.press("q")
			p.finish()
		}},
		{"vim", "add a line to a file and save it", []string{"vim"}, `printf 'one\ntwo\n' > notes.txt`, func(a *agent) {
			p := a.open("vim -u NONE -N notes.txt", startOptions{tty: true})
			p.shows("two")
			p.press("othree\x1b", "three")
			p.press(":wq\r")
			p.finish()
			a.quietly(func() { a.expect(a.run("cat notes.txt"), "one\nthree\ntwo") })
		}},
	}
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// questions of npm init, the last of which ends it.
var questions = []string{"package name:", "version:", "description:", "entry point:", "test command:",
	"git repository:", "keywords:", "author:", "license:", "type:", "Is this OK?"}

const (
	calc = `printf 'add() { echo $(($1 * $2)); }\n' > calc.sh
printf '. ./calc.sh\nsleep 2\ngot=$(add 2 3)\n[ $got = 5 ] && echo all passed || { echo "FAIL: add 2 3 gave $got"; exit 1; }\n' > test.sh`
	devServer = `cat > server.js <<'EOF'
require("fs").writeFileSync("pid", String(process.pid));
setTimeout(() => require("http").createServer((q, r) => r.end("it works\n")).listen(process.argv[2], () => console.log("ready")), 2000);
EOF`
	debugged = `cat > sum.c <<'EOF'
int main(void) {
	int total = 0;
	for (int i = 0; i < 10; i++) total += i;
	if (total != 45) return 1;
	return total - 45;
}
EOF
gcc -g -O0 -o sum sum.c`
	commits = `git init -q . && git config user.name a && git config user.email a@b
for i in 1 2 3; do echo $i > f$i; git add f$i; git commit -qm "commit $i"; done`
)
