package serve

import "golang.org/x/sys/unix"

// refuseNew has the kernel ignore new connections to a TCP listener, without an answer:
// whoever tries repeats it, and is refused once the listener is closed. A filter sees the
// packets of a listener from the TCP header on; connections made before it go on.
func refuseNew(l waiting) {
	raw, err := l.SyscallConn()
	if err != nil {
		return
	}
	const flags, syn, ack = 13, 0x02, 0x10
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: flags},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: syn | ack},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: syn, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
	}
	_ = raw.Control(func(fd uintptr) {
		// Where there are no filters (gVisor) a moment stays in which a connection is lost.
		_ = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	})
}
