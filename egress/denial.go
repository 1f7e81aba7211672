package egress

import (
	"net"
	"net/netip"
	"time"

	"mcp-sandbox/sandbox"
)

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
	// From is the client's end of the connection or of the look-up that was refused,
	// as the session's network knows it.
	From net.Addr
	// unheard says that rules allow it, and only the way is missing.
	unheard bool
}

// String is one line: host:port, reason, and the flag that would allow it.
func (d Denial) String() string { return d.err().Error() }

// where is the host, with its port where that is known.
func (d Denial) where() string {
	e, err := parseHost(d.Host)
	switch e.port = uint16(d.Port); {
	case err != nil:
		return d.Host
	case d.Port != 0:
		return e.String()
	}
	return e.bracketed()
}

func (d Denial) err() *sandbox.Error {
	where := d.where()
	if d.unheard {
		return sandbox.Errorf(codeNotAllowed, nil, "%s cannot be reached without the proxy: %s; use a program that reads http_proxy and https_proxy", where, d.Reason)
	}
	text := where + " is not allowed: " + d.Reason
	if d.Rule != "" {
		text += " (rule " + d.Rule + ")"
	}
	switch {
	case d.Limit:
		text += "; start the server with a larger " + d.Flag
	case d.Flag != "" && d.Port == 0: // a look-up, which tells no port
		text += "; start the server with " + d.Flag + " to allow its ports 80 and 443, or with " + where + ":PORT for another"
	case d.Flag != "":
		text += "; start the server with " + d.Flag + " to allow it"
	default:
		text += ", no setting of this session allows it"
	}
	return sandbox.Errorf(codeNotAllowed, nil, "%s", text)
}

// deny records a refusal and gives the error the client is told. It is known before
// the client hears of it.
func (p *Proxy) deny(from net.Addr, host string, port uint16, d Decision) *sandbox.Error {
	n := Denial{From: from, Host: host, Port: int(port), Rule: d.Rule, Reason: d.Reason, Flag: d.flag, Limit: d.limit}
	n.Time = time.Now()
	p.o.Log.Info("egress: denied", "host", n.Host, "port", n.Port, "rule", n.Rule, "reason", n.Reason)
	if p.o.OnDenial != nil {
		p.o.OnDenial(n)
	}
	return n.err()
}

func (p *Proxy) denyEndpoint(from net.Addr, e endpoint, d Decision) *sandbox.Error {
	return p.deny(from, e.host(), e.port, d)
}

// RefuseUnheard records the refusal of a connection that nothing listened for, as at
// a port that no rule names, and says why. OnDenial is not told.
func (p *Proxy) RefuseUnheard(to netip.AddrPort) Denial {
	e := p.names.endpoint(to)
	d := p.decide(p.Policy(), e)
	if d.Allowed {
		d.Reason = "this host gives sessions no gate"
		if to.Addr().Is6() && !p.o.IPv6 {
			d.Reason = "this host gives sessions no IPv6"
		}
	}
	n := Denial{unheard: d.Allowed, Host: e.host(), Port: int(e.port), Rule: d.Rule, Reason: d.Reason, Flag: d.flag, Limit: d.limit, Time: time.Now()}
	p.o.Log.Info("egress: denied", "host", n.Host, "port", n.Port, "rule", n.Rule, "reason", n.Reason)
	return n
}

// denyText is for a host that could not be read.
func (p *Proxy) denyText(from net.Addr, host string, err error) *sandbox.Error {
	return p.deny(from, quoteHost(host), 0, Decision{Reason: err.Error()})
}
