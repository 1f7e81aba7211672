package serve

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// blockingPipe is a pipe of which the reading end blocks, as that of a client does.
func blockingPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(p[0]), "in"), os.NewFile(uintptr(p[1]), "out")
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func linesOf(in io.Reader) <-chan string {
	out := make(chan string, 100)
	go func() {
		defer close(out)
		readLines(in, func(l line) bool { out <- strings.TrimSpace(string(l.text)); return true })
	}()
	return out
}

func next(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	select {
	case got, ok := <-lines:
		if want != got || ok != (want != "") {
			t.Fatalf("%q, want %q", got, want)
		}
	case <-time.After(5 * time.Second):
		t.Fatalf("%q did not come", want)
	}
}

func TestWaitedInput(t *testing.T) {
	r, w := blockingPipe(t)
	in, end := waitable(r)
	defer end()
	if _, ok := in.(*waitedInput); !ok {
		t.Fatalf("a pipe is read as %T", in)
	}
	lines := linesOf(in)
	for _, part := range []string{"one\n", "tw", "o\nthree\nfo", "ur\n", "last"} {
		if _, err := w.WriteString(part); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond) // so that each is a separate read
	}
	w.Close()
	for _, want := range []string{"one", "two", "three", "four", "last", ""} {
		next(t, lines, want)
	}
	// Who started the server may share the open file.
	if flags, err := unix.FcntlInt(r.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
}

// A Read that waits ends with the loop, and takes nothing of what comes later.
func TestWaitedInputEnds(t *testing.T) {
	r, w := blockingPipe(t)
	in, end := waitable(r)
	lines := linesOf(in)
	end()
	next(t, lines, "")
	if _, err := w.WriteString("for another\n"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	if n, err := r.Read(b); err != nil || string(b[:n]) != "for another\n" {
		t.Errorf("%q, %v", b[:n], err)
	}
}

func TestWaitableFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(name, []byte("one\ntwo"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, in := range []io.Reader{f, strings.NewReader("one\ntwo")} {
		same, end := waitable(in)
		if same != in {
			t.Errorf("%T is read as %T", in, same)
		}
		lines := linesOf(same)
		for _, want := range []string{"one", "two", ""} {
			next(t, lines, want)
		}
		end()
	}
	// A socket, which is what some clients use for pipes.
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s, peer := os.NewFile(uintptr(p[0]), "in"), os.NewFile(uintptr(p[1]), "peer")
	defer s.Close()
	in, end := waitable(s)
	defer end()
	lines := linesOf(in)
	if _, err := peer.WriteString("one\n"); err != nil {
		t.Fatal(err)
	}
	next(t, lines, "one")
	peer.Close()
	next(t, lines, "")
}
