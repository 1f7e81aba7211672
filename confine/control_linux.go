package confine

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// answer codes an errno and a number for one request.
func (s *initState) answer(req uint32, err error, value int, fds ...int) {
	m := newFrame(evAnswer)
	m.u32(req)
	m.u32(uint32(errnoOf(err)))
	m.num(value)
	m.str("")
	s.send(m, fds...)
}

// answerData sends what one number cannot say.
func (s *initState) answerData(req uint32, data []byte) {
	m := newFrame(evAnswer)
	m.u32(req)
	m.u32(0)
	m.num(0)
	m.str(string(data))
	s.send(m)
}

// control serves what needs init's rights but not the spawner's thread. It runs
// on one goroutine, so requests are answered in order.
func (s *initState) control(f *frame) {
	defer f.close()
	req := f.u32()
	switch f.op {
	case opSignal:
		id, sig := f.u32(), unix.Signal(f.u32())
		if f.done() != nil {
			s.answer(req, unix.EBADMSG, 0)
			return
		}
		c := s.reaper.lookup(id)
		if c == nil {
			s.answer(req, unix.ESRCH, 0)
			return
		}
		gone := 0
		if s.signalTree(c, sig) {
			gone = 1
		}
		s.answer(req, nil, gone)
	case opTree:
		c := s.reaper.lookup(f.u32())
		if c == nil {
			s.answer(req, unix.ESRCH, 0)
			return
		}
		s.answer(req, nil, len(s.living(c)))
	case opInput:
		c := s.reaper.lookup(f.u32())
		if c == nil {
			s.answer(req, unix.ESRCH, 0)
			return
		}
		s.answer(req, nil, int(s.input(c)))
	case opFamily:
		c := s.reaper.lookup(f.u32())
		if c == nil {
			s.answer(req, unix.ESRCH, 0)
			return
		}
		s.answerData(req, s.encodeFamily(c))
	case opListening:
		n := 0
		if s.listening(f.u16()) {
			n = 1
		}
		s.answer(req, nil, n)
	case opOwner:
		network, at := f.str(), f.str()
		if f.done() != nil {
			s.answer(req, unix.EBADMSG, 0)
			return
		}
		where, _ := netip.ParseAddrPort(at)
		s.answer(req, nil, s.owner(network, where))
	case opTmpLeft:
		left, err := tmpLeft()
		s.answer(req, err, left)
	case opGit:
		s.answer(req, s.renewGit(f.flag()), 0)
	case opListen:
		s.listen(req, f)
	case opSocket:
		s.socket(req)
	}
}
