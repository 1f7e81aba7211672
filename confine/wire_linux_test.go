package confine

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// chunks delivers a stream in pieces of n bytes, without descriptors.
func chunks(stream []byte, n int) recvFunc {
	return func(p, oob []byte) (int, int, int, error) {
		m := copy(p[:min(len(p), n)], stream)
		stream = stream[m:]
		return m, 0, 0, nil
	}
}

func TestFramesAreReassembled(t *testing.T) {
	var stream []byte
	var sent []string
	for _, s := range []string{"", "a", string(bytes.Repeat([]byte("long"), 20000)), "not utf-8 \xff\x00"} {
		e := newFrame(opSpawn)
		e.str(s)
		b, err := e.finish(0)
		if err != nil {
			t.Fatal(err)
		}
		stream, sent = append(stream, b...), append(sent, s)
	}
	for _, n := range []int{1, 3, 4096, 1 << 20} {
		r := newFrameReader(chunks(stream, n))
		for i, want := range sent {
			f, err := r.next()
			if err != nil {
				t.Fatal(n, i, err)
			}
			if got := f.str(); got != want || f.op != opSpawn || f.done() != nil {
				t.Errorf("pieces of %d, frame %d: %.20q, %v", n, i, got, f.err)
			}
		}
		if _, err := r.next(); err != io.EOF {
			t.Errorf("after the last: %v", err)
		}
	}
	if _, err := newFrameReader(chunks(stream[:len(stream)-1], 100)).next(); err != nil {
		t.Error(err)
	}
}

// Descriptors belong to the frame that states them, also when the kernel hands
// them over together with the end of the frame before.
func TestDescriptorsFollowTheirFrame(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	before := fdCount(t)
	var want []uint64
	for i := range 5 {
		fds := []int{}
		for range i % 4 {
			fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			fds = append(fds, fd)
		}
		e := newFrame(evAnswer)
		e.num(i)
		if err := sendFrame(rawSend(pair[0]), e, fds...); err != nil {
			t.Fatal(err)
		}
		want = append(want, uint64(len(fds)))
	}
	r := newFrameReader(rawRecv(pair[1]))
	for i, n := range want {
		f, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		if f.num() != i || len(f.fds) != int(n) {
			t.Errorf("frame %d has %d descriptors, want %d", i, len(f.fds), n)
		}
		f.close()
	}
	if after := fdCount(t); after > before+6 {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func TestConfigRoundTrip(t *testing.T) {
	c := &initConfig{
		Namespaces: true, Network: sandbox.NetworkAllow, UID: 5, GID: -1,
		Binds: []bind{{Path: "/a\xff", Write: true, Device: true, Optional: true, Tree: -1, Dev: 7, Ino: 9}},
		Links: []link{{"/l", "t"}}, Files: []file{{"/f", "content", 0o644}}, Masks: []mask{{"/c", true}},
		GitStage: []bind{{Path: "/g", Write: true, Tree: -1}},
		Stage:    []bind{{Path: "/s", Write: true, Tree: -1}}, Git: []string{"/w/.git"},
		Home: "/h", Private: "/p", Workspace: "/w", Protect: []string{"/w/x"}, ProtectIn: []string{"/w"},
		Limits:   sandbox.Limits{Procs: 1, FileSize: 2, OpenFiles: 3, Tmp: 4, Shm: 5},
		Writable: []string{"/w"}, ReadOnly: []string{"/r"}, TTYMultiplexer: "/dev/ptmx",
		Seccomp: []unix.SockFilter{{Code: 1, Jt: 2, Jf: 3, K: 4}}, Landlock: true,
	}
	e := c.encode()
	got, err := decodeConfig(&decoder{b: e.b[frameHeader+1:]})
	if err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, c)
	}
	for n := range len(e.b) - frameHeader - 1 {
		if _, err := decodeConfig(&decoder{b: e.b[frameHeader+1:][:n]}); err == nil {
			t.Fatalf("a configuration cut to %d bytes was taken", n)
		}
	}
}

func TestBaseRoundTrip(t *testing.T) {
	c := &baseConfig{
		HostProc: true, Network: sandbox.NetworkAllow, UID: 7, Tmp: 4, Shm: 5, Dirs: []string{"/d"},
		Binds: []bind{{Path: "/a", Tree: 3}}, Links: []link{{"/l", "t"}}, Files: []file{{"/f", "content", 0o644}},
	}
	e := c.encode()
	got, err := decodeBase(&decoder{b: e.b[frameHeader+1:]})
	if err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("%v\n got %+v\nwant %+v", err, got, c)
	}
	for n := range len(e.b) - frameHeader - 1 {
		if _, err := decodeBase(&decoder{b: e.b[frameHeader+1:][:n]}); err == nil {
			t.Fatalf("a base cut to %d bytes was taken", n)
		}
	}
}

// No stream makes the reader panic, allocate without bound or hand out more
// than was sent.
func FuzzFrames(f *testing.F) {
	q := spawnRequest{id: 1, Command: sandbox.Command{Dir: "/", Argv: []string{"a"}, Env: []string{"b=c"}}}
	b, _ := q.encode().finish(0)
	f.Add(b, 3)
	f.Add([]byte{255, 255, 255, 255, 0, 1}, 100)
	f.Add([]byte{1, 0, 0, 0, 9, 1}, 1)
	f.Fuzz(func(t *testing.T, stream []byte, n int) {
		r := newFrameReader(chunks(stream, max(1, n%4096)))
		for range len(stream) + 1 {
			fr, err := r.next()
			if err != nil {
				if err != io.EOF && err != io.ErrUnexpectedEOF && !errors.Is(err, errWire) {
					t.Fatal(err)
				}
				return
			}
			d := fr.decoder
			if q, err := decodeSpawn(&d); err == nil && len(q.Argv) > len(stream) {
				t.Fatal("more arguments than bytes")
			}
			d = fr.decoder
			decodeConfig(&d)
			d = fr.decoder
			decodeBase(&d)
		}
	})
}
