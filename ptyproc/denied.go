package ptyproc

import (
	"bytes"
	"path"
	"strings"

	"mcp-sandbox/sandbox"
)

// takeDenied puts into r what the command was refused, and of it what the reply
// is to explain. reported says that an earlier reply told of the exit.
func (p *process) takeDenied(r *Result, reported bool) {
	c, ok := p.child.(sandbox.Denier)
	if !ok {
		return
	}
	r.Refused = c.Denied()
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting := append(p.denied, r.Refused...)
	p.denied = nil
	if len(waiting) == 0 {
		return
	}
	var named, rest, sockets []sandbox.Denial
	for _, d := range waiting {
		switch {
		case d.Kind == sandbox.DenialSocket:
			sockets = append(sockets, d)
		// A program tries a connection because it was asked for one.
		case d.Kind == sandbox.DenialNetwork, namedIn(d, r.Output), r.Stderr != nil && namedIn(d, r.Stderr.Text):
			named = append(named, d)
		case !incidental(d):
			rest = append(rest, d)
		}
	}
	defer func() { // with whatever else is told
		if r.Running {
			p.denied = append(p.denied, sockets...)
		} else {
			r.Denied = append(r.Denied, sockets...)
		}
	}()
	switch {
	case r.Running:
		// Whether the command fails for want of it shows at its end.
		r.Denied, p.denied = named, rest
	case reported || len(named) == 0 && r.Exit != nil && r.Exit.Code != 0:
		r.Denied = append(named, rest...)
	default:
		r.Denied = named
	}
}

// namedIn reports whether the output speaks of what was refused.
func namedIn(d sandbox.Denial, output []byte) bool {
	if bytes.Contains(output, []byte(d.Subject)) {
		return true
	}
	const shortest = 3 // a shorter name stands in any text
	base := path.Base(d.Subject)
	return strings.HasPrefix(d.Subject, "/") && len(base) >= shortest && bytes.Contains(output, []byte(base))
}

// incidental are writes that programs try on the way and do without: caches
// next to what they read. They are explained only when the output names them.
func incidental(d sandbox.Denial) bool {
	return d.Kind == sandbox.DenialOutside && (strings.Contains(d.Subject, "/__pycache__") || strings.HasSuffix(d.Subject, ".pyc"))
}
