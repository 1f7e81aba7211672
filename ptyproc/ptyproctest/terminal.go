package ptyproctest

import (
	"bytes"
	"image/png"
	"strings"
	"time"
)

func terminalCases() []contract {
	return []contract{
		{name: "size", only: "tty", run: terminalSize},
		{name: "controlling terminal", only: "tty", run: controllingTerminal},
		{name: "screen", only: "tty", run: screenShown},
		{name: "full screen program", only: "tty", run: fullScreen},
		{name: "questions are answered", only: "tty", run: questions},
		{name: "no terminal no screen", only: "pipe", run: noScreen},
	}
}

func terminalSize(f *fixture) {
	if r := f.sh("stty size"); text(r.Output) != "30 120\n" {
		f.Errorf("default: %q", r.Output)
	}
	req := f.request("stty size")
	req.Cols, req.Rows = 100, 40
	if r := f.start(req); text(r.Output) != "40 100\n" {
		f.Errorf("asked for: %q", r.Output)
	}
	res := f.launch(f.request(`trap 'stty size' WINCH; echo up; while :; do sleep 0.05; done`), "up")
	if err := f.table.Resize(res.ID, 90, 20); err != nil {
		f.Fatal(err)
	}
	f.until(res, "20 90")
	if s, err := f.table.Screen(res.ID); err != nil || s.Cols != 90 || s.Rows != 20 {
		f.Errorf("screen is %dx%d: %v", s.Cols, s.Rows, err)
	}
	for _, bad := range [][2]uint16{{0, 24}, {80, 0}, {501, 24}, {80, 201}} {
		if err := f.table.Resize(res.ID, bad[0], bad[1]); code(err) != "invalid_argument" {
			f.Errorf("resize to %v: %v", bad, err)
		}
	}
	f.kill(res.ID)
}

func controllingTerminal(f *fixture) {
	r := f.sh(`test -t 0 && test -t 1 && test -t 2 && echo all; echo own >/dev/tty`)
	if text(r.Output) != "all\nown\n" {
		f.Errorf("%q", r.Output)
	}
}

func screenShown(f *fixture) {
	res := f.launch(f.request(`printf '\033]2;my title\007\033[2J\033[3;5Hhello \033[1;31mred\033[m\033[2;1Hup'; sleep 1000`), "up")
	s, err := f.table.Screen(res.ID)
	if err != nil {
		f.Fatal(err)
	}
	if got, want := s.Text(), "\nup\n    hello red"; got != want || s.Title != "my title" || s.CursorRow != 1 || s.CursorCol != 2 {
		f.Errorf("%q, want %q; %+v", got, want, s.Title)
	}
	data, err := s.PNG()
	if err != nil {
		f.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil || img.Bounds().Dx()%s.Cols != 0 || img.Bounds().Dy()%s.Rows != 0 {
		f.Errorf("picture: %v %v", img, err)
	}
	f.kill(res.ID)
	if last, err := f.table.Screen(res.ID); err != nil || last.Text() != s.Text() {
		f.Errorf("after the end: %q %v", last.Text(), err)
	}
}

func fullScreen(f *fixture) {
	res := f.launch(f.request(`echo before; printf '\033[?1049h\033[H\033[2Jinside'; stty -echo; read x; printf '\033[?1049lafter'; sleep 1000`), "inside")
	shows := func(want string) {
		f.Helper()
		got := ""
		if !soon(func() bool {
			s, err := f.table.Screen(res.ID)
			got = s.Text()
			return err == nil && got == want
		}) {
			f.Errorf("screen %q, want %q", got, want)
		}
	}
	shows("inside")
	f.write(res.ID, "\n", false, 5*time.Second)
	shows("before\nafter")
	f.kill(res.ID)
}

// questions: without an answer such programs wait for one until they give up.
func questions(f *fixture) {
	res := f.start(f.request(`stty raw -echo; printf '\033[2;3H\033[6n'; head -c 6 | od -An -tx1; stty sane`))
	if got, want := strings.Join(strings.Fields(string(res.Output)[8:]), ""), "5b323b3352"; !strings.HasSuffix(got, want) {
		f.Errorf("got %q", res.Output)
	}
}

func noScreen(f *fixture) {
	res := f.launch(f.request("echo up; sleep 1000"), "up")
	if _, err := f.table.Screen(res.ID); code(err) != "invalid_argument" {
		f.Errorf("screen: %v", err)
	}
	if err := f.table.Resize(res.ID, 80, 24); code(err) != "invalid_argument" {
		f.Errorf("resize: %v", err)
	}
	f.kill(res.ID)
}
