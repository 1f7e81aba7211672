package egress

import (
	"slices"
	"sync"
	"time"

	"mcp-sandbox/sandbox"
)

// maxDenials bounds what is remembered: names of denied hosts are the client's
// to invent.
const maxDenials = 256

// Denial is a refusal, as the model and the audit log are told it. All fields
// are safe to print: what could not be read as a host is quoted.
type Denial struct {
	Host   string
	Port   int    // 0 where it never became known
	Rule   string // the rule that decided or nearly matched, "" for none
	Reason string // a clause for people
	Flag   string // the setting that would allow it, "" where none would
	Limit  bool   // a limit was reached; Flag raises it
	Time   time.Time
	Count  int // how often in a row of the log; Time is the last
}

// String is one line: host:port, reason, and the flag that would allow it.
func (d Denial) String() string { return d.err().Error() }

func (d Denial) err() *sandbox.Error {
	e := endpoint{name: d.Host, port: uint16(d.Port)}
	where := d.Host
	if parsed, err := parseHost(d.Host); err == nil {
		parsed.port = e.port
		if e = parsed; d.Port != 0 {
			where = e.String()
		} else {
			where = e.bracketed()
		}
	}
	text := where + " is not allowed: " + d.Reason
	if d.Rule != "" {
		text += " (rule " + d.Rule + ")"
	}
	switch {
	case d.Limit:
		text += ", start the server with a larger " + d.Flag
	case d.Flag != "":
		text += ", start the server with " + d.Flag + " to allow it"
	default:
		text += ", no setting of this session allows it"
	}
	return sandbox.Errorf(codeNotAllowed, nil, "%s", text)
}

type denialLog struct {
	mu    sync.Mutex
	total int64
	last  []Denial // by Time
}

func (l *denialLog) add(d Denial) Denial {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total++
	d.Count = 1
	same := func(o Denial) bool {
		return o.Host == d.Host && o.Port == d.Port && o.Rule == d.Rule && o.Reason == d.Reason
	}
	if i := slices.IndexFunc(l.last, same); i >= 0 {
		d.Count += l.last[i].Count
		l.last = slices.Delete(l.last, i, i+1)
	} else if len(l.last) == maxDenials {
		l.last = slices.Delete(l.last, 0, 1)
	}
	l.last = append(l.last, d)
	return d
}

func (l *denialLog) count() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// Denials gives the denials at or after since, oldest first. Equal ones are one
// entry with a count; the latest 256 are kept.
func (p *Proxy) Denials(since time.Time) []Denial {
	p.denials.mu.Lock()
	defer p.denials.mu.Unlock()
	var out []Denial
	for _, d := range p.denials.last {
		if !d.Time.Before(since) {
			out = append(out, d)
		}
	}
	return out
}

// deny records a refusal and gives the error the client is told.
func (p *Proxy) deny(host string, port uint16, d Decision) *sandbox.Error {
	n := Denial{Host: host, Port: int(port), Rule: d.Rule, Reason: d.Reason, Flag: d.flag, Limit: d.limit}
	n.Time = time.Now()
	n = p.denials.add(n)
	p.o.Log.Info("egress: denied", "host", n.Host, "port", n.Port, "rule", n.Rule, "reason", n.Reason)
	if p.o.OnDenial != nil {
		p.o.OnDenial(n)
	}
	return n.err()
}

func (p *Proxy) denyEndpoint(e endpoint, d Decision) *sandbox.Error {
	return p.deny(e.host(), e.port, d)
}

// denyText is for a host that could not be read.
func (p *Proxy) denyText(host string, err error) *sandbox.Error {
	return p.deny(quoteHost(host), 0, Decision{Reason: err.Error()})
}
