package ptyproctest

import (
	"context"
	"fmt"
	"hash/crc32"
	"strings"
	"syscall"
	"time"

	"mcp-sandbox/ptyproc"
	"mcp-sandbox/sandbox"
)

func stdinCases() []contract {
	return []contract{
		{name: "null device", only: "pipe", run: nullStdin},
		{name: "text given", only: "pipe", run: givenStdin},
		{name: "text under back-pressure", only: "pipe", run: stdinBackPressure},
		{name: "text not read", only: "pipe", run: stdinNotRead},
		{name: "kept open", only: "pipe", run: keptStdin},
		{name: "closed", only: "pipe", run: closedStdin},
		{name: "write that is not taken", only: "pipe", run: writeNotTaken},
		{name: "write cancelled", only: "pipe", run: writeCancelled},
		{name: "write to an ended process", run: writeEnded},
		{name: "control characters", only: "tty", run: controlCharacters},
		{name: "end of file", only: "tty", run: terminalEnd},
		{name: "large write to a slow terminal", only: "tty", run: largeTerminalWrite},
		{name: "bracketed paste", only: "tty", run: bracketedPaste},
	}
}

func (f *fixture) withStdin(script, given string, keep bool) ptyproc.StartRequest {
	r := f.request(script)
	r.Stdin, r.StdinText, r.KeepStdin = sandbox.StdinPipe, given, keep
	return r
}

func nullStdin(f *fixture) {
	if r := f.sh("cat; echo end"); text(r.Output) != "end\n" {
		f.Errorf("%q", r.Output)
	}
}

func givenStdin(f *fixture) {
	if r := f.start(f.withStdin("cat; echo end", "héllo\n", false)); text(r.Output) != "héllo\nend\n" {
		f.Errorf("%+v %q", r, r.Output)
	}
	// Nothing given and not kept: an end of file at once.
	if r := f.start(f.withStdin("cat; echo end", "", false)); text(r.Output) != "end\n" {
		f.Errorf("%+v %q", r, r.Output)
	}
}

// stdinBackPressure would deadlock if the text were written before the output
// is read: both are larger than a pipe.
func stdinBackPressure(f *fixture) {
	data := strings.Repeat("0123456789abcde\n", 1<<16)
	r := f.start(f.withStdin("cat", data, false))
	if r.Exit == nil || string(r.Output) != data {
		f.Errorf("%d bytes of %d came back (%+v)", len(r.Output), len(data), r.Exit)
	}
}

func stdinNotRead(f *fixture) {
	r := f.start(f.withStdin("exit 2", strings.Repeat("x", 1<<20), false))
	if r.Exit == nil || r.Exit.Code != 2 {
		f.Errorf("%+v", r)
	}
}

func keptStdin(f *fixture) {
	res := f.launch(f.withStdin(`read a; echo got $a; read b; echo got $b; cat; echo end; exit 3`, "first\n", true), "got first")
	res = f.until(f.write(res.ID, "second\n", false, 5*time.Second), "got second")
	res = f.finish(f.write(res.ID, "third", true, 5*time.Second))
	if text(res.Output) != "thirdend\n" || res.Exit.Code != 3 {
		f.Errorf("%+v %q", res, res.Output)
	}
}

func closedStdin(f *fixture) {
	res := f.launch(f.request("echo up; sleep 1000"), "up")
	_, err := f.table.Write(context.Background(), ptyproc.WriteRequest{ID: res.ID, Chars: []byte("x")})
	if code(err) != "stdin_closed" || !strings.Contains(err.Error(), "keep_stdin") {
		f.Errorf("started without: %v", err)
	}
	f.kill(res.ID)

	res = f.launch(f.withStdin("cat >/dev/null; echo over; sleep 1000", "", true), "")
	f.until(f.write(res.ID, "", true, time.Millisecond), "over")
	if _, err := f.table.Write(context.Background(), ptyproc.WriteRequest{ID: res.ID, Chars: []byte("x")}); code(err) != "stdin_closed" {
		f.Errorf("closed by us: %v", err)
	}
	f.write(res.ID, "", true, time.Millisecond) // closing again is allowed
	f.kill(res.ID)

	res = f.launch(f.withStdin("exec <&-; echo over; sleep 1000", "", true), "over")
	if _, err := f.table.Write(context.Background(), ptyproc.WriteRequest{ID: res.ID, Chars: []byte("x")}); code(err) != "stdin_closed" {
		f.Errorf("closed by the process: %v", err)
	}
	f.kill(res.ID)
}

func writeNotTaken(f *fixture) {
	res := f.launch(f.withStdin("echo up; sleep 1000", "", true), "up")
	r := f.write(res.ID, strings.Repeat("x", 1<<20), false, 300*time.Millisecond)
	if !r.Running || !hasNotice(r, "of 1048576 bytes were sent") {
		f.Errorf("%+v", r)
	}
	f.kill(res.ID)
}

func writeCancelled(f *fixture) {
	res := f.launch(f.withStdin("echo up; sleep 1000", "", true), "up")
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		_, err := f.table.Write(ctx, ptyproc.WriteRequest{ID: res.ID, Chars: []byte(strings.Repeat("x", 1<<20)), Yield: 45 * time.Second})
		failed <- err
	}()
	// The pipe takes the beginning, so the process has been written to by then.
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := <-failed; code(err) != "cancelled" {
		f.Errorf("%v", err)
	}
	if r := f.kill(res.ID); r.Exit == nil {
		f.Errorf("%+v", r)
	}
}

func writeEnded(f *fixture) {
	res := f.launch(f.withStdin("read x; exit 5", "", true), "")
	id := res.ID
	res = f.finish(f.write(id, "y\n", false, 5*time.Second))
	if res.Exit.Code != 5 {
		f.Errorf("%+v", res)
	}
	if r := f.write(id, "more", false, 0); r.Exit == nil || r.Exit.Code != 5 || !hasNotice(r, "nothing was sent") {
		f.Errorf("%+v", r)
	}

	// Ended, but nobody has been told yet.
	res = f.launch(f.withStdin("sleep 0.4; echo bye; exit 8", "", true), "")
	if !soon(func() bool { return f.table.List()[1].State == ptyproc.StateExited }) {
		f.Fatal("did not end")
	}
	if r := f.write(res.ID, "more", false, 0); r.Exit == nil || r.Exit.Code != 8 || !strings.Contains(string(r.Output), "bye") {
		f.Errorf("%+v %q", r, r.Output)
	}
}

func controlCharacters(f *fixture) {
	res := f.launch(f.request(`trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.05; done`), "ready")
	res = f.finish(f.write(res.ID, "\x03", false, 5*time.Second))
	if res.Exit.Code != 7 || !strings.Contains(string(res.Output), "caught") {
		f.Errorf("Ctrl-C: %+v %q", res.Exit, res.Output)
	}
	res = f.launch(f.request(`echo ready; ulimit -c 0; exec cat`), "ready")
	res = f.finish(f.write(res.ID, "\x1c", false, 5*time.Second))
	if res.Exit.Signal != syscall.SIGQUIT || res.Exit.Code != 128+int(syscall.SIGQUIT) {
		f.Errorf("Ctrl-\\: %+v %q", res.Exit, res.Output)
	}
}

func terminalEnd(f *fixture) {
	for _, c := range []struct{ chars, want string }{
		{"", "end\r\n"}, {"line\n", "line\r\nline\r\nend\r\n"}, {"half", "halfhalfend\r\n"},
	} {
		res := f.launch(f.request(`echo ready; cat; echo end`), "ready")
		res = f.finish(f.write(res.ID, c.chars, true, 5*time.Second))
		if res.Exit.Code != 0 || string(res.Output) != c.want {
			f.Errorf("%q: %+v %q", c.chars, res.Exit, res.Output)
		}
	}
}

func largeTerminalWrite(f *fixture) {
	data := strings.Repeat("0123456789abcde\n", 1<<14)
	sum := fmt.Sprintf("%d", crc32.ChecksumIEEE([]byte(data)))
	res := f.launch(f.request(fmt.Sprintf(`stty raw -echo; echo ready; sleep 0.3; head -c %d | gzip -1 | tail -c 8 | od -An -tu4`, len(data))), "ready")
	res = f.finish(f.write(res.ID, data, false, 20*time.Second))
	if got := strings.Fields(string(res.Output)); len(got) != 2 || got[0] != sum || got[1] != fmt.Sprint(len(data)) {
		f.Errorf("got sum and size %v, want %s and %d (%v)", got, sum, len(data), res.Notices)
	}
}

func bracketedPaste(f *fixture) {
	paste := "\x1b[200~hi\x1b[201~"
	res := f.launch(f.request(fmt.Sprintf(`stty raw -echo; printf '\033[?2004hready'; head -c %d | od -An -tx1`, len(paste))), "ready")
	res = f.finish(f.write(res.ID, paste, false, 5*time.Second))
	got := strings.Join(strings.Fields(string(res.Output)), "")
	if want := fmt.Sprintf("%x", paste); got != want {
		f.Errorf("got %s, want %s", got, want)
	}
}
