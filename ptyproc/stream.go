package ptyproc

// stream is one output of a process, in bounded memory until it is spooled. The
// process's lock guards it.
type stream struct {
	buf  outputBuffer
	text joiner
	// history is what replies have carried so far, for a spool that may yet
	// begin; history and buf together never exceed the buffer's bound.
	history []byte
	spool   *spool
	total   int64
	// asIs gives the bytes that were written, see StartRequest.Bytes.
	asIs bool
	// memoryOnly keeps nothing past what the buffer holds.
	memoryOnly bool
}

func newStream(t *Table) stream {
	return stream{buf: outputBuffer{headCap: t.o.HeadBytes, tailCap: t.o.TailBytes}}
}

// Output is what one stream of a process has written since the last reply.
type Output struct {
	// Text is valid UTF-8 in the order written, unless the bytes were asked for. A
	// character is never split over two replies.
	Text []byte
	// Dropped counts the bytes missing at offset Cut of Text, DroppedLines the
	// line feeds among them.
	Dropped      int64
	DroppedLines int64
	Cut          int
	// OutputID names the whole stream for ReadOutput, "" when the replies have it
	// all.
	OutputID string
}

func (s *stream) add(t *Table, b []byte) {
	s.keep(t, b)
	s.buf.append(b)
	s.total += int64(len(b))
}

// keep writes the whole output to disk from the moment that memory can no longer
// hold it: a file for every quick command would cost more than the command.
func (s *stream) keep(t *Table, b []byte) {
	if t.o.SpoolDir == "" || s.memoryOnly {
		return
	}
	if s.spool == nil {
		if s.total+int64(len(b)) <= int64(t.o.HeadBytes+t.o.TailBytes) {
			return
		}
		s.spool = t.spools.create()
		s.spool.write(s.history)
		s.spool.write(s.buf.head)
		s.spool.write(s.buf.tail)
		s.history = nil
	}
	s.spool.write(b)
}

// take moves everything unread out. last says that no more can come.
func (s *stream) take(t *Table, last bool) Output {
	r := Output{DroppedLines: s.buf.lines, OutputID: s.spoolID()}
	head, tail, dropped := s.buf.take()
	if s.spool == nil && t.o.SpoolDir != "" && !s.memoryOnly && !last {
		s.history = append(append(s.history, head...), tail...)
	}
	if s.asIs {
		r.Text, r.Dropped, r.Cut = append(append([]byte{}, head...), tail...), dropped, len(head)
		return r
	}
	out := make([]byte, 0, len(head)+len(tail)+len(s.text.pending))
	if dropped == 0 {
		out = s.text.next(out, head, len(tail) == 0 && last)
		if len(tail) > 0 {
			out = s.text.next(out, tail, last)
		}
	} else {
		// Halves of characters on both sides of the cut are part of the cut.
		out = s.text.next(out, head, false)
		dropped += int64(s.text.cut())
		r.Cut = len(out)
		skip := continuation(tail)
		dropped += int64(skip)
		out = s.text.next(out, tail[skip:], last)
	}
	r.Text, r.Dropped = out, dropped
	return r
}

func (s *stream) spoolID() string {
	if s.spool == nil {
		return ""
	}
	return s.spool.id
}

func (s *stream) unread() int64 { return int64(s.buf.len()) + s.buf.dropped }
