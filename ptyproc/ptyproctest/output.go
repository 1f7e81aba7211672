package ptyproctest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"mcp-sandbox/ptyproc"
	"mcp-sandbox/sandbox"
)

func outputCases() []contract {
	small := ptyproc.Options{HeadBytes: 4 << 10, TailBytes: 4 << 10}
	return []contract{
		{name: "order of the two streams", run: streamOrder},
		{name: "character split over replies", run: splitCharacter},
		{name: "invalid bytes", run: invalidBytes},
		{name: "flood keeps head and tail", options: small, run: flood},
		{name: "spool read by lines", options: small, run: spoolLines},
		{name: "spool of a running process", options: small, run: spoolRunning},
		{name: "spool limit", options: ptyproc.Options{HeadBytes: 4 << 10, TailBytes: 4 << 10, SpoolLimit: 16 << 10}, run: spoolLimit},
		{name: "background child does not hold the call", run: backgroundChild},
		{name: "background output stays readable", run: backgroundOutput},
		{name: "poll returns when output has settled", options: ptyproc.Options{MaxYield: time.Hour}, run: pollSettles},
		{name: "poll returns on exit", options: ptyproc.Options{MaxYield: time.Hour}, run: pollExit},
		{name: "progress", run: progress},
	}
}

func streamOrder(f *fixture) {
	r := f.sh(`i=0; while [ $i -lt 200 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done`)
	var want strings.Builder
	for i := range 200 {
		fmt.Fprintf(&want, "o%d\ne%d\n", i, i)
	}
	if text(r.Output) != want.String() {
		f.Errorf("out of order: %q", r.Output)
	}
}

// splitCharacter is part of AC-53.
func splitCharacter(f *fixture) {
	r := f.request(`[ -t 0 ] && stty -echo; printf 'a\303'; read x; printf '\251b\342\202'; read x; printf 'c\n'`)
	r.Stdin, r.KeepStdin = sandbox.StdinPipe, true
	res := f.launch(r, "a")
	if s := string(res.Output); s != "a" {
		f.Errorf("half a character handed out: %q", s)
	}
	res = f.write(res.ID, "\n", false, 5*time.Second)
	res = f.until(res, "b")
	if s := string(res.Output); s != "éb" {
		f.Errorf("got %q, want the joined character", s)
	}
	res = f.finish(f.write(res.ID, "\n", false, 5*time.Second))
	if s := text(res.Output); s != "\uFFFDc\n" {
		f.Errorf("got %q, want one mark for what was never completed", s)
	}
}

// invalidBytes is part of AC-53.
func invalidBytes(f *fixture) {
	r := f.sh(`printf 'a\377b\300\200c\355\240\200d\360\237\230e\000f\033]52;c;aGk=\007g\342\202'`)
	want := "a\uFFFDb\uFFFD\uFFFDc\uFFFD\uFFFD\uFFFDd\uFFFDe\x00f\x1b]52;c;aGk=\x07g\uFFFD"
	if string(r.Output) != want || !utf8.Valid(r.Output) {
		f.Errorf("got  %q\nwant %q", r.Output, want)
	}
}

// numbers is what seq 1 n writes on the fixture's output.
func (f *fixture) numbers(n int) string {
	var b strings.Builder
	end := "\n"
	if f.tty {
		end = "\r\n"
	}
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "%d%s", i, end)
	}
	return b.String()
}

const countTo = `i=1; while [ $i -le %d ]; do echo $i; i=$((i+1)); done`

func flood(f *fixture) {
	const n = 20_000
	r := f.finish(f.start(f.request(fmt.Sprintf(countTo, n))))
	whole := f.numbers(n)
	out := string(r.Output)
	head, tail := out[:r.Cut], out[r.Cut:]
	if len(head) != 4<<10 || len(tail) != 4<<10 || !strings.HasPrefix(whole, head) || !strings.HasSuffix(whole, tail) {
		f.Errorf("head of %d and tail of %d bytes do not fit", len(head), len(tail))
	}
	if int(r.Dropped)+len(out) != len(whole) {
		f.Errorf("%d dropped and %d kept, want %d in all", r.Dropped, len(out), len(whole))
	}
	kept, err := f.table.OpenOutput(r.OutputID)
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = kept.Close() }()
	all, err := io.ReadAll(kept)
	if err != nil || string(all) != whole {
		f.Errorf("spooled %d bytes, want %d: %v", len(all), len(whole), err)
	}
}

func spoolLines(f *fixture) {
	const n = 5_000
	r := f.finish(f.start(f.request(fmt.Sprintf(countTo, n))))
	for _, c := range []struct {
		offset, limit int
		pattern       string
		first, last   string
		lines, next   int
	}{
		{0, 10, "", "1", "10", 10, 11},
		{1, 1, "", "1", "1", 1, 2},
		{100, 3, "", "100", "102", 3, 103},
		{-2, 0, "", "4999", "5000", 2, 0},
		{-9999, 1, "", "1", "1", 1, 2},
		{n, 5, "", "5000", "5000", 1, 0},
		{n + 1, 5, "", "", "", 0, 0},
		{0, 0, "^49.9$", "4909", "4999", 10, 0},
		{4920, 2, "^49.9$", "4929", "4939", 2, 4949},
		{0, 0, "nothing", "", "", 0, 0},
	} {
		got, err := f.table.ReadOutput(r.OutputID, c.offset, c.limit, c.pattern)
		if err != nil {
			f.Errorf("%+v: %v", c, err)
			continue
		}
		first, last := "", ""
		if len(got.Lines) > 0 {
			first, last = got.Lines[0].Text, got.Lines[len(got.Lines)-1].Text
			if fmt.Sprint(got.Lines[0].Number) != first {
				f.Errorf("%+v: line %q has number %d", c, first, got.Lines[0].Number)
			}
		}
		if first != c.first || last != c.last || len(got.Lines) != c.lines || got.Next != c.next {
			f.Errorf("%+v: got %q..%q, %d lines, next %d", c, first, last, len(got.Lines), got.Next)
		}
		if c.next == 0 && got.TotalLines != n {
			f.Errorf("%+v: %d lines in all", c, got.TotalLines)
		}
	}
	for _, c := range []struct {
		id, pattern, code string
		limit             int
	}{
		{"out_0", "", "not_found", 1}, {"../../etc/passwd", "", "not_found", 1}, {"", "", "not_found", 1},
		{r.OutputID, "(", "invalid_argument", 1}, {r.OutputID, "", "invalid_argument", -1},
	} {
		if _, err := f.table.ReadOutput(c.id, 0, c.limit, c.pattern); code(err) != c.code {
			f.Errorf("%+v: %v", c, err)
		}
	}
}

// spoolRunning shows that the spool holds what earlier replies have carried.
func spoolRunning(f *fixture) {
	r := f.request(`[ -t 0 ] && stty -echo; echo begin; read x; ` + fmt.Sprintf(countTo, 3000) + `; echo middle; read x; echo end`)
	r.Stdin, r.KeepStdin = sandbox.StdinPipe, true
	res := f.launch(r, "begin")
	if res.OutputID != "" {
		f.Errorf("a file for %d bytes", len(res.Output))
	}
	res = f.write(res.ID, "\n", false, 5*time.Second)
	res = f.until(res, "middle")
	got, err := f.table.ReadOutput(res.OutputID, 0, 2, "")
	if err != nil || len(got.Lines) != 2 || got.Lines[0].Text != "begin" || got.Lines[1].Text != "1" {
		f.Errorf("while running: %+v %v", got, err)
	}
	res = f.finish(f.write(res.ID, "\n", false, 5*time.Second))
	got, err = f.table.ReadOutput(res.OutputID, -2, 2, "")
	if err != nil || len(got.Lines) != 2 || got.Lines[0].Text != "middle" || got.Lines[1].Text != "end" {
		f.Errorf("after the end: %+v %v", got, err)
	}
}

func spoolLimit(f *fixture) {
	const n = 20_000
	r := f.finish(f.start(f.request(fmt.Sprintf(countTo, n))))
	got, err := f.table.ReadOutput(r.OutputID, 0, 1, "")
	if err != nil {
		f.Fatal(err)
	}
	if got.Bytes != 16<<10 || int(got.Missing+got.Bytes) != len(f.numbers(n)) || got.Lines[0].Text != "1" {
		f.Errorf("%+v", got)
	}
}

// backgroundChild is AC-45. The call can only end because the leader has: the
// child would hold the output for a quarter of an hour.
func backgroundChild(f *fixture) {
	for _, script := range []string{
		`trap '' HUP; sleep 1000 & echo hi`,
		`trap '' HUP; sleep 1000 >/dev/null 2>&1 </dev/null & echo hi`,
	} {
		r := f.sh(script)
		if text(r.Output) != "hi\n" || r.Exit.Code != 0 || r.ID == 0 || r.BackgroundChildren < 1 {
			f.Fatalf("%q: %+v %q", script, r, r.Output)
		}
		rows := f.table.List()
		if len(rows) != 1 || rows[0].ID != r.ID || rows[0].State != ptyproc.StateBackground || rows[0].BackgroundChildren < 1 {
			f.Errorf("%q: listed as %+v", script, rows)
		}
		if k := f.kill(r.ID); k.ID != 0 || k.BackgroundChildren != 0 || k.Exit == nil || k.Exit.Code != 0 {
			f.Errorf("%q: after the kill: %+v", script, k)
		}
		f.use(ptyproc.Options{})
	}
}

func backgroundOutput(f *fixture) {
	r := f.sh(`trap '' HUP; (sleep 1; echo later; exit 9) & echo now; exit 4`)
	if text(r.Output) != "now\n" || r.Exit.Code != 4 || r.ID == 0 {
		f.Fatalf("%+v %q", r, r.Output)
	}
	id := r.ID
	r.Output = nil
	r = f.finish(r)
	if text(r.Output) != "later\n" || r.Exit.Code != 4 {
		f.Errorf("%+v %q", r, r.Output)
	}
	if again := f.write(id, "", false, 0); again.Exit == nil || again.Exit.Code != 4 || len(again.Output) != 0 {
		f.Errorf("asked again: %+v", again)
	}
}

// pollSettles would take an hour if a poll used up its time.
func pollSettles(f *fixture) {
	r := f.request(`[ -t 0 ] && stty -echo; echo ready; while read x; do echo one $x; sleep 0.01; echo two $x; done; sleep 1000`)
	r.Stdin, r.KeepStdin = sandbox.StdinPipe, true
	res := f.launch(r, "ready")
	res = f.write(res.ID, "go\n", false, time.Hour)
	if !res.Running || text(res.Output) != "one go\ntwo go\n" {
		f.Errorf("%+v %q", res, res.Output)
	}
	f.kill(res.ID)
}

func pollExit(f *fixture) {
	res := f.launch(f.request(`sleep 0.6; exit 6`), "")
	res = f.write(res.ID, "", false, time.Hour)
	if res.Exit == nil || res.Exit.Code != 6 || res.ID != 0 {
		f.Errorf("%+v", res)
	}
}

func progress(f *fixture) {
	var seen []ptyproc.Progress
	r := f.request(`printf 'one\n\033[1mtwo\033[0m\n\n'; sleep 1.3; echo end`)
	r.Progress = func(p ptyproc.Progress) { seen = append(seen, p) }
	res, err := f.table.Start(context.Background(), r)
	if err != nil || !strings.HasSuffix(text(res.Output), "end\n") {
		f.Fatalf("%v %+v", err, res)
	}
	if len(seen) < 2 || seen[0].Elapsed != 0 {
		f.Fatalf("%+v", seen)
	}
	if last := seen[len(seen)-1]; last.LastLine != "two" || last.Bytes < 8 {
		f.Fatalf("%+v", seen)
	}
	for i, now := range seen[1:] {
		if now.Elapsed <= seen[i].Elapsed {
			f.Errorf("%v after %v", now.Elapsed, seen[i].Elapsed)
		}
	}

	// A write that had to wait for its reader is part of the call.
	const held = 1500 * time.Millisecond
	// The shell says so when the signal meets its sleep, which would end the wait.
	r = f.request(`exec 2>/dev/null; trap 'open=1' USR1; echo up; until test "$open"; do sleep 0.01; done; head -c 1000000 >/dev/null; sleep 1.3; echo end`)
	r.Stdin, r.KeepStdin, r.TTY = sandbox.StdinPipe, true, false
	res = f.launch(r, "up")
	seen = nil
	time.AfterFunc(held, func() { _, _ = f.table.Kill(context.Background(), res.ID, syscall.SIGUSR1) })
	res, err = f.table.Write(context.Background(), ptyproc.WriteRequest{
		ID: res.ID, Chars: bytes.Repeat([]byte("x"), 1_000_000), Yield: time.Minute,
		Progress: func(p ptyproc.Progress) { seen = append(seen, p) },
	})
	if err != nil || res.Exit == nil || len(seen) < 2 || seen[0].Elapsed != 0 || seen[1].Elapsed < held-500*time.Millisecond {
		f.Errorf("%v %+v %+v", err, res, seen)
	}
}
