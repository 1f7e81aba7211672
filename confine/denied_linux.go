package confine

// Denial is one act of a command that the sandbox refused.
type Denial struct {
	// Path is the name it would have changed, as the sandbox sees it.
	Path string
	// Reason is "protected".
	Reason string
}

const (
	// maxDenied bounds what is told of one command: a hostile one can be refused
	// without end.
	maxDenied = 64
	// maxDenials bounds what the server keeps for one sandbox.
	maxDenials = 1024
)

// denied tells the server of a refusal, before the caller hears of it.
func (s *initState) denied(who *caller, path, reason string) {
	dir, err := who.dir()
	if err != nil {
		return
	}
	id, ok := s.reaper.deniedTo(s.readMark(task{dir: dir}))
	if !ok {
		return
	}
	m := newFrame(evDenied)
	m.u32(id)
	m.str(path)
	m.str(reason)
	s.send(m)
}

// deniedTo counts a refusal of the command with a mark.
func (r *reaper) deniedTo(mark int) (id uint32, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.commands {
		if c.mark == mark {
			c.denied++
			return c.id, c.denied <= maxDenied
		}
	}
	return 0, false
}

// keepDenial notes a refusal until its process is asked.
func (s *Sandbox) keepDenial(id uint32, d Denial) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.denials == nil {
		s.denials = map[uint32][]Denial{}
	}
	if s.denied++; s.denied <= maxDenials {
		s.denials[id] = append(s.denials[id], d)
	}
}

// Denied returns what has been refused to the command and its children since it
// was last asked, at most 64 for one command. A refusal is known before the
// program hears of it.
func (p *Process) Denied() []Denial {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	d := p.s.denials[p.id]
	delete(p.s.denials, p.id)
	p.s.denied -= len(d)
	return d
}
