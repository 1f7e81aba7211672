package confine

import (
	"encoding/binary"
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// The server and init speak length-prefixed binary frames over one SOCK_STREAM
// socket pair; descriptors travel as SCM_RIGHTS on the first byte of the frame
// that owns them. JSON would mangle arguments that are not UTF-8, and SEQPACKET
// has a message size limit below the size of an ordinary environment.
//
//	frame: length uint32 (of op and payload) | descriptors uint8 | op uint8 | payload
//
// All integers are little endian.

const (
	frameHeader = 5
	// maxFrame bounds what either side buffers for the other: twice the kernel's
	// usual limit for arguments and environment together.
	maxFrame = 4 << 20
	// maxFrameFDs is below SCM_MAX_FD; the largest user is a command's four.
	maxFrameFDs = 8
)

// Requests of the server.
const (
	opConfig uint8 = iota + 1
	opBase         // what to build before the configuration comes
	opMounts       // trees the frame that follows names by index
	opSpawn
	opSignal
	opTree
	opListen
	opSocket
	opInput
	opFamily
	opListening
	opOwner
	opTmpLeft
	opGit // take the overlays of git directories away, or put them back
	opFork
)

// Answers and events of init.
const (
	evReady uint8 = iota + 64
	evBase
	evFailed
	evStarted
	evRefused
	evExit
	evAnswer
	evDenied
)

var errWire = errors.New("confine: malformed frame")

// encoder appends values to a frame's payload.
type encoder struct{ b []byte }

func newFrame(op uint8) *encoder {
	return &encoder{b: append(make([]byte, frameHeader, 512), op)}
}

func (e *encoder) u8(v uint8)   { e.b = append(e.b, v) }
func (e *encoder) u16(v uint16) { e.b = binary.LittleEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32) { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64) { e.b = binary.LittleEndian.AppendUint64(e.b, v) }
func (e *encoder) num(v int)    { e.u64(uint64(int64(v))) }
func (e *encoder) str(s string) { e.u32(uint32(len(s))); e.b = append(e.b, s...) }

func (e *encoder) flag(v bool) {
	if v {
		e.u8(1)
	} else {
		e.u8(0)
	}
}

func (e *encoder) strs(ss []string) {
	e.u32(uint32(len(ss)))
	for _, s := range ss {
		e.str(s)
	}
}

// finish fills the header in.
func (e *encoder) finish(fds int) ([]byte, error) {
	if len(e.b)-frameHeader > maxFrame || fds > maxFrameFDs {
		return nil, unix.E2BIG
	}
	binary.LittleEndian.PutUint32(e.b, uint32(len(e.b)-frameHeader))
	e.b[4] = uint8(fds)
	return e.b, nil
}

// decoder takes values off a payload. After the first short read everything is
// zero and err is set, so callers check once at the end.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n < 0 || n > len(d.b) {
		d.err = errWire
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) u8() uint8 {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if v := d.take(2); v != nil {
		return binary.LittleEndian.Uint16(v)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if v := d.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if v := d.take(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) num() int   { return int(int64(d.u64())) }
func (d *decoder) flag() bool { return d.u8() != 0 }

func (d *decoder) str() string {
	n := d.u32()
	if n > maxFrame {
		d.err = errWire
		return ""
	}
	return string(d.take(int(n)))
}

// count reads a list's length. Every element takes at least min bytes, so a
// length the payload cannot hold is refused before anything is allocated.
func (d *decoder) count(min int) int {
	n := d.u32()
	if uint64(n)*uint64(min) > uint64(len(d.b)) {
		d.err = errWire
		return 0
	}
	return int(n)
}

func (d *decoder) strs() []string {
	n := d.count(4)
	if n == 0 {
		return nil
	}
	ss := make([]string, n)
	for i := range ss {
		ss[i] = d.str()
	}
	return ss
}

// done reports the first error, or that bytes are left over.
func (d *decoder) done() error {
	if d.err == nil && len(d.b) != 0 {
		d.err = errWire
	}
	return d.err
}

// frame is one received message. Whoever takes it owns fds.
type frame struct {
	op  uint8
	fds []int
	decoder
}

func (f *frame) close() {
	for _, fd := range f.fds {
		unix.Close(fd)
	}
	f.fds = nil
}

// recvFunc is recvmsg(2) on one socket.
type recvFunc func(p, oob []byte) (n, oobn, flags int, err error)

// frameReader reassembles frames. One recvmsg may end with the bytes that carry
// the next frame's descriptors, so descriptors are queued in arrival order and
// handed out by the count each header states.
type frameReader struct {
	recv recvFunc
	buf  []byte // received, not yet parsed
	fds  []int
	in   []byte
	oob  []byte
}

func newFrameReader(recv recvFunc) *frameReader {
	return &frameReader{recv: recv, in: make([]byte, 4<<10), oob: make([]byte, unix.CmsgSpace(4*maxFrameFDs))}
}

// next returns the next frame; io.EOF when the peer is gone between frames. The
// payload stays valid until the following call.
func (r *frameReader) next() (frame, error) {
	need := frameHeader
	for {
		if len(r.buf) >= frameHeader {
			n := binary.LittleEndian.Uint32(r.buf)
			if n == 0 || n > maxFrame || int(r.buf[4]) > maxFrameFDs {
				return frame{}, errWire
			}
			need = frameHeader + int(n)
		}
		if len(r.buf) >= need && need > frameHeader {
			break
		}
		if err := r.fill(); err != nil {
			if err == io.EOF && len(r.buf) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return frame{}, err
		}
	}
	f := frame{op: r.buf[frameHeader], decoder: decoder{b: r.buf[frameHeader+1 : need : need]}}
	n := int(r.buf[4])
	if n > len(r.fds) {
		return frame{}, errWire
	}
	f.fds = append([]int(nil), r.fds[:n]...)
	r.fds = append(r.fds[:0], r.fds[n:]...)
	r.buf = r.buf[need:]
	return f, nil
}

func (r *frameReader) fill() error {
	n, oobn, flags, err := r.recv(r.in, r.oob)
	if err != nil {
		return err
	}
	if oobn > 0 {
		msgs, err := unix.ParseSocketControlMessage(r.oob[:oobn])
		if err != nil {
			return errWire
		}
		for i := range msgs {
			fds, err := unix.ParseUnixRights(&msgs[i])
			if err != nil {
				return errWire
			}
			r.fds = append(r.fds, fds...)
		}
	}
	// A truncated control message has lost descriptors: nothing after it can be
	// attributed, so the stream is over.
	if flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0 || len(r.fds) > 16*maxFrameFDs {
		return errWire
	}
	if n == 0 {
		return io.EOF
	}
	r.buf = append(r.buf, r.in[:n]...)
	return nil
}

// close drops descriptors of frames nobody will read.
func (r *frameReader) close() {
	for _, fd := range r.fds {
		unix.Close(fd)
	}
	r.fds = nil
}

// sendFrame writes one frame through send, which is sendmsg(2) on one socket.
// The caller serialises frames; it keeps ownership of fds.
func sendFrame(send func(p, oob []byte) (int, error), e *encoder, fds ...int) error {
	b, err := e.finish(len(fds))
	if err != nil {
		return err
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	for len(b) > 0 {
		n, err := send(b, oob)
		if err != nil {
			return err
		}
		b, oob = b[n:], nil
	}
	return nil
}

// rawRecv and rawSend are the blocking calls init uses on its own thread.
func rawRecv(fd int) recvFunc {
	return func(p, oob []byte) (int, int, int, error) {
		for {
			n, oobn, flags, _, err := unix.Recvmsg(fd, p, oob, unix.MSG_CMSG_CLOEXEC)
			if err != unix.EINTR {
				return n, oobn, flags, err
			}
		}
	}
}

func rawSend(fd int) func(p, oob []byte) (int, error) {
	return func(p, oob []byte) (int, error) {
		for {
			n, err := unix.SendmsgN(fd, p, oob, nil, unix.MSG_NOSIGNAL)
			if err != unix.EINTR {
				return n, err
			}
		}
	}
}
