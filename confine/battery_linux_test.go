package confine

import (
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// battery does calls of all kinds, good and bad ones, and prints what came of
// each: the results inside must not depend on who carries a call out.
func battery() {
	os.Mkdir("battery", 0o755)
	os.Chdir("battery")
	cwd, _ := os.Getwd()
	os.WriteFile("f", []byte("content"), 0o644)
	os.Mkdir("d", 0o755)
	os.Symlink("f", "tof")
	os.Symlink("nowhere", "dangling")
	os.Symlink("loop", "loop")
	os.Symlink("d", "tod")
	unix.Mkfifo("fifo", 0o644)
	d, _ := unix.Open("d", unix.O_RDONLY, 0)
	long := strings.Repeat("x", 300)

	open := func(dir int, p string, flags int, mode uint32) {
		fd, err := unix.Openat(dir, p, flags, mode)
		fmt.Printf("openat %q %#x: %v", short(p), flags, err)
		if err == nil {
			fl, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			cloexec, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			var st unix.Stat_t
			unix.Fstat(fd, &st)
			fmt.Printf(" flags %#x cloexec %d mode %o size %d", fl, cloexec, st.Mode, st.Size)
			unix.Close(fd)
		}
		fmt.Println()
	}
	for _, p := range []string{"f", "new", "tof", "dangling", "loop", "tod", "d", "none/x", "f/x", "", ".", "..", "/", long, "d/", "f/", "new2/", "tod/n", "./d/../n2", cwd + "/n3", "fifo", "/etc/hostname", "/etc/new", "/new", "/proc/version", "/proc/new", "/dev/null", "/dev/none", "/tmp/n"} {
		for _, flags := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_WRONLY | unix.O_CREAT, unix.O_RDWR | unix.O_CREAT | unix.O_EXCL, unix.O_WRONLY | unix.O_TRUNC,
			unix.O_WRONLY | unix.O_NOFOLLOW, unix.O_WRONLY | unix.O_CREAT | unix.O_APPEND | unix.O_CLOEXEC, unix.O_RDWR | unix.O_SYNC, unix.O_RDONLY | unix.O_DIRECTORY, unix.O_WRONLY | unix.O_DIRECTORY, unix.O_PATH | unix.O_CREAT, unix.O_TMPFILE | unix.O_RDWR, unix.O_RDONLY | unix.O_TRUNC} {
			if p == "fifo" {
				flags |= unix.O_NONBLOCK // nobody is at the other end
			}
			open(unix.AT_FDCWD, p, flags, 0o666)
		}
	}
	open(d, "rel", unix.O_CREAT|unix.O_WRONLY, 0o7777)
	open(-5, "rel", unix.O_CREAT|unix.O_WRONLY, 0o644)
	open(-5, cwd+"/abs", unix.O_CREAT|unix.O_WRONLY, 0o600)
	for _, mask := range []int{0, 0o027, 0o077} {
		unix.Umask(mask)
		open(unix.AT_FDCWD, fmt.Sprint("mask", mask), unix.O_CREAT|unix.O_RDWR, 0o666)
		unix.Mkdir(fmt.Sprint("dir", mask), 0o777)
		unix.Mknod(fmt.Sprint("node", mask), unix.S_IFIFO|0o666, 0)
		for _, p := range []string{"dir", "node"} {
			var st unix.Stat_t
			unix.Lstat(fmt.Sprint(p, mask), &st)
			fmt.Printf("%s under umask %o: %o\n", p, mask, st.Mode)
		}
	}
	unix.Umask(0o022)
	for _, p := range []string{"m1", "m1", "m2/", "d/", "tod/m", "dangling/", "f/m", "none/m", ".", "..", "/", "", long, "/etc/m", "/usr", "/proc/m"} {
		fmt.Printf("mkdir %q: %v\n", short(p), unix.Mkdir(p, 0o755))
	}
	for _, p := range []string{"sl", "sl", "d", "tod/sl", "sl2/", "", "/etc/sl"} {
		fmt.Printf("symlink %q: %v\n", p, unix.Symlink("t", p))
	}
	fmt.Println("symlink to nothing:", unix.Symlink("", "sl3"))
	fmt.Println("device:", unix.Mknod("dev", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	fmt.Println("regular:", unix.Mknod("reg", unix.S_IFREG|0o640, 0))
	for _, c := range [][2]string{{"f", "hard"}, {"f", "hard"}, {"d", "hardd"}, {"tof", "hardlink"}, {"none", "x"}, {"f", "/etc/x"}, {"f", "/tmp/x"}, {"/etc/hostname", "x"}, {"f", "none/x"}} {
		fmt.Printf("link %v: %v\n", c, unix.Link(c[0], c[1]))
	}
	fmt.Println("link followed:", unix.Linkat(unix.AT_FDCWD, "tof", unix.AT_FDCWD, "followed", unix.AT_SYMLINK_FOLLOW))
	fmt.Println("link followed to nothing:", unix.Linkat(unix.AT_FDCWD, "dangling", unix.AT_FDCWD, "followed2", unix.AT_SYMLINK_FOLLOW))
	for _, c := range [][2]string{{"hard", "moved"}, {"moved", "d"}, {"d", "moved"}, {"m1", "m3"}, {"m3", "m3/in"}, {"none", "x"}, {"moved", "/tmp/y"}, {"f", "f"}, {"m3/", "m4/"}, {"f", "f2/"}, {".", "x"}, {"f", ".."}, {"f", "/usr/f"}, {"/usr/bin/env", "e"}} {
		fmt.Printf("rename %v: %v\n", c, unix.Rename(c[0], c[1]))
	}
	fmt.Println("exchange:", unix.Renameat2(unix.AT_FDCWD, "f", unix.AT_FDCWD, "d", unix.RENAME_EXCHANGE), unix.Renameat2(unix.AT_FDCWD, "f", unix.AT_FDCWD, "d", unix.RENAME_EXCHANGE))
	fmt.Println("no replace:", unix.Renameat2(unix.AT_FDCWD, "f", unix.AT_FDCWD, "reg", unix.RENAME_NOREPLACE))
	fmt.Println("bad flags:", unix.Renameat2(unix.AT_FDCWD, "f", unix.AT_FDCWD, "reg", 1<<20))
	for _, c := range []struct {
		p string
		n int64
	}{{"f", 3}, {"tof", 2}, {"d", 0}, {"none", 0}, {"fifo", 0}, {"f", -1}, {"/etc/hostname", 0}, {"f/x", 1}, {"f", 1 << 62}} {
		fmt.Printf("truncate %v: %v\n", c, unix.Truncate(c.p, c.n))
	}
	for i, how := range []unix.OpenHow{{Flags: unix.O_CREAT | unix.O_RDWR, Mode: 0o644}, {Flags: unix.O_RDWR, Mode: 0o644}, {Flags: 1 << 40}, {Flags: unix.O_RDWR, Resolve: unix.RESOLVE_BENEATH},
		{Flags: unix.O_RDWR, Resolve: unix.RESOLVE_NO_SYMLINKS}, {Flags: unix.O_RDWR, Resolve: unix.RESOLVE_IN_ROOT}, {Flags: unix.O_RDWR, Resolve: 1 << 30}, {Flags: unix.O_RDONLY}} {
		for _, p := range []string{"tof", "d/../f", "../battery/f", cwd + "/f", "/f", "tod/rel", "none"} {
			fd, err := unix.Openat2(unix.AT_FDCWD, p, &how)
			fmt.Printf("openat2 %d %q: %v\n", i, short(strings.TrimPrefix(p, cwd)), err)
			if err == nil {
				unix.Close(fd)
			}
		}
	}
	var how [40]byte
	for _, size := range []uintptr{0, 8, 24, 32, 40, 5000} {
		_, _, e := unix.Syscall6(unix.SYS_OPENAT2, ^uintptr(99), uintptr(unsafe.Pointer(plainName("f"))), uintptr(unsafe.Pointer(&how)), size, 0, 0)
		fmt.Println("openat2 of size", size, e != 0, e == unix.EINVAL, e == unix.E2BIG)
		how[39] = 1
	}
	_, _, e := unix.Syscall(unix.SYS_MKDIRAT, ^uintptr(99), 8, 0o755)
	fmt.Println("a name nowhere:", e)
	bound()
	for _, c := range []struct {
		p     string
		flags int
	}{{"f", 0}, {"f", 0}, {"d", 0}, {"d", unix.AT_REMOVEDIR}, {"m4", unix.AT_REMOVEDIR}, {"tod/", 0}, {"reg", unix.AT_REMOVEDIR}, {".", unix.AT_REMOVEDIR}, {"..", unix.AT_REMOVEDIR}, {"tof", 0}, {"loop", 0}, {"/etc/hostname", 0}, {"none", 0}, {"", 0}, {"reg", 1}} {
		fmt.Printf("unlink %v: %v\n", c, unix.Unlinkat(unix.AT_FDCWD, c.p, c.flags))
	}
	unix.Rmdir(cwd + "/m2")
	os.Mkdir("gone", 0o755)
	os.Chdir("gone")
	os.Remove(cwd + "/gone")
	open(unix.AT_FDCWD, "x", unix.O_CREAT|unix.O_WRONLY, 0o644)
	os.Chdir("/")
	os.RemoveAll(cwd)
	_, err := os.Lstat(cwd)
	fmt.Println("removed:", os.IsNotExist(err))
}

// bound binds sockets and says what they are called.
func bound() {
	s := func(family int) int {
		fd, _ := unix.Socket(family, unix.SOCK_STREAM, 0)
		return fd
	}
	for _, p := range []string{"sock", "sock", "d/sock", "none/sock", "@abstract", "/etc/sock", "/tmp/sock", "tod/s2"} {
		fd := s(unix.AF_UNIX)
		err := unix.Bind(fd, &unix.SockaddrUnix{Name: p})
		name, _ := unix.Getsockname(fd)
		fmt.Printf("bind %q: %v %+v\n", p, err, name)
		if err == nil && p[0] != '@' {
			fmt.Println(unix.Listen(fd, 1), unix.Connect(s(unix.AF_UNIX), &unix.SockaddrUnix{Name: p}))
		}
		unix.Close(fd)
	}
	os.Remove("/tmp/sock")
	fd := s(unix.AF_INET)
	fmt.Println("bind to a port:", unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 1))
	fmt.Println("bind to a foreign address:", unix.Bind(s(unix.AF_INET), &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 1}}))
	fmt.Println("bind no socket:", unix.Bind(0, &unix.SockaddrInet4{}), unix.Bind(999, &unix.SockaddrInet4{}))
}

func short(p string) string {
	if len(p) > 60 {
		return p[:20] + "..."
	}
	return p
}
